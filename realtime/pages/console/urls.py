"""URLs of the console. An instance's name is one part of a path; what belongs to all has `all/instances` before it."""

from django.urls import path, re_path

from realtime.pages.console import data, event, views

app_name = "console"

#: The id of an event, of a test event too.
_EVENT = r"^(?P<name>[^/]+)/(?P<reference>[0-9a-f]{16}\.[0-9]{1,18}|test\.[\w.-]{1,60})"

urlpatterns = [
    path("", views.index, name="index"),
    path("all/instances/names", data.names, name="names"),
    path("all/instances/states", data.states, name="states"),
    path("all/instances/events", data.events, name="events-of-all"),
    path("all/instances/rows", data.rows, name="rows-of-all"),
    path("all/instances/token", data.token, name="token-of-all"),
    path("<str:name>/events", data.events, name="events"),
    path("<str:name>/rows", data.rows, name="rows"),
    path("<str:name>/token", data.token, name="token"),
    re_path(rf"{_EVENT}$", event.event_page, name="event"),
    re_path(rf"{_EVENT}/envelope$", event.envelope, name="envelope"),
    re_path(rf"{_EVENT}/audience$", event.audience, name="audience"),
    re_path(rf"{_EVENT}/(?P<pk>[0-9]{{1,18}})/body$", event.body, name="body"),
    re_path(rf"{_EVENT}/(?P<pk>[0-9]{{1,18}})/again$", event.again, name="again"),
    path("<str:name>", views.instance, name="instance"),
]
