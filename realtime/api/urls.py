from django.urls import path

from instances.ingress.view import IngressView
from realtime.api import deliveries, endpoints, events, publish, stream

urlpatterns = [
    path("event/publish/<str:name>", IngressView.as_view(endpoint=publish.PublishIngress())),
    path("event/find/<str:name>", events.FindEvents.as_view()),
    path("event/stream/<str:name>", stream.EventStreamView.as_view()),
    path("webhook/endpoints/<str:name>", endpoints.EndpointsView.as_view()),
    path("webhook/endpoints/<str:name>/<str:pk>", endpoints.EndpointView.as_view()),
    path("webhook/deliveries/<str:name>", deliveries.Deliveries.as_view()),
    path("webhook/deliveries/<str:name>/resend", deliveries.Resend.as_view()),
    path("webhook/deliveries/<str:name>/<str:pk>", deliveries.OneDelivery.as_view()),
    path("webhook/deliveries/<str:name>/<str:pk>/resend", deliveries.ResendOne.as_view()),
    path("webhook/test/<str:name>", deliveries.SendTest.as_view()),
    path("webhook/why/<str:name>/<str:reference>", deliveries.Why.as_view()),
]
