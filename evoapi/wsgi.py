"""The WSGI application: Django's views and the static files of its admin."""

import os

from django.core.wsgi import get_wsgi_application
from servestatic import ServeStatic

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evoapi.settings")
application = ServeStatic(get_wsgi_application())

from django.conf import settings  # noqa: E402 (needs Django to be set up)
from django.contrib.staticfiles.finders import get_finders  # noqa: E402

# not by ServeStatic's middleware, which is asynchronous: it would cost every request two more switches of threads
found = dict.fromkeys(storage.location for finder in get_finders() for _, storage in finder.list([]))
for location in reversed(found):  # the last of two files with one name wins; Django's finders prefer the first
    application.add_files(location, prefix=settings.STATIC_URL)
