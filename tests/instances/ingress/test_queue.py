"""The doors' queue: many requests share a commit, are answered after it, and none is touched by an error in another."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.utils import timezone

from instances.access.cache import AccessCache
from instances.events import event_occurred
from instances.ingress import queue as intake_module
from instances.ingress.asgi import IngressRouter
from instances.ingress.body_limit import BodyLimit
from instances.ingress.endpoint import IngressEndpoint, IngressRequest, IngressResponse, Visit
from instances.ingress.queue import LARGE, IngressQueue
from instances.ingress.webhooks import EvolutionIngress, MetaIngress
from instances.models import AccessRevision, ApiKey, Contact, Instance, Integration, Message, Subscription
from realtime.api.publish import PublishIngress
from realtime.log.models import Event
from tests.environment import GLOBAL_KEY, ON_POSTGRES
from tests.in_process import InProcessServer, until
from tests.server import Number, Server
from tests.server import Response as HttpResponse

in_process = pytest.mark.django_db(transaction=True)


@pytest.fixture
def intake(monkeypatch) -> IngressQueue:
    # its threads live on, and the database of the tests does not
    monkeypatch.setattr(intake_module, "close_old_connections", connections.close_all)
    return IngressQueue()


@pytest.fixture
def mine(db) -> Instance:
    return Instance.objects.create(name="mine", integration=Integration.EVOLUTION, number="1001")


def published(data: Any = None, instance: str = "mine", key: str = GLOBAL_KEY) -> Visit:
    body = json.dumps({"event": "call", "data": data}).encode()
    headers = {"apikey": key, "content-type": "application/json"}
    return Visit(PublishIngress(), IngressRequest(f"/event/publish/{instance}", instance, headers, "127.0.0.1", body))


def received(text: str, number: str = "1001", key: str = GLOBAL_KEY) -> Visit:
    message = {"key": {"remoteJid": "5511@s.whatsapp.net", "id": text}, "message": {"conversation": text}}
    body = json.dumps({"numberId": number} | message).encode()
    return Visit(EvolutionIngress(), IngressRequest("/webhook/evolution", "", {"apikey": key}, "127.0.0.1", body))


class Blocker(IngressEndpoint):
    """Keeps the writer busy until it is let go, so that others gather."""

    path = "/"

    def __init__(self) -> None:
        self.is_let_go = threading.Event()
        self.is_reached = threading.Event()

    def admit(self, call: IngressRequest, cache: AccessCache) -> IngressResponse:
        self.is_reached.set()
        assert self.is_let_go.wait(20)
        return IngressResponse(204, b"")


def together(intake: IngressQueue, visits: list[Visit]) -> list[Any]:
    """What requests that wait together are answered, or fail with."""

    async def enter() -> list[Any]:
        blocker = Blocker()
        first = asyncio.create_task(intake.enter(Visit(blocker, IngressRequest("/", "", {}, "", b""))))
        await asyncio.to_thread(blocker.is_reached.wait, 20)
        others = [asyncio.create_task(intake.enter(visit)) for visit in visits]
        await asyncio.sleep(0)
        blocker.is_let_go.set()
        await first
        return await asyncio.gather(*others, return_exceptions=True)

    return asyncio.run(enter())


def statuses(answers: list[Any]) -> list[Any]:
    return [answer.status if isinstance(answer, IngressResponse) else type(answer) for answer in answers]


def texts() -> set[str]:
    return {message.content["conversation"] for message in Message.objects.all()}


@pytest.fixture
def receiver() -> Iterator[Callable[[Callable[[str], Any]], None]]:
    """Has a function called, in the transaction, with the text of each message that is announced."""
    connected: list[Any] = []

    def connect(function: Callable[[str], Any]) -> None:
        def receive(event_type: str, data: Any, **kwargs: Any) -> None:
            if event_type == "messages.upsert":
                function(data["message"]["conversation"])

        event_occurred.connect(receive, weak=False)
        connected.append(receive)

    yield connect
    for one in connected:
        event_occurred.disconnect(one)


# One commit for many


@in_process
def test_requests_that_wait_together_share_a_transaction(intake, mine):
    other = Instance.objects.create(name="other", integration=Integration.EVOLUTION, number="1002")
    visits = [published(n) for n in range(30)] + [received(f"text {n}", "1002") for n in range(20)]

    answers = together(intake, visits)

    assert statuses(answers) == [201] * 30 + [200] * 20
    assert intake.batches == 2, "the one that kept the writer busy, and one for all others"
    rows = [json.loads(answer.body)["events"][0]["seq"] for answer in answers[:30]]
    assert rows == list(range(2, 32)), "in the order in which they came"
    assert Event.objects.filter(instance_id=other.pk, type="messages.upsert").count() == 20
    if ON_POSTGRES:
        stored = Event.objects.exclude(type="instance.create")
        assert len(set(stored.values_list("transaction_id", flat=True))) == 1


@in_process
def test_no_more_than_so_many_share_one(intake, mine, monkeypatch):
    monkeypatch.setattr(intake_module, "MAX_REQUESTS", 10)
    assert statuses(together(intake, [published(n) for n in range(25)])) == [201] * 25
    assert intake.batches == 4


@in_process
def test_repeats_that_wait_together_are_one(intake, mine):
    assert statuses(together(intake, [received("same")] * 5)) == [200] * 5
    assert Message.objects.count() == 1
    assert Event.objects.filter(type="messages.upsert").count() == 1


@in_process
def test_a_large_body_goes_its_own_way(intake, mine):
    [answer] = together(intake, [published("x" * LARGE)])
    assert answer.status == 201
    assert intake.batches == 1


# An error is one request's alone


@in_process
@pytest.mark.parametrize("count", [1, 2, 50])
def test_an_error_in_one_touches_no_other(intake, mine, receiver, count):
    def fail(text: str) -> None:
        if text == "bad":
            Contact.objects.create(instance=mine, remote_jid="left by the bad one")
            raise ZeroDivisionError

    receiver(fail)
    visits = [received(f"good {n}") for n in range(count - 1)]
    visits.insert(count // 2, received("bad"))

    answers = together(intake, visits)

    expected: list[Any] = [200] * (count - 1)
    expected.insert(count // 2, ZeroDivisionError)
    assert statuses(answers) == expected
    assert texts() == {f"good {n}" for n in range(count - 1)}
    assert not Contact.objects.filter(remote_jid__startswith="left").exists()
    seqs = Event.objects.filter(instance_id=mine.pk).order_by("seq").values_list("seq", flat=True)
    assert list(seqs) == list(range(1, len(seqs) + 1))


@in_process
def test_an_error_of_the_database_touches_no_other(intake, mine, receiver):
    def fail(text: str) -> None:
        if text == "bad":
            Message.objects.create(instance=mine, wa_id="bad", remote_jid="", type="", content={}, timestamp=0)

    receiver(fail)
    answers = together(intake, [received("good"), received("bad"), published(1), received("good too")])
    assert [answer.status for answer in answers if isinstance(answer, IngressResponse)] == [200, 201, 200]
    assert texts() == {"good", "good too"}


@in_process
def test_where_the_commit_itself_fails_each_is_stored_alone(intake, mine, receiver):
    def fail(text: str) -> None:
        if text == "bad":
            Contact.objects.create(instance_id=uuid4(), remote_jid="5511")  # the foreign key is looked at by COMMIT

    receiver(fail)
    answers = together(intake, [received("good"), received("bad"), received("good too"), published(1)])
    assert [isinstance(answer, IngressResponse) for answer in answers] == [True, False, True, True]
    assert texts() == {"good", "good too"}
    assert Event.objects.filter(type="call").count() == 1


@in_process
def test_a_deadlock_is_tried_again_whole(intake, mine, receiver):
    attempts = []

    def fail(text: str) -> None:
        attempts.append(text)
        if len(attempts) in (2, 4):
            cause = type("DeadlockDetected", (Exception,), {"sqlstate": "40P01"})()
            raise OperationalError("deadlock detected") from cause

    receiver(fail)
    assert statuses(together(intake, [received("one"), received("two")])) == [200, 200]
    assert attempts == ["one", "two"] * 3
    assert texts() == {"one", "two"}


@in_process
def test_what_fails_after_the_commit_undoes_nothing_and_silences_nobody(intake, mine, receiver, caplog):
    ran = []

    def after_commit(text: str) -> None:
        def hook() -> None:
            ran.append(text)
            raise ZeroDivisionError

        transaction.on_commit(hook)

    receiver(after_commit)
    assert statuses(together(intake, [received("one"), received("two")])) == [200, 200]
    assert ran == ["one", "two"]
    assert "ZeroDivisionError" in caplog.text
    assert Message.objects.count() == 2


@in_process
def test_what_was_told_in_a_savepoint_that_was_given_up_did_not_happen(intake, mine, receiver):
    def give_up(text: str) -> None:
        with transaction.atomic():
            other = Contact.objects.create(instance=mine, remote_jid="x")
            event_occurred.send(sender=None, instance=mine, event_type="call", data=other.remote_jid)
            transaction.set_rollback(True)

    receiver(give_up)
    assert statuses(together(intake, [received("one")])) == [200]
    assert not Event.objects.filter(type="call").exists()
    assert Event.objects.filter(type="messages.upsert").count() == 1


@in_process
def test_a_database_that_is_away_is_told_to_all_at_once(intake, mine, monkeypatch):
    def away() -> int:
        raise OperationalError("away")

    monkeypatch.setattr(AccessRevision, "current", away)

    async def enter() -> list[Any]:
        return await asyncio.gather(*(intake.enter(published(n)) for n in range(20)), return_exceptions=True)

    assert statuses(asyncio.run(enter())) == [OperationalError] * 20
    assert intake.batches <= 2


def test_one_bad_among_fifty_over_http_is_the_only_one_that_fails(transactional_db, mine, node, receiver, monkeypatch):
    monkeypatch.setattr(intake_module, "close_old_connections", connections.close_all)

    def fail(text: str) -> None:
        if text == "bad":
            raise ZeroDivisionError

    receiver(fail)

    def post(inside: InProcessServer, text: str) -> int:
        one = Server.__new__(Server)
        one.url = inside.url
        message = {"key": {"remoteJid": "5511@s.whatsapp.net", "id": text}, "message": {"conversation": text}}
        return one.post("/webhook/evolution", {"numberId": "1001"} | message).status

    with InProcessServer() as inside, ThreadPoolExecutor(25) as pool:
        doors = IngressRouter([EvolutionIngress(), MetaIngress(), PublishIngress()], inside.application._other)
        inside.application.other = BodyLimit(doors)
        client = node.connect(f"{inside.url}/mine", auth={"apikey": GLOBAL_KEY}).connected()
        answers = list(pool.map(lambda text: post(inside, text), [*(f"good {n}" for n in range(49)), "bad"]))
        heard = {client.event("messages.upsert")["data"]["message"]["conversation"] for _ in range(49)}
        client.disconnect()

    assert answers == [200] * 49 + [500]
    assert heard == {f"good {n}" for n in range(49)} == texts()


# Locks


@pytest.mark.postgres
@in_process
def test_a_lock_on_one_instance_holds_up_no_other(intake, mine):
    Instance.objects.create(name="other", number="1002")
    is_held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Instance.objects.locked().get(pk=mine.pk)
            is_held.set()
            assert may_end.wait(20)
        connection.close()

    async def enter() -> None:
        waiting = [asyncio.create_task(intake.enter(visit)) for visit in (received("a"), published(1), received("b"))]
        nobody = await asyncio.wait_for(intake.enter(received("c", "nobody")), 10)
        other = await asyncio.wait_for(intake.enter(published(2, "other")), 10)
        assert (nobody, other.status) == (IngressResponse(200, b""), 201)
        assert not any(task.done() for task in waiting)
        may_end.set()
        assert statuses(await asyncio.wait_for(asyncio.gather(*waiting), 10)) == [200, 201, 200]

    holder = threading.Thread(target=hold)
    holder.start()
    assert is_held.wait(10)
    try:
        asyncio.run(enter())
    finally:
        may_end.set()
        holder.join(20)
    assert texts() == {"a", "b"}


@pytest.mark.parametrize("processes", [1, 2])
def test_many_that_address_several_instances_do_not_wait_for_each_other_for_ever(server, start_server, processes):
    servers = [server, start_server()][:processes] if ON_POSTGRES else [server]
    numbers = [server.create(integration="WHATSAPP-BUSINESS", number=str(secrets.randbelow(10**14))) for _ in range(4)]

    def payload(order: list[Number]) -> dict[str, Any]:
        changes = [
            {"field": "x", "value": {"metadata": {"phone_number_id": one.number}, "n": secrets.token_hex(4)}}
            for one in order
        ]
        return {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": changes}]}

    def post(n: int) -> int:
        order = numbers[n % 4 :] + numbers[: n % 4]
        return servers[n % len(servers)].post_meta(payload(order if n % 2 else order[::-1])).status

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(post, range(60))) == {200}


# Answers come after the commit


def test_what_was_answered_survives_a_kill(fresh_server):
    server = fresh_server()
    instance = server.create()
    answered: list[int] = []

    def post(n: int) -> None:
        for _ in range(100):
            try:
                answer = server.post(server.path("/event/publish", instance), {"event": "call", "data": n})
            except OSError:
                return
            assert answer.status == 201
            answered.append(answer.json["events"][0]["seq"])

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(post, n) for n in range(8)]
        until(lambda: len(answered) > 40, 30)
        server.kill()
        for one in done:
            one.result()
    server.start()

    found = server.get(server.path("/event/find", instance) + "?limit=1000").json["events"]
    assert set(answered) <= {event["seq"] for event in found}
    assert [event["seq"] for event in found] == list(range(1, len(found) + 1))


# What is remembered of keys


def publish(server: Server, instance: Number, key: str) -> HttpResponse:
    return server.post(server.path("/event/publish", instance), {"event": "call", "data": 1}, key=key)


def test_another_token_is_obeyed_at_once(server):
    instance = server.create()
    other = server.create()
    assert [publish(server, instance, key).status for key in (instance.token, other.token)] == [201, 401]

    rotated = server.post(server.path("/instance/rotateToken", instance), {}, key=instance.token)

    assert publish(server, instance, instance.token).status == 401
    assert publish(server, instance, rotated.json["hash"]).status == 201


def test_what_another_process_does_to_a_key_is_obeyed(server):
    instance = server.create()
    made = server.shell(
        "from instances.models import ApiKey, Instance\n"
        "key, secret = ApiKey.objects.issue('a test', ['publish'])\n"
        f"key.instances.add(Instance.objects.get(name={instance.name!r}))\n"
        "print(key.pk, secret)\n"
    )
    pk, secret = made.split()
    for change, status in [
        ("key.instances.clear()", 401),
        (f"key.instances.add(Instance.objects.get(name={instance.name!r}))", 201),
        ("key.scopes = ['read']; key.save()", 403),
        ("key.scopes = ['publish']; key.save()", 201),
        ("key.revoke()", 401),
    ]:
        publish(server, instance, secret)
        find = f"from instances.models import ApiKey, Instance\nkey = ApiKey.objects.get(pk={pk})\n"
        server.shell(find + change)
        assert publish(server, instance, secret).status == status, change


def test_a_wrong_key_is_not_remembered(server):
    instance = server.create()
    assert publish(server, instance, "a-token-to-come-0123").status == 401
    server.post(server.path("/instance/rotateToken", instance), {"token": "a-token-to-come-0123"}, key=instance.token)
    assert publish(server, instance, "a-token-to-come-0123").status == 201


def test_what_sockets_want_is_obeyed_at_once(server):
    instance = server.create()

    def is_heard() -> bool:
        seq = publish(server, instance, instance.token).json["events"][0]["seq"]
        found = server.get(server.path("/event/find", instance) + f"?after={seq - 1}").json["events"]
        return [event["seq"] for event in found] == [seq]

    assert is_heard()
    for websocket, expected in [
        ({"enabled": False}, False),
        ({"enabled": True, "events": ["CALL"]}, True),
        ({"enabled": True, "events": ["QRCODE_UPDATED"]}, False),
    ]:
        server.post(server.path("/websocket/set", instance), {"websocket": websocket}, key=instance.token)
        assert is_heard() == expected


@in_process
def test_hits_are_remembered_until_access_changes(mine, django_assert_num_queries):
    key, secret = ApiKey.objects.issue("a test's", ["publish"])
    key.instances.add(mine)
    key.record_use()
    cache = AccessCache()

    def look() -> tuple[bool, bool]:
        cache.renew()
        access = cache.access(secret)
        return access is not None, access is not None and cache.opens(access, mine)

    assert look() == (True, True)
    with django_assert_num_queries(1):
        assert look() == (True, True)
    mine.connection_state = "connecting"
    mine.save()
    Subscription.set_websocket(mine, True, ["CALL"])
    assert look() == (True, True)
    key.revoke()
    assert look() == (False, False)


@in_process
def test_a_key_that_is_remembered_expires(mine, monkeypatch):
    _, secret = ApiKey.objects.issue("a test's", ["publish"], expires_at=timezone.now() + timedelta(minutes=1))
    cache = AccessCache()
    cache.renew()
    assert cache.access(secret)
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now + timedelta(minutes=2))
    assert cache.access(secret) is None


@in_process
def test_access_that_changes_while_a_request_is_let_in_is_looked_at_again(intake, mine, monkeypatch):
    """Between the look at the key and the lock on the instance."""
    token = mine.token.reveal()
    admit = PublishIngress.admit
    calls = []

    def admit_and_rotate(door: PublishIngress, call: IngressRequest, cache: AccessCache) -> Any:
        calls.append(call)
        admitted = admit(door, call, cache)
        if len(calls) == 1:
            Instance.objects.get(pk=mine.pk).rotate_token()
        return admitted

    monkeypatch.setattr(PublishIngress, "admit", admit_and_rotate)
    [answer] = together(intake, [published(1, key=token)])
    assert not isinstance(answer, IngressResponse)
    assert answer.status_code == 401
    assert len(calls) == 2


# The same answer by either way


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/event/publish/nobody", b'{"event": "call", "data": 1}', {}),
        ("/event/publish/nobody", b"{", {}),
        ("/event/publish/nobody", b"{}", {"apikey": "wrong"}),
        ("/webhook/evolution", b"{", {}),
        ("/webhook/evolution", b"{}", {"apikey": ""}),
        ("/webhook/evolution", b'{"numberId": "nobody"}', {}),
        ("/webhook/meta", b"{}", {}),
        ("/webhook/meta", b"{}", {"X-Hub-Signature-256": "sha256=x"}),
    ],
)
def test_a_door_answers_as_the_django_view_does(server, client, db, path, body, headers):
    sent = {"apikey": GLOBAL_KEY, "Origin": "https://panel.example"} | headers
    straight = server.request("POST", path, body, key=None, headers=sent)
    through = client.post(path, body, content_type="application/json", headers=sent)

    assert (straight.status, straight.body) == (through.status_code, through.content)
    ignored = {"date", "connection", "content-length"}
    got, expected = (
        {name.lower(): value for name, value in answer.headers.items() if name.lower() not in ignored}
        for answer in (straight, through)
    )
    assert got == expected


def test_a_server_of_another_name_takes_nothing_in(server):
    answer = server.post("/webhook/evolution", {"numberId": "1"}, headers={"Host": "evil.example"})
    assert answer.status == 400
    assert "ALLOWED_HOSTS" in answer.json["response"]["message"][0]


@pytest.mark.any_database
def test_only_origins_that_the_operator_names_read_a_door(start_server):
    server = start_server(CORS_ORIGIN="https://panel.example")
    for origin, expected in [("https://panel.example", "https://panel.example"), ("https://evil.example", None)]:
        answer = server.post("/webhook/evolution", {}, headers={"Origin": origin})
        assert answer.headers["Access-Control-Allow-Origin"] == expected
