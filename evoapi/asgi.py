"""The ASGI application (`uvicorn evoapi.asgi:application`): Socket.IO on the event loop, Django's views in threads."""

from evoapi.wsgi import application as django_application  # first: it sets Django up

# isort: split
import re

from django.conf import settings
from django.urls import reverse

from evoapi.manager import Dashboard
from evoapi.threads import ThreadedWsgi
from instances.access.log_in import LogInGate, PasswordGate
from instances.api import cloud_chats, templates
from instances.asgi import Application, Receive, Scope, Send
from instances.bounds import PASSWORD_HASHES, REST_THREADS, SENDING_THREADS
from instances.ingress.admission import Admission
from instances.ingress.asgi import IngressRouter
from instances.ingress.body_limit import BodyLimit
from instances.providers import ingress_endpoints
from realtime.api.publish import PublishIngress
from realtime.asgi import SocketIO
from realtime.inbox.receiver import InboxReceiver

views = ThreadedWsgi(django_application, REST_THREADS)
#: Views that wait for WhatsApp, in threads of their own: however long it takes, the other views have theirs.
sending_views = ThreadedWsgi(django_application, SENDING_THREADS)
#: Views that hash passwords, too: log-ins, and apart from those what sets new passwords and needs a session.
log_in = LogInGate(ThreadedWsgi(django_application, 2 * PASSWORD_HASHES))
new_password = PasswordGate(ThreadedWsgi(django_application, 2 * PASSWORD_HASHES))

LOG_IN_PATH = reverse("admin:login")
NEW_PASSWORD_PATHS = re.compile(
    f"{reverse('admin:password_change')}|{reverse('admin:auth_user_changelist')}(add|.+/password)/"
)
#: Beginnings of the paths whose views wait for WhatsApp.
WAITING_PATHS = ("/message/", *(f"/{route}/" for route in (*cloud_chats.VIEWS, *templates.VIEWS)))
#: The admin's form that sends a message, with the instance's id.
TEST_MESSAGE_PATHS = re.compile(f"{reverse('admin:instances_instance_changelist')}[^/]+/test-message/")


async def in_threads(scope: Scope, receive: Receive, send: Send) -> None:
    await _threads_for(scope["method"].upper(), scope["path"])(scope, receive, send)


def _threads_for(method: str, path: str) -> Application:
    if path.startswith(WAITING_PATHS) or (method == "POST" and TEST_MESSAGE_PATHS.fullmatch(path)):
        return sending_views
    if method == "POST" and path == LOG_IN_PATH:
        return log_in
    if method == "POST" and NEW_PASSWORD_PATHS.fullmatch(path):
        return new_password
    return views


manager = settings.EVOLUTION_MANAGER_DIR
others: Application = Dashboard(manager, in_threads) if manager else in_threads
router = IngressRouter([*ingress_endpoints(), PublishIngress()], others)
application = SocketIO(InboxReceiver(BodyLimit(router, Admission(router))))
