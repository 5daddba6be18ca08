from django.urls import path

from instances.api import instances
from instances.ingress import webhooks

urlpatterns = [
    path("", instances.Welcome.as_view()),
    path("verify-creds", instances.VerifyCreds.as_view()),
    path("instance/create", instances.CreateInstance.as_view()),
    path("instance/fetchInstances", instances.FetchInstances.as_view()),
    path("instance/connectionState/<str:name>", instances.ConnectionState.as_view()),
    path("instance/rotateToken/<str:name>", instances.RotateToken.as_view()),
    path("instance/delete/<str:name>", instances.DeleteInstance.as_view()),
    path("websocket/set/<str:name>", instances.SetWebsocket.as_view()),
    path("websocket/find/<str:name>", instances.FindWebsocket.as_view()),
    path("websocket/token/<str:name>", instances.MintToken.as_view()),
    path("webhook/set/<str:name>", instances.SetWebhook.as_view()),
    path("webhook/find/<str:name>", instances.FindWebhook.as_view()),
    path("rabbitmq/set/<str:name>", instances.SetRabbitMQ.as_view()),
    path("rabbitmq/find/<str:name>", instances.FindRabbitMQ.as_view()),
    path("message/sendText/<str:name>", instances.SendText.as_view()),
    path("webhook/evolution", webhooks.EvolutionDoor.as_view()),
    path("webhook/meta", webhooks.MetaView.as_view()),
]
