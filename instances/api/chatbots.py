"""The routes of chatbots and of Chatwoot, none of which are here: reads find nothing, writes say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from instances import errors
from instances.access.rights import MANAGE, READ
from instances.api.request import InstanceRequest
from instances.api.responses import ChatwootRow
from instances.errors import ApiError
from instances.evolution_routes.chatbots import BOTS

#: The reads, by the path before the instance's name, with what they find.
_LISTS = ("find", "fetchSessions/<str:id>")
_THINGS = ("fetch/<str:id>", "fetchSettings")
_WRITES = (
    *(("create", "POST"), ("settings", "POST"), ("changeStatus", "POST"), ("ignoreJid", "POST")),
    *(("update/<str:id>", "PUT"), ("delete/<str:id>", "DELETE")),
)

#: The row of Chatwoot's settings where there are none.
UNSET_CHATWOOT: ChatwootRow = {
    "enabled": False,
    "url": "",
    "accountId": "",
    "token": "",
    "signMsg": False,
    "nameInbox": "",
    "webhook_url": "",
}


class BotView(APIView):
    """A view of a family of routes that is switched off."""

    family: ClassVar[str]
    errors = {method: {400: "There are no chatbots here."} for method in ("POST", "PUT", "DELETE")}

    @classmethod
    def disabled(cls) -> ApiError:
        return ApiError(f"{cls.family[0].upper()}{cls.family[1:]} is disabled")

    def get_permissions(self) -> Sequence[Any]:
        """Let reads and writes of one path need different scopes."""
        self.scope = READ if self.request.method in ("GET", "HEAD") else MANAGE
        return super().get_permissions()


def _reader(family: str, found: Any) -> Any:
    """Return the handler of a GET that finds `found`."""

    def get(self: BotView, request: InstanceRequest, name: str, **kwargs: Any) -> Response:
        return Response(found)

    get.__doc__ = f"Find nothing: {family} is not here."
    response = {"type": "array", "items": {}} if found == [] else OpenApiTypes.ANY
    example = OpenApiExample("nothing", found, response_only=True, status_codes=["200"])
    return extend_schema(responses={200: response}, examples=[example])(get)


def _writer(family: str) -> Any:
    """Return the handler of a write, which is refused whatever its body says."""

    def write(self: BotView, request: InstanceRequest, name: str, **kwargs: Any) -> Response:
        raise self.disabled()

    write.__doc__ = f"Answer that {family} is disabled: there are no chatbots here."
    return _described(family, write, {"enabled": True})


def _described(family: str, handler: Any, example: Any) -> Any:
    words = errors.body(400, [f"{family[0].upper()}{family[1:]} is disabled"])
    examples = [
        OpenApiExample("disabled", words, response_only=True, status_codes=["400"]),
        OpenApiExample("any", example, request_only=True),
    ]
    return extend_schema(request=OpenApiTypes.OBJECT, responses={}, examples=examples)(handler)


def _view(family: str, path: str, handlers: dict[str, Any]) -> type[BotView]:
    words = [family, *path.replace("/<str:id>", "One").split("/")]
    name = "".join(word[0].upper() + word[1:] for word in words)
    return type(name, (BotView,), {"family": family} | handlers)


def _views_of(bot: str) -> dict[str, type[BotView]]:
    """Return the views of a chatbot by the path before the instance's name."""
    handlers: dict[str, dict[str, Any]] = {path: {"get": _reader(bot, [])} for path in _LISTS}
    handlers |= {path: {"get": _reader(bot, None)} for path in _THINGS}
    handlers |= {path: {method.lower(): _writer(bot)} for path, method in _WRITES}
    if bot == "typebot":
        handlers["start"] = {"post": _writer(bot)}
    if bot == "openai":
        handlers["creds"] = {"get": _reader(bot, []), "post": _writer(bot)}
        handlers["creds/<str:id>"] = {"delete": _writer(bot)}
        handlers["getModels"] = {"get": _reader(bot, [])}
    return {f"{bot}/{path}": _view(bot, path, methods) for path, methods in handlers.items()}


class SetChatwoot(BotView):
    family = "chatwoot"
    post = _writer(family)


class FindChatwoot(BotView):
    family = "chatwoot"

    @extend_schema(
        responses={200: ChatwootRow},
        examples=[OpenApiExample("unset", UNSET_CHATWOOT, response_only=True, status_codes=["200"])],
    )
    def get(self, request: InstanceRequest, name: str) -> Response:
        """Return the settings of Chatwoot: unset, as it is not here."""
        return Response(UNSET_CHATWOOT)


class ChatwootWebhook(APIView):
    """Chatwoot's webhook, which has no key in Evolution API; its answer says nothing of the instance."""

    errors = BotView.errors
    authentication_classes = ()
    permission_classes = ()

    def post(self, request: Request, name: str) -> Response:
        """Answer that Chatwoot is disabled, whichever instance is named. No key is required."""
        raise ApiError("Chatwoot is disabled")

    post = _described("chatwoot", post, {"event": "message_created"})


#: The views by the path before the instance's name.
VIEWS: dict[str, type[APIView]] = {
    **{path: view for bot in BOTS for path, view in _views_of(bot).items()},
    "chatwoot/set": SetChatwoot,
    "chatwoot/find": FindChatwoot,
    "chatwoot/webhook": ChatwootWebhook,
}
