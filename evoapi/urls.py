from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from evoapi.openapi import openapi

urlpatterns = [
    path("admin/", admin.site.urls),
    path("console", RedirectView.as_view(pattern_name="console:index")),
    path("console/", include("realtime.pages.urls")),
    path("docs", RedirectView.as_view(pattern_name="documents:index")),
    path("docs/", include("realtime.pages.documents.urls")),
    path("openapi.json", openapi),
    path("", include("realtime.api.urls")),
    path("", include("instances.urls")),
]

handler400 = "instances.errors.bad_request"
handler404 = "instances.errors.not_found"
handler500 = "instances.errors.server_error"
