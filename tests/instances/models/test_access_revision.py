"""The access revision: bumped by every change of who may receive which events, in its transaction, and only then."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models.signals import pre_save
from django.urls import reverse
from django.utils import timezone

from instances.access.access import Access
from instances.events import access_changed
from instances.models import AccessRevision, ApiKey, Instance, Subscription
from tests.environment import GLOBAL_KEY
from tests.instances.providers.test_cloud_api import post, text, value_with
from tests.threads import errors_in_threads


@pytest.fixture
def mine(db) -> Instance:
    Instance.objects.create(name="minha loja", number="1001")
    return Instance.objects.get(name="minha loja")


@pytest.fixture
def key(mine) -> ApiKey:
    key, _ = ApiKey.objects.issue("a test's", ["listen"])
    key.instances.add(mine)
    return key


@pytest.fixture
def signals():
    """The revision at each `access_changed` that this process received."""
    received: list[int] = []

    def receive(**kwargs: Any) -> None:
        received.append(AccessRevision.current())

    access_changed.connect(receive)
    yield received
    access_changed.disconnect(receive)


def bumps(change: Any) -> bool:
    """Return whether the change bumps the revision."""
    before = AccessRevision.current()
    change()
    return AccessRevision.current() != before


def set_and_save(obj: Any, **fields: Any) -> None:
    vars(obj).update(fields)
    obj.save()


# Changes of access

KEY_CHANGES = {
    "revoked": lambda key, mine: key.revoke(),
    "deleted": lambda key, mine: key.delete(),
    "deleted by a query": lambda key, mine: ApiKey.objects.filter(pk=key.pk).delete(),
    "expires": lambda key, mine: set_and_save(key, expires_at=timezone.now()),
    "scopes": lambda key, mine: set_and_save(key, scopes=["send"]),
    "for all": lambda key, mine: set_and_save(key, all_instances=True),
    "instance removed": lambda key, mine: key.instances.remove(mine),
    "instances set": lambda key, mine: key.instances.set([]),
    "instances cleared": lambda key, mine: key.instances.clear(),
    "removed from the other side": lambda key, mine: mine.api_keys.remove(key),
    "cleared from the other side": lambda key, mine: mine.api_keys.clear(),
    "instance added": lambda key, mine: key.instances.add(Instance.objects.create(name="another")),
    "issued": lambda key, mine: ApiKey.objects.issue("another", ["listen"]),
}
INSTANCE_CHANGES = {
    "rotated": lambda mine: mine.rotate_token(),
    "given a token": lambda mine: (mine.give_token("x"), mine.save()),
    "renamed": lambda mine: set_and_save(mine, name="loja nova"),
    "deleted": lambda mine: mine.delete(),
    "deleted by a query": lambda mine: Instance.objects.all().delete(),
    "renamed and saved in part": lambda mine: (setattr(mine, "name", "x"), mine.save(update_fields=["name"])),
}


@pytest.mark.parametrize("change", KEY_CHANGES)
def test_a_change_of_an_api_key_bumps_it(key, mine, change):
    assert bumps(lambda: KEY_CHANGES[change](key, mine))


@pytest.mark.parametrize("change", INSTANCE_CHANGES)
def test_a_change_of_an_instances_name_or_token_bumps_it(mine, change):
    assert bumps(lambda: INSTANCE_CHANGES[change](mine))


@pytest.mark.parametrize("route", ["revoke", "revoke_selected", "change", "delete", "delete_selected"])
def test_a_change_in_the_admin_bumps_it(client, key, mine, route):
    client.force_login(get_user_model().objects.create_superuser("admin"))
    changelist = reverse("admin:instances_apikey_changelist")
    chosen = {"_selected_action": [str(key.pk)], "action": route, "post": "yes"}
    form = {"name": "x", "scopes": ["send"], "instances": [str(mine.pk)], "expires_at_0": "", "expires_at_1": ""}

    def act() -> None:
        if route.endswith("_selected"):
            response = client.post(changelist, chosen)
        else:
            data = {"revoke": {}, "change": form, "delete": {"post": "yes"}}[route]
            response = client.post(reverse(f"admin:instances_apikey_{route}", args=[key.pk]), data)
        assert response.status_code == 302

    assert bumps(act)


def test_rotation_and_deletion_over_rest_bump_it(client, mine):
    headers = {"apikey": GLOBAL_KEY}
    assert bumps(lambda: client.post("/instance/rotateToken/minha loja", {}, "application/json", headers=headers))
    assert bumps(lambda: client.delete("/instance/delete/minha loja", headers=headers))
    assert not Instance.objects.exists()


# Other changes

OTHER_CHANGES = {
    "state": lambda mine: set_and_save(mine, connection_state="open"),
    "owner": lambda mine: (setattr(mine, "owner_jid", "5511@s.whatsapp.net"), mine.save(update_fields=["owner_jid"])),
    "profile": lambda mine: set_and_save(mine, profile_name="Loja", profile_pic_url="https://x"),
    "number": lambda mine: set_and_save(mine, number="2"),
    "nothing": lambda mine: mine.save(),
    "websocket": lambda mine: Subscription.set_websocket(mine, True, ["CALL"]),
    "the same token": lambda mine: mine.rotate_token(mine.token.reveal()),
    "an unsaved name": lambda mine: (setattr(mine, "name", "x"), mine.save(update_fields=["owner_jid"])),
    "only some columns": lambda mine: Instance.objects.only("owner_jid").get().save(),
    "created": lambda mine: Instance.objects.create(name="another"),
    "created and saved again": lambda mine: Instance.objects.create(name="another").save(),
    "refreshed": lambda mine: (mine.refresh_from_db(), mine.save()),
}


@pytest.mark.parametrize("change", OTHER_CHANGES)
def test_a_change_that_does_not_affect_access_does_not_bump_it(mine, change):
    assert not bumps(lambda: OTHER_CHANGES[change](mine))


def test_the_use_of_a_key_does_not_bump_it(client, mine):
    key, secret = ApiKey.objects.issue("a test's", ["read"], all_instances=True)
    assert not bumps(lambda: client.get("/instance/fetchInstances", headers={"apikey": secret}))
    key.refresh_from_db()
    assert key.last_used_at


def test_adding_an_instance_that_a_key_already_has_does_not_bump_it(key, mine):
    assert not bumps(lambda: key.instances.add(mine))


def test_minting_a_token_does_not_bump_it(mine):
    assert not bumps(lambda: Access.from_key(GLOBAL_KEY).mint(mine, ["listen"], timedelta(minutes=1)).text)


def test_inbound_messages_and_statuses_do_not_bump_it(db):
    mine = Instance.objects.create(name="minha loja", number="1001", integration="WHATSAPP-BUSINESS")
    metadata = {"phone_number_id": "1001", "display_phone_number": "5511"}
    messages = value_with(metadata=metadata, messages=[text("ABC")])
    statuses = value_with("1001", statuses=[{"id": "ABC", "status": "read", "recipient_id": "5511988887777"}])

    assert not bumps(lambda: (post(messages), post(statuses)))

    mine.refresh_from_db()
    assert mine.owner_jid
    assert [message.status for message in mine.messages.all()] == ["READ"]


# In the same transaction


@pytest.mark.parametrize("change", KEY_CHANGES)
def test_it_is_rolled_back_with_the_change(key, mine, change):
    def undone() -> None:
        with transaction.atomic():
            KEY_CHANGES[change](key, mine)
            transaction.set_rollback(True)

    assert not bumps(undone)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", KEY_CHANGES | INSTANCE_CHANGES)
def test_a_change_whose_bump_fails_is_rolled_back(change):
    def fail(**kwargs: Any) -> None:
        raise RuntimeError("no room")

    mine = Instance.objects.create(name="minha loja")
    key, _ = ApiKey.objects.issue("a test's", ["listen"])
    key.instances.add(mine)
    stored = [Instance.objects.filter(pk=mine.pk).values(), ApiKey.objects.values(), key.instances.values("name")]
    before = [str(list(rows.all())) for rows in stored]
    pre_save.connect(fail, sender=AccessRevision)
    try:
        with pytest.raises(RuntimeError):
            KEY_CHANGES[change](key, mine) if change in KEY_CHANGES else INSTANCE_CHANGES[change](mine)
    finally:
        pre_save.disconnect(fail, sender=AccessRevision)
    assert [str(list(rows.all())) for rows in stored] == before


@pytest.mark.django_db(transaction=True)
def test_access_changed_is_sent_after_the_commit_and_not_after_a_rollback(signals):
    instance = Instance.objects.create(name="minha loja")
    before = AccessRevision.current()
    with transaction.atomic():
        instance.rotate_token()
        assert signals == []
    assert signals == [before + 1]

    with transaction.atomic():
        instance.rotate_token()
        transaction.set_rollback(True)
    assert signals == [before + 1]


@pytest.mark.django_db(transaction=True)
def test_a_receiver_that_fails_rolls_nothing_back(signals, caplog):
    def fail(**kwargs: Any) -> None:
        raise RuntimeError("no room")

    instance = Instance.objects.create(name="minha loja")
    access_changed.connect(fail)
    try:
        instance.rotate_token("new-token")
    finally:
        access_changed.disconnect(fail)
    assert Access.from_key("new-token").opens(Instance.objects.get())
    assert "no room" in caplog.text


# Many at once


@pytest.mark.django_db(transaction=True)
def test_the_revision_stays_the_same_when_rows_are_folded():
    for expected in range(1, 3 * AccessRevision.FOLD_EVERY + 5):
        AccessRevision.bump()
        assert AccessRevision.current() == expected
    assert AccessRevision.objects.count() <= AccessRevision.FOLD_EVERY


@pytest.mark.django_db(transaction=True)
def test_no_bump_of_concurrent_writers_is_lost(monkeypatch):
    monkeypatch.setattr(AccessRevision, "FOLD_EVERY", 3)

    def write() -> None:
        for _ in range(20):
            AccessRevision.bump()

    assert errors_in_threads(write, write, write, write) == []
    assert AccessRevision.current() == 80


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fold_every", [1, 100])
def test_a_bump_does_not_wait_for_another_transactions(fold_every, monkeypatch):
    monkeypatch.setattr(AccessRevision, "FOLD_EVERY", fold_every)
    AccessRevision.bump()
    has_bumped, has_committed = threading.Event(), threading.Event()

    def hold_a_transaction_open() -> None:
        with transaction.atomic():
            AccessRevision.bump()
            has_bumped.set()
            assert has_committed.wait(10)

    def commit_meanwhile() -> None:
        assert has_bumped.wait(10)
        AccessRevision.bump()
        assert AccessRevision.current() == 2
        has_committed.set()

    assert errors_in_threads(hold_a_transaction_open, commit_meanwhile) == []
    assert AccessRevision.current() == 3


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_transactions_that_change_access_and_lock_instances_do_not_deadlock():
    """A single counter row would be locked by one transaction while the other waits for it: a deadlock."""
    first, second = Instance.objects.create(name="first"), Instance.objects.create(name="second")
    key, _ = ApiKey.objects.issue("a test's", ["listen"])
    before = AccessRevision.current()
    has_changed, has_locked = threading.Event(), threading.Event()

    def change_a_key_and_then_add_an_instance() -> None:
        with transaction.atomic():
            key.save()
            has_changed.set()
            assert has_locked.wait(10)
            key.instances.add(first)  # waits until it is unlocked

    def lock_the_instance_and_then_rotate_tokens() -> None:
        with transaction.atomic():
            Instance.objects.select_for_update().get(pk=first.pk)
            assert has_changed.wait(10)
            has_locked.set()
            first.rotate_token("new-token")
            second.rotate_token("new-token")

    assert errors_in_threads(change_a_key_and_then_add_an_instance, lock_the_instance_and_then_rotate_tokens) == []
    assert AccessRevision.current() == before + 4
    assert list(key.instances.all()) == [first]


@pytest.mark.django_db(transaction=True)
def test_concurrent_deletions_rotations_and_key_changes_all_succeed():
    instances = [Instance.objects.create(name=f"instance {number}") for number in range(12)]

    def rotate(chosen: list[Instance]) -> None:
        for instance in chosen:
            with transaction.atomic():
                Instance.objects.locked().get(pk=instance.pk).rotate_token()

    def delete(chosen: list[Instance]) -> None:
        for instance in chosen:
            with transaction.atomic():
                Instance.objects.select_for_update().get(pk=instance.pk).delete()

    def add_to_a_key(chosen: list[Instance]) -> None:
        for instance in chosen:
            with transaction.atomic():
                key, _ = ApiKey.objects.issue("a test's", ["listen"])
                key.instances.add(instance)

    errors = errors_in_threads(
        lambda: rotate(instances[:8]),
        lambda: rotate(instances[7::-1]),
        lambda: add_to_a_key(instances[:8]),
        lambda: add_to_a_key(instances[7::-1]),
        lambda: delete(instances[8:]),
    )
    assert errors == []
    assert Instance.objects.count() == 8
    assert ApiKey.objects.count() == 16
