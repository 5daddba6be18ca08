from django.urls import path

from realtime import views

urlpatterns = [
    path("event/publish/<str:name>", views.PublishEvents.as_view()),
    path("event/find/<str:name>", views.FindEvents.as_view()),
]
