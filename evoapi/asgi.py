"""`uvicorn evoapi.asgi:application`: Socket.IO on the event loop, Django's views in threads beside it."""

import os
from typing import Any, cast

from a2wsgi import WSGIMiddleware
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evoapi.settings")
django_application = cast(Any, get_wsgi_application())

from instances.limits import BodyLimit  # noqa: E402 (needs Django to be set up)
from realtime.asgi import SocketIO  # noqa: E402

quick: Any = WSGIMiddleware(django_application, workers=8)
#: Routes that wait for WhatsApp: however long it hangs, the others have their threads.
waiting: Any = WSGIMiddleware(django_application, workers=64)


async def in_threads(scope: Any, receive: Any, send: Any) -> None:
    await (waiting if scope["path"].startswith("/message/") else quick)(scope, receive, send)


application = SocketIO(BodyLimit(in_threads))
