"""Excerpts of responses are stored without the secrets in them, and no response delays others."""

from __future__ import annotations

import asyncio
import gc
import html
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest

from realtime.delivery.transports.base import Endpoint, Outcome, Result
from realtime.delivery.transports.webhook import Webhook
from tests.in_process import until
from tests.realtime.delivery.transports.raw_receiver import outgoing
from tests.receiver import Receiver
from tests.server import Server

pytestmark = pytest.mark.any_database

#: The most that an endpoint's headers can hold: 29 KB of short words with many notations each.
WORDS = {f"X-{n}": " ".join(f"{word:04x}/&" for word in range(83 * n, 83 * n + 83)) for n in range(50)}
MASK = "********"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(lambda request: 500) as started:
        yield started


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    created = Webhook()
    yield created
    await created.close()


Send = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def send(webhook: Webhook, receiver: Receiver) -> Send:
    """Return a function that makes an attempt with stored headers; the receiver responds with `body`."""

    async def send(body: bytes, headers: dict[str, str], query: str = "", **secrets: Any) -> Outcome:
        receiver.body = body
        endpoint = Endpoint(7, "webhook", {"url": receiver.url + query}, {"headers": headers} | secrets)
        async with asyncio.timeout(60):
            return await webhook.send(outgoing(b"{}", type="call"), endpoint)

    return send


# Notations

HIDDEN = "Tök-<12> \"34\" & 'ab'\\c/d%+=?#!~"


@pytest.mark.parametrize(
    "written",
    {
        "as it is": lambda value: value,
        "in upper case": lambda value: value.upper(),
        "encodeURIComponent": lambda value: quote(value, safe="-_.!~*'()"),
        "encodeURI": lambda value: quote(value, safe=";,/?:@&=+$#-_.!~*'()"),
        "a URL within a URL": lambda value: quote(quote(value, safe=""), safe=""),
        "JSON": lambda value: json.dumps(value)[1:-1],
        "JSON within JSON": lambda value: json.dumps(json.dumps(value)[1:-1])[1:-1],
        "Go's JSON": lambda value: json.dumps(value)[1:-1].replace("&", r"\u0026").replace("<", r"\u003c"),
        "JSON within HTML": lambda value: html.escape(json.dumps(value)[1:-1]),
        "HTML": html.escape,
        "PHP's HTML": lambda value: html.escape(value).replace("&#x27;", "&#039;"),
        "HTML within JSON": lambda value: json.dumps(html.escape(value))[1:-1],
        "entities": lambda value: "".join(f"&#{ord(character)};" for character in value),
        "UTF-8 decoded as Latin-1": lambda value: value.encode().decode("latin-1"),
        "UTF-8 decoded as Latin-1, in JSON": lambda value: json.dumps(value.encode().decode("latin-1"))[1:-1],
        "Python": lambda value: repr(value.encode())[2:-1],
    }.items(),
    ids=lambda notation: notation[0],
)
async def test_a_headers_value_is_masked_in_each_notation(send: Send, written: Any) -> None:
    body = f"<before {written[1](HIDDEN)} after>".encode()
    assert (await send(body, {"X-Key": HIDDEN})).excerpt == f"<before {MASK} after>"


async def test_a_value_is_masked_in_a_response_of_another_charset(send: Send) -> None:
    headers = {"X-Key": "tök-123456", "X-Other": "other-123456"}
    assert (await send("<é tök-123456 é>".encode("latin-1"), headers)).excerpt == f"<� {MASK} �>"
    shown = (await send("other-123456".encode("utf-16-le"), headers)).excerpt
    assert shown == f"{MASK}\\x00"


@pytest.mark.parametrize("written", [str, str.lower, str.upper])
async def test_letters_that_case_folding_lengthens_shift_nothing(send: Send, written: Callable[[str], str]) -> None:
    value = "İstanbul-ŉ-straße-ﬁ"
    body = f"<İßŉ {written(value)} ßİŉ {written(value)}>".encode()
    assert (await send(body, {"X-Key": value})).excerpt == f"<İßŉ {MASK} ßİŉ {MASK}>"


@pytest.mark.parametrize("value", ["日本語の鍵です", "Ключ доступа", "😀😀😀😀😀😀"])
@pytest.mark.parametrize("written", [str, json.dumps, quote, ascii])
async def test_a_value_without_any_ascii_is_masked(send: Send, value: str, written: Callable[[str], str]) -> None:
    body = f"<{written(value)}>".encode()
    assert (await send(body, {"X-Key": value})).excerpt.replace('"', "").replace("'", "") == f"<{MASK}>"


@pytest.mark.parametrize("before", ["App\\", "100%", "a\\", "&", "&#"])
async def test_characters_before_a_value_do_not_hide_it(send: Send, before: str) -> None:
    for value in ("tok-123456", "u0041-123456", "41-tok-123456;"):
        shown = (await send(f"{before}{value}".encode(), {"X-Key": value})).excerpt
        assert shown == before + MASK


async def test_credentials_behind_a_scheme_are_masked_alone(send: Send) -> None:
    headers = {"Authorization": "Bearer abc123-456", "X-Auth": "Token a b c 789"}
    body = b"no such key: abc123-456; nor a b c 789. Send Bearer or Token."
    assert (await send(body, headers)).excerpt == f"no such key: {MASK}; nor {MASK}. Send Bearer or Token."


async def test_the_keys_that_a_receiver_verifies_with_are_masked(send: Send) -> None:
    body = b"expected key jwt-key-123456, whsec_" + b"A" * 32 + b"!"
    outcome = await send(body, {"jwt_key": "jwt-key-123456"}, signing=["whsec_" + "A" * 32])
    assert outcome.excerpt == f"expected key {MASK}, {MASK}!"


async def test_what_may_be_a_credential_in_the_path_of_the_url_is_masked(send: Send) -> None:
    body = b"Cannot POST /in/bot1:of-the-tenant-and-long/send"
    shown = (await send(body, {}, query="/bot1:of-the-tenant-and-long/send")).excerpt
    assert shown == "Cannot POST /in/********/send"


async def test_what_the_query_of_the_url_holds_is_masked(send: Send) -> None:
    body = b'{"path": "/in?token=of-the-tenant%2F1&n=5&bare-secret", "token": "of-the-tenant/1"}'
    shown = (await send(body, {}, query="?token=of-the-tenant%2F1&n=5&bare-secret")).excerpt
    assert shown == f'{{"path": "/in?token={MASK}&n=5&{MASK}", "token": "{MASK}"}}'


async def test_a_value_that_is_truncated_is_not_shown_in_part(send: Send) -> None:
    value = "".join(f"{number:05x}" for number in range(1600))
    shown = (await send(f"<{quote('é')} {value}> and more".encode(), {"X-Key": value})).excerpt
    assert shown == f"<%C3%A9 {MASK}"
    shown = (await send(b"x" * 1000 + b"\xc3\xa9" * 3490 + value.encode() + b"y" * 9000, {"X-Key": value})).excerpt
    assert value[:6] not in shown


# Responses that cannot be searched

VALUES = {
    "too long": {f"X-{n}": f"{n}-{'secret ' * 1100}".strip() for n in range(9)},
    "too many ways": {f"X-{n}": f"Schlüssel geheim-é{n}É-ß\\\\x" for n in range(50)},
    "escapes": {"X-A": "\\" * 60 + "secret"[:3]},
    "escapes within escapes": {"X-A": "&#38;#38;#38;#38;#60;secret"},
}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("too long", "too many or too long"),
        ("too many ways", "too many ways to write them"),
        ("escapes", "little more than escapes"),
        ("escapes within escapes", "escapes within escapes"),
    ],
)
async def test_a_response_that_cannot_be_searched_is_not_shown(send: Send, values: str, reason: str) -> None:
    outcome = await send("".join(VALUES[values].values()).encode() * 2, VALUES[values])
    assert outcome.excerpt.startswith("[The answer is not shown: ")
    assert reason in outcome.excerpt
    assert len(outcome.excerpt) < 200
    assert "secret" not in outcome.excerpt
    assert "geheim" not in outcome.excerpt
    assert (outcome.result, outcome.status, outcome.error) == (Result.RETRY, 500, "")


async def test_the_most_that_headers_can_hold_is_masked(send: Send) -> None:
    values = list(WORDS.values())
    shown = (await send(f"<{values[0]}> and <{values[49].upper()}>: no".encode(), WORDS)).excerpt
    assert shown == f"<{MASK}> and <{MASK}>: no"


# Expensive responses


@asynccontextmanager
async def longest_turn() -> AsyncIterator[list[float]]:
    """Yield the most processor time, in seconds, of an iteration of the event loop; the load of others is not in it."""
    longest, is_over = [0.0], False

    async def measure() -> None:
        last = time.thread_time()
        while not is_over:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest[0], last = max(longest[0], now - last), now

    measuring = asyncio.create_task(measure())
    gc.disable()
    try:
        yield longest
    finally:
        is_over = True
        await measuring
        gc.enable()


EXPENSIVE = {
    "short words": (b"0" * 24_576, WORDS),
    "almost": (b"a" * 65_536, {f"X-{n}": "a" * 49 + "b" + "a" * (30 + n) for n in range(50)}),
    "everywhere": (b"a" * 65_536, {f"X-{n}": "a" * (6 + n) for n in range(50)}),
    "long values": (b"a" * 65_536, {f"X-{n}": "a" * 4000 + "b" + "a" * 4000 for n in range(4)}),
    "backslashes": (b"\\a" * 30_000, {f"X-{n}": f"{n}" + "\\a" * 300 for n in range(50)}),
    "entities": (b"&amp;" * 13_000, {f"X-{n}": f"{n}" + "&amp;" * 1500 for n in range(4)}),
    "no entities": (b"&zz;" * 15_000, {f"X-{n}": f"{n}" + "&zz;" * 2000 for n in range(4)}),
    "accents and escapes": ("é\\".encode() * 20_000, {f"X-{n}": f"{n}" + "é\\" * 2500 for n in range(4)}),
    "no UTF-8": (b"\xc3" * 65_536, {f"X-{n}": f"{n}" + "é" * 300 for n in range(40)}),
}


@pytest.mark.parametrize("expensive", EXPENSIVE.values(), ids=EXPENSIVE)
async def test_an_expensive_response_takes_little_of_each_iteration_of_the_loop(send: Send, expensive: Any) -> None:
    await send(b"ok", {})
    async with longest_turn() as longest:
        outcome = await send(*expensive)
    assert outcome.excerpt
    assert longest[0] < 0.05


async def test_many_expensive_responses_share_the_time_of_one_and_a_short_one_overtakes_them(send: Send) -> None:
    await send(b"ok", {})
    async with longest_turn() as longest:
        expensive = [asyncio.create_task(send(*EXPENSIVE["accents and escapes"])) for _ in range(20)]
        await asyncio.sleep(0.1)
        short = await send(EXPENSIVE["accents and escapes"][0], {"X-Key": "abc123-456"})
        assert not all(task.done() for task in expensive)
        outcomes = await asyncio.gather(*expensive)
    assert short.excerpt.startswith("é\\é")
    assert {outcome.excerpt for outcome in outcomes} == {outcomes[0].excerpt}
    assert longest[0] < 0.1


async def test_an_attempt_that_is_cancelled_leaves_the_others_their_turns(send: Send) -> None:
    expensive = [asyncio.create_task(send(*EXPENSIVE["accents and escapes"])) for _ in range(20)]
    await asyncio.sleep(0.1)
    expensive[0].cancel()
    outcomes = await asyncio.gather(*expensive, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert all(isinstance(outcome, Outcome) and outcome.excerpt for outcome in outcomes[1:])
    assert (await send(b"abc123-456", {"X-Key": "abc123-456"})).excerpt == MASK


def test_headers_of_many_words_and_a_long_response_delay_no_other_client(
    fresh_server: Callable[..., Server],
) -> None:
    server = fresh_server()
    with Receiver() as receiver:
        receiver.body = b"0" * 24_576
        loja = server.create()
        webhook = {"enabled": True, "url": receiver.url, "headers": WORDS, "events": ["MESSAGES_UPSERT"]}
        assert server.post(server.path("/webhook/set", loja), {"webhook": webhook}).status == 201
        assert server.receive(loja).status in (200, 201)
        until(lambda: receiver.requests)
        worst, delivery = 0.0, None
        while delivery is None:
            began = time.monotonic()
            # an unsupported version of Engine.IO is answered on the event loop
            assert server.get("/socket.io/?EIO=3&transport=polling", key=None).status == 400
            worst = max(worst, time.monotonic() - began)
            [found] = server.get(server.path("/webhook/deliveries", loja)).json["deliveries"]
            delivery = found if found["state"] == "delivered" else None
    details = server.get(server.path("/webhook/deliveries", loja) + f"/{delivery['id']}").json
    assert [attempt["excerpt"] for attempt in details["tries"]] == ["0" * 2000]
    assert worst < 2
