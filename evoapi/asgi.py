"""The ASGI application (`uvicorn evoapi.asgi:application`): Socket.IO on the event loop, Django's views in threads."""

from evoapi.wsgi import application as django_application  # first: it sets Django up

# isort: split
from evoapi.threads import ThreadedWsgi
from instances.asgi import Receive, Scope, Send
from instances.ingress.asgi import IngressRouter
from instances.ingress.body_limit import BodyLimit
from instances.ingress.webhooks import EvolutionIngress, MetaIngress
from realtime.api.publish import PublishIngress
from realtime.asgi import SocketIO

views = ThreadedWsgi(django_application, 8)
#: Views that wait for WhatsApp, in threads of their own: however long it takes, the other views have theirs.
sending_views = ThreadedWsgi(django_application, 64)


async def in_threads(scope: Scope, receive: Receive, send: Send) -> None:
    await (sending_views if scope["path"].startswith("/message/") else views)(scope, receive, send)


application = SocketIO(BodyLimit(IngressRouter([EvolutionIngress(), MetaIngress(), PublishIngress()], in_threads)))
