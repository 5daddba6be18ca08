"""Django's views and the files of its admin, as WSGI."""

import os

from django.core.wsgi import get_wsgi_application
from servestatic import ServeStatic

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evoapi.settings")
application = ServeStatic(get_wsgi_application())

from django.conf import settings  # noqa: E402 (needs Django to be set up)
from django.contrib.staticfiles.finders import get_finders  # noqa: E402

# not by its middleware, which is asynchronous: that would be two hops more for every request
found = dict.fromkeys(storage.location for finder in get_finders() for _, storage in finder.list([]))
for location in reversed(found):  # of the files of one name, the one that is found first comes last
    application.add_files(location, prefix=settings.STATIC_URL)
