from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path, re_path

from evoapi.asgi import application as evoapi


class Echo(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content, **kwargs):
        await self.send_json({"echo": content})


application = ProtocolTypeRouter(
    {
        "http": evoapi,
        "websocket": URLRouter([re_path(r"^socket\.io/?", evoapi), path("echo/", Echo.as_asgi())]),
        "lifespan": evoapi,  # without it no event is emitted
    }
)
