"""Error responses in Evolution API's shape: {"status": 404, "error": "Not Found", "response": {"message": [...]}}."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
from django.core.exceptions import DisallowedHost, PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import status
from rest_framework.exceptions import APIException, MethodNotAllowed, UnsupportedMediaType, ValidationError
from rest_framework.response import Response

from instances.bounds import LOCK_SECONDS
from instances.crypto import UnreadableSecret, mask_keys
from instances.evolution_routes import is_evolution_route

logger = logging.getLogger(__name__)

#: The directory of the source code, left out of what is shown of an error.
_ROOT = Path(__file__).resolve().parent.parent

#: Exceptions that Django raises while the database is unavailable, and the message of the response to them.
DATABASE_ERRORS = (OperationalError, InterfaceError)
#: The message on a route that is here only where it is switched on: files of Evolution API's dashboard.
NOT_HERE = "Evolution API has this route, and here it is switched off: docs/compatibility.md says what switches it on"
DATABASE_AWAY = "The database does not answer; try again"
DATABASE_LOCKED = f"Another request or program has kept this locked for {LOCK_SECONDS} seconds; try again"


def body(code: int, message: Any) -> dict[str, Any]:
    """Return the body of an error response; `message` is a string for 401 and 500, a list for all others."""
    return {"status": code, "error": HTTPStatus(code).phrase, "response": {"message": message}}


class NotFound(APIException):
    status_code = status.HTTP_404_NOT_FOUND


class ApiError(APIException):
    """An error response with a status and messages of one line; `details` are members of `response` beside them."""

    def __init__(
        self, message: str | list[str], status_code: int = status.HTTP_400_BAD_REQUEST, **details: Any
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.details = details


def not_connected(name: str) -> ApiError:
    """Return the error of what an instance cannot do while its connection is closed, in Evolution API's words."""
    return ApiError(f'The "{name}" instance is not connected')


class ListedError(APIException):
    """An error response with several messages, or with objects for messages."""

    def __init__(self, messages: list[Any], status_code: int = status.HTTP_400_BAD_REQUEST) -> None:
        super().__init__()
        self.messages = messages
        self.status_code = status_code


def is_lock_timeout(error: Exception) -> bool:
    """Return whether the database answered that a lock of another transaction was waited for in vain."""
    return isinstance(error, OperationalError) and (
        getattr(error.__cause__, "sqlstate", None) == "55P03" or str(error) == "database is locked"
    )


def database_error(error: Exception) -> ApiError:
    """Return the response to one of DATABASE_ERRORS."""
    return ApiError(DATABASE_LOCKED if is_lock_timeout(error) else DATABASE_AWAY, 503)


def describe(error: BaseException) -> str:
    """Return an error's type and place, without its text: that may contain data, and is in the log."""
    name = type(error).__name__
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(_ROOT))]
    frames = [frame for frame in frames if "site-packages" not in frame.filename]
    if not frames:
        return name
    return f"{name} at {Path(frames[-1].filename).relative_to(_ROOT)}:{frames[-1].lineno}"


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Return the response to an exception of a view, or None for an unexpected one.

    https://www.django-rest-framework.org/api-guide/exceptions/#custom-exception-handling
    """
    if isinstance(exc, MethodNotAllowed):
        exc = NotFound(no_such_route(context["request"]))
    elif isinstance(exc, Http404):
        exc = NotFound([str(exc)] if str(exc) else no_such_route(context["request"]))
    elif isinstance(exc, PermissionDenied):
        exc = ApiError(str(exc) or "Forbidden", status.HTTP_403_FORBIDDEN)
    elif isinstance(exc, DATABASE_ERRORS):
        logger.error("%s was not answered: %s", context["request"].path, exc)
        exc = database_error(exc)
    elif isinstance(exc, UnreadableSecret):
        exc = ApiError(f"A secret cannot be read. {exc}", status.HTTP_409_CONFLICT)
    if not isinstance(exc, APIException):
        return None
    return Response(error_body(exc), exc.status_code)


def error_body(exc: APIException) -> dict[str, Any]:
    """Return the body of the response to an exception, for REST and for sockets."""
    content = body(exc.status_code, _message(exc))
    content["response"] |= getattr(exc, "details", {})
    return content


def _message(exc: APIException) -> Any:
    if exc.status_code == status.HTTP_401_UNAUTHORIZED:
        return "Unauthorized"
    if isinstance(exc, ListedError):
        return exc.messages
    if isinstance(exc, ValidationError):
        return [list(_texts(exc.get_full_details(), []))]
    if isinstance(exc, UnsupportedMediaType):
        return [f"{str(exc.detail).removesuffix('.')}: send JSON, with Content-Type: application/json"]
    return [str(detail) for detail in exc.detail] if isinstance(exc.detail, list) else [str(exc.detail)]


def _texts(details: Any, path: list[str]) -> Iterator[str]:
    """Yield every failed rule as one line that names the member, in Evolution API's wording."""
    return (_text(*rule) for rule in _failed_rules(details, path))


def listed(error: ValidationError) -> Iterator[dict[str, str]]:
    """Yield every failed rule as Evolution API's group routes do."""
    for path, message, code in _failed_rules(error.get_full_details(), []):
        holder = path[:-1] if code == "required" else path
        yield {"property": _member(holder) or "instance", "message": _text(path, message, code)}


def _failed_rules(details: Any, path: list[str]) -> Iterator[tuple[list[str], str, str]]:
    """Yield every failed rule: the path of the member, a message and its code."""
    if isinstance(details, dict) and set(details) == {"message", "code"}:
        yield path, str(details["message"]), details["code"]
    elif isinstance(details, dict):
        for name, inner in details.items():
            yield from _failed_rules(inner, path if name == "non_field_errors" else [*path, str(name)])
    else:
        for inner in details:
            yield from _failed_rules(inner, path)


def _text(path: list[str], message: str, code: str) -> str:
    if code == "required":
        return f'{_member(path[:-1]) or "instance"} requires property "{path[-1]}"'
    if code == "blank":
        return f'The "{path[-1]}" cannot be empty'
    # errors of validate_…() are sentences, those of fields continue the member's name
    return message if code == "invalid" else f"{_member(path)} {message}"


def _member(path: list[str]) -> str:
    member = ""
    for name in path:
        member += f"[{name}]" if name.isdecimal() else f".{name}" if member else name
    return member


def no_such_route(request: Any) -> list[str]:
    """Return the messages for an unknown route, in Express's words; keys in the query are masked."""
    messages = [f"Cannot {request.method} {mask_keys(request.get_full_path())}"]  # responses may be logged, too
    if is_evolution_route(request.method, request.path):
        messages.append(NOT_HERE)
    return messages


def error_response(code: int, message: Any) -> HttpResponse:
    """Return an error response outside of Django REST framework."""
    return HttpResponse(orjson.dumps(body(code, message)), status=code, content_type="application/json")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return error_response(404, no_such_route(request))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if isinstance(exception, DisallowedHost):
        return error_response(400, ["This server is not reached by that name: see SERVER_URL and ALLOWED_HOSTS"])
    return error_response(400, [str(exception) or "Bad Request"])


def server_error(request: HttpRequest) -> HttpResponse:
    error = sys.exc_info()[1]
    if isinstance(error, DATABASE_ERRORS):
        return error_response(503, [str(database_error(error).detail)])
    return error_response(500, "Internal Server Error")
