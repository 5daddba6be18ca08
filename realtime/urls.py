from django.urls import path

from realtime import delivery_views, doors, views, webhook_views

urlpatterns = [
    path("event/publish/<str:name>", doors.PublishDoor.as_view()),
    path("event/find/<str:name>", views.FindEvents.as_view()),
    path("webhook/endpoints/<str:name>", webhook_views.Endpoints.as_view()),
    path("webhook/endpoints/<str:name>/<str:pk>", webhook_views.Endpoint.as_view()),
    path("webhook/deliveries/<str:name>", delivery_views.Deliveries.as_view()),
    path("webhook/deliveries/<str:name>/resend", delivery_views.Resend.as_view()),
    path("webhook/deliveries/<str:name>/<str:pk>", delivery_views.OneDelivery.as_view()),
    path("webhook/deliveries/<str:name>/<str:pk>/resend", delivery_views.ResendOne.as_view()),
    path("webhook/test/<str:name>", delivery_views.SendTest.as_view()),
    path("webhook/why/<str:name>/<str:reference>", delivery_views.Why.as_view()),
]
