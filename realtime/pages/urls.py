"""URLs under /console/."""

from django.urls import include, path

urlpatterns = [
    path("inbox/", include("realtime.pages.inbox.urls")),  # first: an instance may be called "inbox"
    path("", include("realtime.pages.console.urls")),
]
