from django.urls import path

from realtime.pages.documents import views

app_name = "documents"
urlpatterns = [
    path("", views.index, name="index"),
    path("search.json", views.search, name="search"),
    path("events/", views.events, name="events"),
    path("events/<str:name>", views.event, name="event"),
    path("rest/", views.rest, name="rest"),
    path("rest/<str:name>", views.rest_group, name="rest_group"),
    path("guides/<slug:name>/", views.guide, name="guide"),
    path("openapi.json", views.openapi, name="openapi"),
    path("asyncapi.json", views.asyncapi, name="asyncapi"),
    path("schemas/<str:name>.json", views.schema, name="schema"),
]
