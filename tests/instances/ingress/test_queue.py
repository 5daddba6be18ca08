"""The ingress queue: many requests share a commit, get a response after it, and an error in one affects no other."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, connection, connections, transaction

from instances.access.cache import AccessCache
from instances.events import event_occurred
from instances.ingress import queue as queue_module
from instances.ingress.asgi import IngressRouter
from instances.ingress.body_limit import BodyLimit
from instances.ingress.endpoint import IngressEndpoint, IngressRequest, IngressResponse
from instances.ingress.queue import LARGE_BODY, IngressQueue
from instances.models import Contact, Instance, Message
from instances.providers.evolution import EvolutionChannel, EvolutionIngress
from realtime.api.publish import PublishIngress
from realtime.log.models import Event
from realtime.log.stream import Stream
from tests.environment import GLOBAL_KEY, ON_POSTGRES
from tests.in_process import InProcessServer, until
from tests.server import Number

in_process = pytest.mark.django_db(transaction=True)


@pytest.fixture
def short_connections(monkeypatch) -> None:
    """Let threads that outlive the test close their connections before its database is dropped."""
    monkeypatch.setitem(connections.databases["default"], "CONN_MAX_AGE", 0)


@pytest.fixture
def queue(short_connections) -> IngressQueue:
    return IngressQueue()


@pytest.fixture
def mine(db) -> Instance:
    return Instance.objects.create(name="mine", integration="EVOLUTION", number="1001")


def published(
    data: Any = None, instance: str = "mine", key: str = GLOBAL_KEY, endpoint: IngressEndpoint | None = None
) -> IngressRequest:
    body = json.dumps({"event": "call", "data": data}).encode()
    headers = {"apikey": key, "content-type": "application/json"}
    path = f"/event/publish/{instance}"
    return IngressRequest(endpoint or PublishIngress(), path, instance, headers, "127.0.0.1", body)


def message(text: str, number: str = "1001") -> dict[str, Any]:
    key = {"remoteJid": "5511@s.whatsapp.net", "id": text}
    return {"numberId": number, "key": key, "message": {"conversation": text}}


def received(text: str, number: str = "1001", key: str = GLOBAL_KEY) -> IngressRequest:
    body = json.dumps(message(text, number)).encode()
    endpoint = EvolutionIngress(EvolutionChannel())
    return IngressRequest(endpoint, "/webhook/evolution", "", {"apikey": key}, "127.0.0.1", body)


class Blocker(IngressEndpoint):
    """An endpoint that keeps the writer busy until it is released, so that other requests queue up."""

    path = "/"

    def __init__(self) -> None:
        self.is_released = threading.Event()
        self.is_reached = threading.Event()

    def prepare(self, request: IngressRequest, cache: AccessCache) -> IngressResponse:
        self.is_reached.set()
        assert self.is_released.wait(20)
        return IngressResponse(204, b"")

    async def block(self, queue: IngressQueue) -> asyncio.Task[IngressResponse]:
        blocked = asyncio.create_task(queue.submit(IngressRequest(self, "/", "", {}, "", b"")))
        await asyncio.to_thread(self.is_reached.wait, 20)
        return blocked


def together(queue: IngressQueue, requests: list[IngressRequest]) -> list[Any]:
    """Submit requests that wait together. Returns the response or the error of each."""

    async def submit() -> list[Any]:
        blocker = Blocker()
        blocked = await blocker.block(queue)
        others = [asyncio.create_task(queue.submit(request)) for request in requests]
        await asyncio.sleep(0)
        blocker.is_released.set()
        await blocked
        return await asyncio.gather(*others, return_exceptions=True)

    return asyncio.run(submit())


def statuses(outcomes: list[Any]) -> list[Any]:
    return [outcome.status if isinstance(outcome, IngressResponse) else type(outcome) for outcome in outcomes]


def texts() -> set[str]:
    return {stored.content["conversation"] for stored in Message.objects.all()}


@pytest.fixture
def receiver() -> Iterator[Callable[[Callable[[str], Any]], None]]:
    """Connect functions that are called, in the transaction, with the text of each message that is announced."""
    connected: list[Any] = []

    def connect(function: Callable[[str], Any]) -> None:
        def receive(event_type: str, data: Any, **kwargs: Any) -> None:
            if event_type == "messages.upsert":
                function(data["message"]["conversation"])

        event_occurred.connect(receive, weak=False)
        connected.append(receive)

    yield connect
    for receive in connected:
        event_occurred.disconnect(receive)


@pytest.fixture
def transactions(receiver) -> list[list[str]]:
    """The texts of messages that were committed, in a list for each transaction of the writer."""
    announced: list[str] = []
    committed: list[list[str]] = []

    def commit() -> None:
        # the first hook of a transaction runs after all its announcements, and before those of the next one
        if announced:
            committed.append(announced[:])
            announced.clear()

    def announce(text: str) -> None:
        announced.append(text)
        transaction.on_commit(commit)

    receiver(announce)
    return committed


# One commit for many


@in_process
def test_requests_that_wait_together_share_a_transaction(queue, mine, transactions):
    other = Instance.objects.create(name="other", integration="EVOLUTION", number="1002")
    first, last = ([received(f"text {n}", "1002") for n in numbers] for numbers in (range(10), range(10, 20)))

    outcomes = together(queue, [*first, *(published(n) for n in range(30)), *last])

    assert statuses(outcomes) == [200] * 10 + [201] * 30 + [200] * 10
    assert transactions == [[f"text {n}" for n in range(20)]], "the queue is in order: so were the others between them"
    rows = [json.loads(response.body)["events"][0]["seq"] for response in outcomes[10:40]]
    assert rows == list(range(2, 32)), "in the order in which they arrived"
    assert Event.objects.filter(instance_id=other.pk, type="messages.upsert").count() == 20
    if ON_POSTGRES:
        stored = Event.objects.exclude(type="instance.create")
        assert len(set(stored.values_list("transaction_id", flat=True))) == 1


@in_process
def test_a_transaction_takes_a_limited_number_of_requests(queue, mine, transactions, monkeypatch):
    monkeypatch.setattr(queue_module, "MAX_REQUESTS", 10)
    assert statuses(together(queue, [received(str(n)) for n in range(25)])) == [200] * 25
    assert [len(texts) for texts in transactions] == [10, 10, 5]


@in_process
def test_repeats_that_wait_together_are_one(queue, mine):
    assert statuses(together(queue, [received("same")] * 5)) == [200] * 5
    assert Message.objects.count() == 1
    assert Event.objects.filter(type="messages.upsert").count() == 1


@in_process
def test_a_large_body_does_not_wait_for_the_writer(queue, mine):
    async def submit() -> tuple[int, int]:
        blocker = Blocker()
        blocked = await blocker.block(queue)
        response = await asyncio.wait_for(queue.submit(published("x" * LARGE_BODY)), 10)
        assert not blocked.done()
        blocker.is_released.set()
        return response.status, (await blocked).status

    assert asyncio.run(submit()) == (201, 204)


# An error is one request's alone


@in_process
@pytest.mark.parametrize("count", [1, 2, 50])
def test_an_error_in_one_request_affects_no_other(queue, mine, receiver, count):
    def fail(text: str) -> None:
        if text == "bad":
            Contact.objects.create(instance=mine, remote_jid="left by the bad one")
            raise ZeroDivisionError

    receiver(fail)
    requests = [received(f"good {n}") for n in range(count - 1)]
    requests.insert(count // 2, received("bad"))

    outcomes = together(queue, requests)

    expected: list[Any] = [200] * (count - 1)
    expected.insert(count // 2, ZeroDivisionError)
    assert statuses(outcomes) == expected
    assert texts() == {f"good {n}" for n in range(count - 1)}
    assert not Contact.objects.filter(remote_jid__startswith="left").exists()
    seqs = Event.objects.filter(instance_id=mine.pk).order_by("seq").values_list("seq", flat=True)
    assert list(seqs) == list(range(1, len(seqs) + 1))


@in_process
def test_an_error_of_the_database_affects_no_other(queue, mine, receiver):
    def fail(text: str) -> None:
        if text == "bad":
            Message.objects.create(instance=mine, wa_id="bad", remote_jid="", type="", content={}, timestamp=0)

    receiver(fail)
    outcomes = together(queue, [received("good"), received("bad"), published(1), received("good too")])
    assert [outcome.status for outcome in outcomes if isinstance(outcome, IngressResponse)] == [200, 201, 200]
    assert texts() == {"good", "good too"}


@in_process
def test_each_request_is_stored_alone_if_the_commit_itself_fails(queue, mine, receiver):
    def fail(text: str) -> None:
        if text == "bad":
            Contact.objects.create(instance_id=uuid4(), remote_jid="5511")  # the foreign key is checked by COMMIT

    receiver(fail)
    outcomes = together(queue, [received("good"), received("bad"), received("good too"), published(1)])
    assert [isinstance(outcome, IngressResponse) for outcome in outcomes] == [True, False, True, True]
    assert texts() == {"good", "good too"}
    assert Event.objects.filter(type="call").count() == 1


@in_process
def test_the_entire_transaction_is_tried_again_after_a_deadlock(queue, mine, receiver):
    attempts = []

    def fail(text: str) -> None:
        attempts.append(text)
        if len(attempts) in (2, 4):
            cause = type("DeadlockDetected", (Exception,), {"sqlstate": "40P01"})()
            raise OperationalError("deadlock detected") from cause

    receiver(fail)
    assert statuses(together(queue, [received("one"), received("two")])) == [200, 200]
    assert attempts == ["one", "two"] * 3
    assert texts() == {"one", "two"}


@in_process
def test_an_error_after_the_commit_undoes_nothing_and_stops_no_other_hook(queue, mine, receiver, caplog):
    ran = []

    def after_commit(text: str) -> None:
        def hook() -> None:
            ran.append(text)
            raise ZeroDivisionError

        transaction.on_commit(hook)

    receiver(after_commit)
    assert statuses(together(queue, [received("one"), received("two")])) == [200, 200]
    assert ran == ["one", "two"]
    assert "ZeroDivisionError" in caplog.text
    assert Message.objects.count() == 2


@in_process
def test_an_event_announced_in_a_savepoint_that_is_rolled_back_is_not_recorded(queue, mine, receiver):
    def roll_back(text: str) -> None:
        with transaction.atomic():
            other = Contact.objects.create(instance=mine, remote_jid="x")
            event_occurred.send(sender=None, instance=mine, event_type="call", data=other.remote_jid)
            transaction.set_rollback(True)

    receiver(roll_back)
    assert statuses(together(queue, [received("one")])) == [200]
    assert not Event.objects.filter(type="call").exists()
    assert Event.objects.filter(type="messages.upsert").count() == 1


@pytest.mark.any_database
@in_process
def test_all_requests_fail_at_once_while_the_database_is_away(queue, mine, caplog):
    async def submit() -> list[Any]:
        return await asyncio.gather(*(queue.submit(published(n)) for n in range(20)), return_exceptions=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connections.databases["default"], "NAME", "/nowhere/db.sqlite3")
        assert statuses(asyncio.run(submit())) == [OperationalError] * 20
    assert "stored one by one" not in caplog.text


@pytest.mark.usefixtures("transactional_db", "short_connections")
def test_one_bad_request_among_fifty_over_http_is_the_only_one_that_fails(mine, node, receiver):
    def fail(text: str) -> None:
        if text == "bad":
            raise ZeroDivisionError

    async def other(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError(f"{scope['path']} is not an endpoint")

    def post(url: str, text: str) -> int:
        body = json.dumps(message(text)).encode()
        request = urllib.request.Request(f"{url}/webhook/evolution", body, {"apikey": GLOBAL_KEY}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    receiver(fail)
    with InProcessServer() as inside, ThreadPoolExecutor(25) as pool:
        inside.application.other = BodyLimit(IngressRouter([EvolutionIngress(EvolutionChannel())], other))
        client = node.connect(f"{inside.url}/mine", auth={"apikey": GLOBAL_KEY}).connected()
        posted = pool.map(lambda text: post(inside.url, text), [*(f"good {n}" for n in range(49)), "bad"])
        assert list(posted) == [200] * 49 + [500]
        emitted = {client.event("messages.upsert")["data"]["message"]["conversation"] for _ in range(49)}
        client.disconnect()

    assert emitted == {f"good {n}" for n in range(49)} == texts()


class Broken(IngressEndpoint):
    """An endpoint with an error that nobody foresees, and that is not even an Exception."""

    path = "/"

    def prepare(self, request: IngressRequest, cache: AccessCache) -> IngressResponse:
        raise SystemExit


@in_process
@pytest.mark.parametrize("size", [1, LARGE_BODY])
def test_an_unforeseen_error_stops_no_thread(queue, mine, caplog, size):
    broken = IngressRequest(Broken(), "/event/publish/mine", "", {"apikey": GLOBAL_KEY}, "", b" " * size)

    async def submit() -> list[Any]:
        failed = await asyncio.gather(*(queue.submit(broken) for _ in range(5)), return_exceptions=True)
        return [*failed, await asyncio.wait_for(queue.submit(published("x" * size)), 10)]

    assert statuses(asyncio.run(submit())) == [RuntimeError] * 5 + [201]
    assert "SystemExit" in caplog.text


# Access


@in_process
def test_access_that_changes_while_a_request_is_prepared_is_checked_again(queue, mine):
    """Rotate the token after it was checked, and before the instance is locked."""

    class RotatingIngress(PublishIngress):
        prepared = 0

        def prepare(self, request: IngressRequest, cache: AccessCache) -> Any:
            self.prepared += 1
            work = super().prepare(request, cache)
            Instance.objects.get(pk=mine.pk).rotate_token()
            return work

    endpoint = RotatingIngress()
    [outcome] = together(queue, [published(1, key=mine.token.reveal(), endpoint=endpoint)])
    assert not isinstance(outcome, IngressResponse)
    assert outcome.status_code == 401
    assert endpoint.prepared == 2


# Locks


@pytest.mark.postgres
@in_process
@pytest.mark.parametrize("model", [Instance, Stream])
def test_a_lock_on_a_row_of_one_instance_delays_no_other(queue, mine, model):
    Instance.objects.create(name="other", number="1002")
    is_locked, may_end = threading.Event(), threading.Event()

    def lock() -> None:
        with transaction.atomic():
            model.objects.select_for_update(no_key=True).get(pk=mine.pk)
            is_locked.set()
            assert may_end.wait(20)
        connection.close()

    async def submit() -> None:
        delayed = [received("a"), published(1), received("b")]
        waiting = [asyncio.create_task(queue.submit(request)) for request in delayed]
        unknown = await asyncio.wait_for(queue.submit(received("c", "nobody")), 10)
        other = await asyncio.wait_for(queue.submit(published(2, "other")), 10)
        assert (unknown, other.status) == (IngressResponse(200, b""), 201)
        assert not any(task.done() for task in waiting)
        may_end.set()
        assert statuses(await asyncio.wait_for(asyncio.gather(*waiting), 10)) == [200, 201, 200]

    locker = threading.Thread(target=lock)
    locker.start()
    assert is_locked.wait(10)
    try:
        asyncio.run(submit())
    finally:
        may_end.set()
        locker.join(20)
    assert texts() == {"a", "b"}


@pytest.mark.parametrize("processes", [1, 2])
def test_requests_for_several_instances_do_not_deadlock(server, start_server, processes):
    servers = [server, start_server()][:processes] if ON_POSTGRES else [server]
    numbers = [server.create(integration="WHATSAPP-BUSINESS", number=str(secrets.randbelow(10**14))) for _ in range(4)]

    def payload(order: list[Number]) -> dict[str, Any]:
        changes = [
            {"field": "x", "value": {"metadata": {"phone_number_id": each.number}, "n": secrets.token_hex(4)}}
            for each in order
        ]
        return {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": changes}]}

    def post(n: int) -> int:
        order = numbers[n % 4 :] + numbers[: n % 4]
        return servers[n % len(servers)].post_meta(payload(order if n % 2 else order[::-1])).status

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(post, range(60))) == {200}


# Responses follow the commit


def test_requests_with_a_response_survive_a_kill(fresh_server):
    server = fresh_server()
    instance = server.create()
    committed: list[int] = []

    def post(n: int) -> None:
        for _ in range(100):
            try:
                response = server.post(server.path("/event/publish", instance), {"event": "call", "data": n})
            except OSError:
                return
            assert response.status == 201
            committed.append(response.json["events"][0]["seq"])

    with ThreadPoolExecutor(8) as pool:
        posting = [pool.submit(post, n) for n in range(8)]
        until(lambda: len(committed) > 40, 30)
        server.kill()
        for future in posting:
            future.result()
    server.start()

    found = server.get(server.path("/event/find", instance) + "?limit=1000").json["events"]
    assert set(committed) <= {event["seq"] for event in found}
    assert [event["seq"] for event in found] == list(range(1, len(found) + 1))
