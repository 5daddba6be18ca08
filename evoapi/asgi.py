"""`uvicorn evoapi.asgi:application`: Socket.IO on the event loop, Django's views in threads beside it."""

import os
from typing import Any, cast

from a2wsgi import WSGIMiddleware
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evoapi.settings")
django_application = get_wsgi_application()

from instances.limits import BodyLimit  # noqa: E402 (needs Django to be set up)
from realtime.asgi import SocketIO  # noqa: E402

in_threads: Any = WSGIMiddleware(cast(Any, django_application), workers=8)
application = SocketIO(BodyLimit(in_threads))
