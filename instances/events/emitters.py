"""The emitters of events: providers, routes, and parts of this server. Each event type names its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Emitter:
    """A cause of events: it continues "Emitted by"."""

    name: str
    #: The operations of REST at which it begins, by method and path as the OpenAPI document has them.
    routes: tuple[str, ...] = ()


CLOUD_API = Emitter("the WhatsApp Cloud API, by what Meta posts", ("POST /webhook/meta",))
EVOLUTION_CHANNEL = Emitter("the Evolution channel, by what its engine posts", ("POST /webhook/evolution",))
SENDING = Emitter(
    "a message that is sent over REST (each kind has a route), or by send_message of a socket",
    ("POST /message/sendText/{name}",),
)
CREATION = Emitter("the creation of an instance, over REST or in the admin", ("POST /instance/create",))
DELETION = Emitter("the deletion of an instance, over REST or in the admin", ("DELETE /instance/delete/{name}",))
CONNECTION = Emitter(
    "a change of the connection's state, over REST or in the admin",
    ("GET /instance/connect/{name}", "DELETE /instance/logout/{name}"),
)
LOGOUT = Emitter(
    "a log-out, over REST or in the admin; a deletion logs out first",
    ("DELETE /instance/logout/{name}", "DELETE /instance/delete/{name}"),
)
DELIVERIES = Emitter("the deliveries of this server")
#: The emitter of all types that are publishable; it is added to theirs.
PUBLISHING = Emitter("an engine of your own, which publishes it", ("POST /event/publish/{name}",))
