"""Contracts with libraries below their public surface: one test for each row of docs/upgrading.md.

A test here fails when a new version of a library changes what we rely on, with a sentence that says what to look at.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import engineio
import httptools
import pytest
import socketio
import unfold.sites
import uvicorn
from corsheaders.middleware import CorsMiddleware
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.db.backends.postgresql import base as django_postgresql
from django.db.backends.sqlite3 import base as django_sqlite
from django.http.request import split_domain_port, validate_host
from django.middleware import common as django_common
from django.middleware import csrf as django_csrf
from drf_spectacular import drainage
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.generators import EndpointEnumerator
from drf_spectacular.openapi import AutoSchema
from engineio.packet import Packet
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState
from uvicorn.supervisors import multiprocess

from realtime.socketio.engine import Engine
from tests.server import ROOT

pytestmark = pytest.mark.any_database


def missing(owner: Any, *names: str) -> list[str]:
    """Return the names of these that the library does not have any more."""
    return [name for name in names if not hasattr(owner, name)]


def takes(function: Any, *parameters: str) -> bool:
    """Return whether the function still begins with these parameters, after `self`."""
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    return names[: len(parameters)] == list(parameters)


def has_moved(library: str, what: Any, file: str) -> str:
    return f"{library} {version(library)} has changed {what}: {file} relies on it (docs/upgrading.md)"


# uvicorn and httptools


def http_protocol() -> HttpToolsProtocol:
    async def application(scope: Any, receive: Any, send: Any) -> None: ...

    config = uvicorn.Config(application, interface="asgi3", lifespan="off", log_config=None)
    config.load()
    return HttpToolsProtocol(config=config, server_state=ServerState(), app_state={})


async def test_uvicorn_parses_http_through_the_hooks_that_we_extend():
    hooks = (
        *("connection_made", "connection_lost", "data_received", "on_message_begin", "on_header"),
        *("on_headers_complete", "on_body", "on_message_complete", "on_response_complete", "pause_writing"),
        *("resume_writing", "shutdown", "_start_asgi_task", "_should_upgrade"),
        "_unset_keepalive_if_required",
    )
    state = ("parser", "pipeline", "cycle", "scope", "headers", "flow", "connections", "loop", "transport", "logger")
    gone = missing(HttpToolsProtocol, *hooks) + missing(http_protocol(), *state)
    assert not gone, has_moved("uvicorn", gone, "realtime/wire/http.py")
    assert takes(HttpToolsProtocol._start_asgi_task, "cycle", "app"), has_moved(
        "uvicorn", "HttpToolsProtocol._start_asgi_task", "realtime/wire/http.py"
    )


def test_uvicorn_tells_how_far_a_response_is():
    parameters = inspect.signature(RequestResponseCycle.__init__).parameters
    source = inspect.getsource(RequestResponseCycle)
    gone = [name for name in ("scope", "message_event") if name not in parameters]
    gone += [name for name in ("response_started", "response_complete", "disconnected") if f"self.{name}" not in source]
    assert not gone, has_moved("uvicorn", f"RequestResponseCycle: {gone}", "realtime/wire/http.py")


def test_uvicorn_pauses_reading_by_flow_control():
    gone = missing(FlowControl, "pause_reading", "resume_reading")
    gone += [] if takes(FlowControl.__init__, "transport") else ["__init__"]
    assert not gone, has_moved("uvicorn", f"FlowControl: {gone}", "realtime/wire/http.py")


def test_uvicorn_has_status_lines_as_bytes():
    assert STATUS_LINE[431] == b"HTTP/1.1 431 Request Header Fields Too Large\r\n", has_moved(
        "uvicorn", "STATUS_LINE", "realtime/wire/http.py and websocket.py"
    )


def test_uvicorn_makes_protocols_from_config_and_state():
    assert takes(HttpToolsProtocol.__init__, "config", "server_state", "app_state"), has_moved(
        "uvicorn", "the constructor of protocols", "realtime/wire/http.py and websocket.py"
    )
    gone = missing(ServerState(), "connections", "tasks", "default_headers")
    assert not gone, has_moved("uvicorn", f"ServerState: {gone}", "realtime/wire/websocket.py")


def test_uvicorn_shuts_down_by_a_method_of_its_server():
    assert takes(uvicorn.Server.startup, "sockets"), has_moved("uvicorn", "Server.startup", "realtime/wire/server.py")
    assert takes(uvicorn.Server.shutdown, "sockets"), has_moved("uvicorn", "Server.shutdown", "realtime/wire/server.py")
    assert takes(uvicorn.Server.handle_exit, "sig", "frame"), has_moved(
        "uvicorn", "Server.handle_exit", "realtime/wire/server.py"
    )


def test_uvicorn_makes_workers_of_a_class_of_its_module():
    assert "Process" in multiprocess.Multiprocess.init_processes.__code__.co_names, has_moved(
        "uvicorn", "supervisors.multiprocess.Process", "realtime/wire/server.py"
    )
    worker = multiprocess.Process
    assert isinstance(worker.server, property), has_moved("uvicorn", "Process.server", "realtime/wire/server.py")
    assert {"_server", "config"} <= set(worker.__init__.__code__.co_names), has_moved(
        "uvicorn", "Process._server", "realtime/wire/server.py"
    )


def test_uvicorn_reports_a_client_that_left_as_an_os_error():
    assert issubclass(ClientDisconnected, OSError), has_moved(
        "uvicorn", "protocols.utils.ClientDisconnected", "realtime/wire/websocket.py and socketio/engine_socket.py"
    )


class Parsed:
    """Notes what httptools calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.calls.append((name, value))

    def on_headers_complete(self) -> None:
        self.calls.append("headers")

    def on_body(self, body: bytes) -> None:
        self.calls.append(body)

    def on_chunk_complete(self) -> None:
        self.calls.append("chunk")

    def on_message_complete(self) -> None:
        self.calls.append("message")


def test_httptools_ends_a_request_with_an_upgrade_before_its_body():
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n"
    parsed = Parsed()
    parser = httptools.HttpRequestParser(parsed)
    with pytest.raises(httptools.HttpParserUpgrade) as upgrade:
        parser.feed_data(head + b"{}")
    message = has_moved("httptools", "HttpParserUpgrade at the end of a head", "realtime/wire/http.py")
    assert upgrade.value.args[0] == len(head), message
    assert parser.should_upgrade(), message
    assert parsed.calls[-1] == "message", message


def test_httptools_says_where_an_upgrade_request_ends():
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    parser = httptools.HttpRequestParser(Parsed())
    with pytest.raises(httptools.HttpParserUpgrade) as upgrade:
        parser.feed_data(head + b"\x81\x00")
    assert upgrade.value.args[0] == len(head), has_moved(
        "httptools", "the offset in HttpParserUpgrade", "realtime/wire/http.py"
    )


def test_httptools_reports_chunks_and_trailers():
    parsed = Parsed()
    parser = httptools.HttpRequestParser(parsed)
    parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n")
    begun = parsed.calls.index("headers")
    assert parsed.calls[begun:] == ["headers", b"x", "chunk", (b"A", b"b"), "chunk", "message"], has_moved(
        "httptools", f"its callbacks: {parsed.calls}", "realtime/wire/http.py"
    )


def test_httptools_stops_at_an_exception_of_a_callback():
    class Full(Parsed):
        def on_header(self, name: bytes, value: bytes) -> None:
            super().on_header(name, value)
            raise RuntimeError

    parsed = Full()
    with pytest.raises(httptools.HttpParserError):
        httptools.HttpRequestParser(parsed).feed_data(b"GET / HTTP/1.1\r\nA: b\r\nA: b\r\nA: b\r\n\r\n")
    assert parsed.calls == [(b"A", b"b")], has_moved(
        "httptools", "what an exception in a callback does", "realtime/wire/http.py"
    )


# python-engineio


def test_engineio_packets_parse_their_json_by_a_class_attribute():
    assert Packet(4, "text").encode() == "4text", has_moved("python-engineio", "Packet.encode", "realtime/socketio")
    binary = Packet(4, b"data").encode(b64=True), Packet(4, b"data").encode()
    assert binary == ("bZGF0YQ==", b"data"), has_moved("python-engineio", "Packet.encode", "realtime/socketio")
    assert hasattr(Packet, "json"), has_moved("python-engineio", "Packet.json", "realtime/socketio/packets.py")
    assert Packet(encoded_packet="4text").data == "text", has_moved(
        "python-engineio", "Packet(encoded_packet=…)", "realtime/socketio/packets.py"
    )


def test_engineio_names_the_reasons_of_a_disconnect():
    reasons = {name: text for name, text in vars(engineio.AsyncServer.reason).items() if name.isupper()}
    assert reasons == {
        "SERVER_DISCONNECT": "server disconnect",
        "CLIENT_DISCONNECT": "client disconnect",
        "PING_TIMEOUT": "ping timeout",
        "TRANSPORT_CLOSE": "transport close",
        "TRANSPORT_ERROR": "transport error",
    }, has_moved("python-engineio", "AsyncServer.reason", "realtime/socketio/engine_socket.py")


# python-socketio


def test_socketio_handles_packets_through_the_methods_that_we_override():
    server = socketio.AsyncServer(async_mode="asgi")
    signatures = {
        "_send_packet": ("eio_sid", "pkt"),
        "_handle_eio_connect": ("eio_sid", "environ"),
        "_handle_eio_message": ("eio_sid", "data"),
        "_handle_eio_disconnect": ("eio_sid", "reason"),
        "_handle_connect": ("eio_sid", "namespace", "data"),
        "_handle_disconnect": ("eio_sid", "namespace", "reason"),
        "_handle_event": ("eio_sid", "namespace", "id", "data"),
        "_handle_event_internal": ("server", "sid", "eio_sid", "data", "namespace", "id"),
        "_engineio_server_class": (),
    }
    gone = missing(server, *signatures, "_trigger_event", "environ", "_binary_packet", "not_handled", "packet_class")
    assert not gone, has_moved("python-socketio", gone, "realtime/socketio/server.py")
    changed = [name for name, parameters in signatures.items() if not takes(getattr(server, name), *parameters)]
    assert not changed, has_moved("python-socketio", f"the parameters of {changed}", "realtime/socketio/server.py")


def test_socketio_calls_these_methods_of_an_engineio_server():
    """Those of sessions' own data, and `attach`, have no use here."""
    used: set[str] = set()
    for each in (socketio.AsyncServer, socketio.AsyncManager):
        for base in each.__mro__[:-1]:
            used |= set(re.findall(r"\.eio\.(\w+)", inspect.getsource(base)))
    assert {*missing(Engine, *used)} == {"attach", "get_session"}, has_moved(
        "python-socketio",
        f"what it calls on an Engine.IO server: {missing(Engine, *used)}",
        "realtime/socketio/engine.py",
    )


def test_socketio_keeps_clients_in_its_manager():
    manager = socketio.AsyncManager()
    gone = missing(manager, "basic_disconnect", "basic_leave_room", "callbacks", "pending_disconnect", "is_connected")
    gone += missing(manager, "sid_from_eio_sid", "eio_sid_from_sid", "disconnect")
    assert not gone, has_moved("python-socketio", gone, "realtime/socketio/server.py")


def test_socketio_names_the_namespace_to_a_namespace_handler_for_all():
    class All(socketio.AsyncNamespace):
        async def trigger_event(self, event: str, *args: Any) -> Any:
            return event, args

    server = socketio.AsyncServer(async_mode="asgi", namespaces="*")
    server.register_namespace(All("*"))
    called = asyncio.run(server._trigger_event("connect", "/loja", "sid", {}))
    assert called == ("connect", ("/loja", "sid", {})), has_moved(
        "python-socketio", "the arguments of a catch-all namespace", "realtime/fanout/namespaces.py"
    )


# aiormq


def test_aiormq_says_by_these_errors_and_properties_what_became_of_a_message():
    aiormq = pytest.importorskip("aiormq")
    from aiormq.channel import Channel

    gone = missing(aiormq.Connection, "is_opened", "connect", "channel", "close")
    gone += missing(Channel, "is_closed", "basic_publish", "exchange_declare", "queue_declare", "queue_bind", "close")
    gone += missing(
        aiormq.exceptions, "PublishError", "DeliveryError", "InvalidFrameError", "ChannelPreconditionFailed"
    )
    assert not gone, has_moved("aiormq", gone, "realtime/delivery/transports/rabbitmq.py")


# drf-spectacular


def test_spectacular_looks_for_sources_by_the_function_that_we_replace(monkeypatch):
    asked = []
    monkeypatch.setattr(drainage, "_get_source_location", lambda of: asked.append(of) or (None, None))
    with drainage.add_trace_message(AutoSchema):
        pass
    assert asked == [AutoSchema], has_moved(
        "drf-spectacular", "drainage._get_source_location", "instances/api/openapi.py"
    )


def test_spectacular_describes_views_through_the_methods_that_we_override():
    assert takes(AutoSchema._get_response_bodies, "direction"), has_moved(
        "drf-spectacular", "AutoSchema._get_response_bodies", "instances/api/openapi.py"
    )
    names = ("_get_response_for_code", "_map_serializer_field", "_insert_field_validators", "map_parsers")
    gone = missing(AutoSchema, *names, "get_operation_id")
    gone += missing(OpenApiSerializerFieldExtension, "_matches", "map_serializer_field")
    assert not gone, has_moved("drf-spectacular", gone, "instances/api/openapi.py")
    assert takes(EndpointEnumerator._get_api_endpoints, "patterns", "prefix"), has_moved(
        "drf-spectacular", "EndpointEnumerator._get_api_endpoints", "instances/api/openapi.py"
    )


# Django


def test_django_begins_and_ends_transactions_on_sqlite_by_these_methods():
    names = ("_start_transaction_under_autocommit", "_commit", "_rollback", "_close")
    gone = missing(django_sqlite.DatabaseWrapper, *names)
    assert not gone, has_moved("django", gone, "evoapi/sqlite/base.py")


def test_django_connects_to_postgresql_through_its_pool():
    gone = missing(django_postgresql.DatabaseWrapper, "get_new_connection", "pool")
    gone += [] if takes(django_postgresql.DatabaseWrapper.get_new_connection, "conn_params") else ["its arguments"]
    assert not gone, has_moved("django", f"PostgreSQL's DatabaseWrapper: {gone}", "evoapi/postgresql/base.py")


def test_django_makes_requests_of_a_class_that_can_be_replaced():
    assert WSGIHandler.request_class is WSGIRequest, has_moved("django", "WSGIHandler.request_class", "evoapi/wsgi.py")
    asking = [inspect.getsource(module) for module in (django_common, django_csrf)]
    assert all("get_host()" in source and "_get_raw_host" not in source for source in asking), has_moved(
        "django", "how its middleware reads the host", "evoapi/wsgi.py"
    )


def test_django_checks_hosts_by_two_functions():
    checked = [split_domain_port(host) for host in ("A-b.:80", "a_b", "[::1]:8080", "a b")]
    expected = [("a-b", "80"), ("", ""), ("[::1]", "8080"), ("", "")]
    assert checked == expected, has_moved("django", f"split_domain_port: {checked}", "instances/access/gate.py")
    allowed = [validate_host(domain, ["a_b", ".c"]) for domain in ("a_b", "d.c", "d")]
    assert allowed == [True, True, False], has_moved("django", "validate_host", "instances/access/gate.py")


# django-cors-headers


def test_cors_headers_finds_origins_by_a_method_of_its_middleware():
    assert takes(CorsMiddleware.origin_found_in_white_lists, "origin", "url"), has_moved(
        "django-cors-headers", "origin_found_in_white_lists", "instances/access/gate.py"
    )


# django-unfold


UNFOLD = Path(inspect.getfile(unfold)).parent / "templates"


def test_unfold_has_the_templates_that_ours_replace():
    ours = [path.relative_to(ROOT / "templates") for path in (ROOT / "templates" / "unfold").rglob("*.html")]
    ours += [Path("admin", name) for name in ("actions.html", "change_list.html", "index.html")]
    gone = [str(path) for path in ours if not (UNFOLD / path).is_file()]
    assert not gone, has_moved("django-unfold", f"its templates {gone}", "templates/")
    blocks = {"unfold/layouts/skeleton.html": "{% block responsive %}", "admin/change_list.html": "{% block filters %}"}
    moved = [name for name, block in blocks.items() if block not in (UNFOLD / name).read_text()]
    assert not moved, has_moved("django-unfold", f"the blocks of {moved}", "templates/")


def test_unfold_writes_no_style_without_colours():
    skeleton = (UNFOLD / "unfold/layouts/skeleton.html").read_text()
    assert re.findall(r"\{% if (\w+) %\}\s*<style", skeleton) == ["colors"], has_moved(
        "django-unfold", "the styles of its skeleton", "evoapi/admin_site.py"
    )


def test_unfold_searches_by_the_method_that_ours_replaces():
    [pattern] = [each for each in unfold.sites.UnfoldAdminSite().get_urls() if getattr(each, "name", "") == "search"]
    assert pattern.callback.__wrapped__.__func__ is unfold.sites.UnfoldAdminSite.search, has_moved(
        "django-unfold", "the method of its site that searches", "evoapi/admin_site.py"
    )


# The document


def test_every_row_of_the_document_has_its_test():
    document = (ROOT / "docs" / "upgrading.md").read_text()
    named = set(re.findall(r"`(test_[a-z_]+)`", document))
    here = {name for name in globals() if name.startswith("test_") and "every_row" not in name}
    elsewhere = {
        name
        for path in re.findall(r"`(tests/[a-z_/]+\.py)`", document)
        for name in re.findall(r"def (test_[a-z_]+)", (ROOT / path).read_text())
    }
    assert named <= here | elsewhere
    assert here <= named
