from django.urls import path

from realtime.pages.documents import views

app_name = "documents"
urlpatterns = [
    path("", views.index, name="index"),
    path("search.json", views.search, name="search"),
    path("openapi.json", views.openapi, name="openapi"),
]
