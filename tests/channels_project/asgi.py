from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path, re_path

django = get_asgi_application()

from realtime.asgi import SocketIO  # noqa: E402 (needs Django to be set up)

socketio = SocketIO()


class Echo(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content, **kwargs):
        await self.send_json({"echo": content})


application = ProtocolTypeRouter(
    {
        "http": URLRouter([re_path(r"^socket\.io/?", socketio), re_path("", django)]),
        "websocket": URLRouter([re_path(r"^socket\.io/?", socketio), path("echo/", Echo.as_asgi())]),
        "lifespan": socketio,  # without it nothing is told
    }
)
