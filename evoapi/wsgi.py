"""The WSGI application: Django's views and the static files of its admin."""

import os

from django.core.handlers.wsgi import WSGIRequest
from django.core.wsgi import get_wsgi_application
from servestatic import ServeStatic

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evoapi.settings")
django_application = get_wsgi_application()
application = ServeStatic(django_application, allow_all_origins=False)  # the gate adds the headers of CORS_ORIGIN

from django.conf import settings  # noqa: E402 (needs Django to be set up)
from django.contrib.staticfiles.finders import get_finders  # noqa: E402

from instances.access.gate import is_allowed_host  # noqa: E402


class Request(WSGIRequest):
    """Django's request; its host may have underscores, as `evolution_api` of Evolution API's Docker Compose file."""

    def get_host(self) -> str:
        host: str = self.META.get("HTTP_HOST", "")
        return host if "_" in host and is_allowed_host(host) else super().get_host()


django_application.request_class = Request

# not by ServeStatic's middleware, which is asynchronous: it would cost every request two more switches of threads
found = dict.fromkeys(storage.location for finder in get_finders() for _, storage in finder.list([]))
for location in reversed(found):  # the last of two files with one name wins; Django's finders prefer the first
    application.add_files(location, prefix=settings.STATIC_URL)
