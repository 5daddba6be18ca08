from django.urls import path

from realtime.pages.inbox import requests, views

urlpatterns = [
    path("", views.index, name="inbox"),
    path("new/", views.create, name="inbox-new"),
    path("<int:pk>/", views.detail, name="inbox-detail"),
    path("<int:pk>/delete/", views.delete, name="inbox-delete"),
    path("<int:pk>/secret/", views.secret, name="inbox-secret"),
    path("<int:pk>/send-here/", views.send_here, name="inbox-send-here"),
    path("<int:pk>/requests/", requests.request_list, name="inbox-requests"),
    path("<int:pk>/requests/<int:request_pk>/", requests.request_detail, name="inbox-request"),
]
