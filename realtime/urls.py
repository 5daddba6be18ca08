from django.urls import path

from realtime import doors, views

urlpatterns = [
    path("event/publish/<str:name>", doors.PublishDoor.as_view()),
    path("event/find/<str:name>", views.FindEvents.as_view()),
]
