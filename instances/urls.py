from django.urls import path

from instances import views, webhooks

urlpatterns = [
    path("", views.Welcome.as_view()),
    path("verify-creds", views.VerifyCreds.as_view()),
    path("instance/create", views.CreateInstance.as_view()),
    path("instance/fetchInstances", views.FetchInstances.as_view()),
    path("instance/connectionState/<str:name>", views.ConnectionState.as_view()),
    path("instance/rotateToken/<str:name>", views.RotateToken.as_view()),
    path("instance/delete/<str:name>", views.DeleteInstance.as_view()),
    path("websocket/set/<str:name>", views.SetWebsocket.as_view()),
    path("websocket/find/<str:name>", views.FindWebsocket.as_view()),
    path("websocket/token/<str:name>", views.MintToken.as_view()),
    path("webhook/set/<str:name>", views.SetWebhook.as_view()),
    path("webhook/find/<str:name>", views.FindWebhook.as_view()),
    path("rabbitmq/set/<str:name>", views.SetRabbitMQ.as_view()),
    path("rabbitmq/find/<str:name>", views.FindRabbitMQ.as_view()),
    path("message/sendText/<str:name>", views.SendText.as_view()),
    path("webhook/evolution", webhooks.EvolutionDoor.as_view()),
    path("webhook/meta", views.MetaWebhook.as_view()),
]
