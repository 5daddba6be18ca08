"""`uvicorn evoapi.asgi:application`: Socket.IO on the event loop, Django's views in threads beside it."""

from typing import Any

from evoapi.wsgi import application as django_application  # first: it sets Django up

# isort: split
from evoapi.threads import ThreadedWsgi
from instances.ingress.asgi import IngressRouter
from instances.ingress.body_limit import BodyLimit
from instances.ingress.webhooks import EvolutionIngress, MetaIngress
from realtime.api.publish import PublishIngress
from realtime.asgi import SocketIO

quick = ThreadedWsgi(django_application, 8)
#: Routes that wait for WhatsApp: however long it hangs, the others have their threads.
waiting = ThreadedWsgi(django_application, 64)


async def in_threads(scope: Any, receive: Any, send: Any) -> None:
    await (waiting if scope["path"].startswith("/message/") else quick)(scope, receive, send)


application = SocketIO(BodyLimit(IngressRouter([EvolutionIngress(), MetaIngress(), PublishIngress()], in_threads)))
