"""The Graph API beside sending: receipts, profile, blocked people and templates of a number of the Cloud API.

https://developers.facebook.com/documentation/business-messaging/whatsapp. Coroutines for the server's event loop; none
of them uses the database.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from django.conf import settings

from instances.bounds import SEND_SECONDS, TEMPLATES
from instances.crypto import MASK, UnreadableSecret
from instances.models import Instance
from instances.outbound.client import NoResponse, Unreachable, http_client

logger = logging.getLogger(__name__)

#: Characters of a text in an error of the Graph API: a sentence or two, but a proxy in between may send a page.
MAX_TEXT_LENGTH = 1000
#: Requests at a time that mark messages as read.
RECEIPTS_AT_A_TIME = 10
#: Templates of a page, and seconds that all pages may take.
PAGE_SIZE = 50
PAGES_SECONDS = 3 * SEND_SECONDS
#: The fields of a business profile.
PROFILE_FIELDS = ("about", "address", "description", "email", "profile_picture_url", "websites", "vertical")

_WHATSAPP = {"messaging_product": "whatsapp"}
#: Members of an error that hold text for people.
_TEXTS = ("message", "error_user_title", "error_user_msg")


class GraphError(Exception):
    """Raised when the Graph API refused a request, or gave no answer that can be read.

    `status` is the HTTP status of our response; `error` is the Graph API's own object, {} if there is none.
    """

    def __init__(self, message: str, status: int = 400, error: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.error = error or {}


class GraphApi:
    """The requests; each is authorized by the token of its instance alone. All methods raise GraphError."""

    async def mark_read(self, instance: Instance, message_ids: Sequence[str], is_typing: bool = False) -> None:
        """Mark received messages as read, and show that an answer is being typed if `is_typing`."""
        typing = {"typing_indicator": {"type": "text"}} if is_typing else {}
        for start in range(0, len(message_ids), RECEIPTS_AT_A_TIME):
            ids = message_ids[start : start + RECEIPTS_AT_A_TIME]
            bodies = [_WHATSAPP | {"status": "read", "message_id": each} | typing for each in ids]
            answers = await asyncio.gather(
                *(_ask(instance, "POST", f"{_number(instance)}/messages", body) for body in bodies),
                return_exceptions=True,  # all of them end before the first error is raised
            )
            for error in answers:
                if isinstance(error, BaseException):
                    raise error

    async def business_profile(self, instance: Instance) -> dict[str, Any]:
        """Return the profile of the instance's number."""
        path = f"{_number(instance)}/whatsapp_business_profile"
        answer = await _ask(instance, "GET", path, query={"fields": ",".join(PROFILE_FIELDS)})
        rows = answer.get("data")
        return rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}

    async def update_profile(self, instance: Instance, **members: Any) -> None:
        """Change members of the profile of the instance's number."""
        await _ask(instance, "POST", f"{_number(instance)}/whatsapp_business_profile", _WHATSAPP | members)

    async def set_blocked(self, instance: Instance, user: str, is_blocked: bool) -> None:
        """Block a person, or unblock them."""
        body = _WHATSAPP | {"block_users": [{"user": user}]}
        answer = await _ask(instance, "POST" if is_blocked else "DELETE", f"{_number(instance)}/block_users", body)
        users = answer.get("block_users")
        failed = users.get("failed_users") if isinstance(users, dict) else None
        if failed:
            raise GraphError("The Graph API did not change whether this number is blocked")

    async def create_template(self, instance: Instance, template: dict[str, Any]) -> dict[str, Any]:
        """Create a template of the instance's business; returns its id, status and category."""
        return await _ask(instance, "POST", f"{_business(instance)}/message_templates", template)

    async def edit_template(self, instance: Instance, template_id: str, changes: dict[str, Any]) -> dict[str, Any]:
        return await _ask(instance, "POST", quote(template_id, safe=""), changes)

    async def delete_template(self, instance: Instance, name: str, template_id: str | None) -> dict[str, Any]:
        """Delete the templates of a name in all languages, or the one of them with this id."""
        query = {"name": name} | ({"hsm_id": template_id} if template_id else {})
        return await _ask(instance, "DELETE", f"{_business(instance)}/message_templates", query=query)

    async def templates(self, instance: Instance) -> list[Any]:
        """Return all templates of the instance's business, from all pages. Raises GraphError if there are too many."""
        try:
            async with asyncio.timeout(PAGES_SECONDS):
                return await self._all_pages(instance)
        except TimeoutError:
            raise GraphError(f"The Graph API did not list the templates within {PAGES_SECONDS} seconds", 504) from None

    async def _all_pages(self, instance: Instance) -> list[Any]:
        found: list[Any] = []
        query = {"limit": str(PAGE_SIZE)}
        while True:
            answer = await _ask(instance, "GET", f"{_business(instance)}/message_templates", query=query)
            page = answer.get("data")
            if not isinstance(page, list):
                raise GraphError("The Graph API answered without a list of templates", 502)
            found += page
            if len(found) > TEMPLATES:
                raise GraphError(f"The business has more than {TEMPLATES} templates: see LIMIT_TEMPLATES")
            # the URL in `paging.next` is not used: it need not be the Graph API's
            after = _next_page(answer.get("paging"))
            if not page or after is None or after == query.get("after"):
                return found
            query["after"] = after


def _next_page(paging: Any) -> str | None:
    """Return the cursor of the page that follows one with this `paging`, None for the last page."""
    if not isinstance(paging, dict) or not paging.get("next"):
        return None
    cursors = paging.get("cursors")
    after = cursors.get("after") if isinstance(cursors, dict) else None
    return after if isinstance(after, str) and after else None


def _number(instance: Instance) -> str:
    return quote(instance.number or "", safe="")


def _business(instance: Instance) -> str:
    if not instance.business_id:
        raise GraphError("The instance has no businessId, by which the Graph API finds its templates")
    return quote(instance.business_id, safe="")


async def _ask(
    instance: Instance,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    query: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Send a request with the instance's token; returns the object that the Graph API answers."""
    token = token_of(instance)
    url = url_of(path)
    if query:
        url += f"?{urlencode(query)}"
    try:
        status, response = await http_client.request(method, url, body, {"Authorization": f"Bearer {token}"})
    except Unreachable as error:
        http_status = 504 if error.is_sent and isinstance(error, NoResponse) else 502
        raise GraphError(f"The Graph API did not answer ({error})", http_status) from None
    try:
        answer = orjson.loads(response)
    except ValueError:
        answer = None
    if status < 300 and isinstance(answer, dict):
        return answer
    refusal = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(refusal, dict):
        logger.warning("The Graph API answered %s with something unexpected", status)
        raise GraphError(f"The Graph API answered {status} with something unexpected", 502)
    shown = _without_secret(refusal, token)
    message = f"{shown.get('message', 'refused')} (code {shown.get('code')})"
    raise GraphError(message, 502 if status >= 500 else 400, shown)


def url_of(path: str) -> str:
    return f"{settings.WA_BUSINESS_URL}/{settings.WA_BUSINESS_VERSION}/{path}"


def token_of(instance: Instance) -> str:
    """Return the instance's token for the Graph API. Raises GraphError if it has none that can be read."""
    try:
        token = instance.provider_token.reveal() if instance.provider_token else ""
    except UnreadableSecret as error:
        raise GraphError(f"The instance's token for the Graph API cannot be read. {error}") from None
    if not token:
        raise GraphError("The instance has no token for the Graph API")
    return token


def _without_secret(error: dict[str, Any], token: str) -> dict[str, Any]:
    """Return an error with its texts shortened, and without the token: the Graph API repeats an invalid one."""
    texts = {
        name: str(error[name]).replace(token, MASK)[:MAX_TEXT_LENGTH] for name in _TEXTS if error.get(name) is not None
    }
    rest = {
        name: value if isinstance(value, int) else str(value).replace(token, MASK)[:MAX_TEXT_LENGTH]
        for name in ("type", "code", "error_subcode", "fbtrace_id")
        if (value := error.get(name)) is not None
    }
    return texts | rest
