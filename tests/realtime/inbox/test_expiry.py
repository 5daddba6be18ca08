"""Inboxes that expire, and the round of the retention that deletes them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from instances import bounds
from instances.errors import ApiError
from instances.outbound.inbox_urls import InboxUrl
from realtime.inbox.models import Inbox, InboxRequest
from realtime.inbox.storage import BATCH, Post, receive
from realtime.log.retention import prune


@pytest.fixture
def maker(transactional_db):
    return User.objects.create(username="maker", is_staff=True)


def post(inbox: Inbox, body: bytes = b"{}") -> int:
    url = InboxUrl(inbox.url_id.reveal(), "")
    return receive(Post(url, [("content-type", "application/json")], body, "192.0.2.1")).status


@pytest.mark.bound("LIMIT_INBOX_HOURS")
def test_an_inbox_ends_after_a_day_and_is_deleted_with_what_it_holds(maker):
    inbox, other = Inbox.create_for(maker), Inbox.create_for(maker)
    assert inbox.expires_at - inbox.created_at == timedelta(hours=24)
    for each in (inbox, other):
        assert post(each) == 200
    more = [InboxRequest.objects.get(inbox=inbox) for _ in range(BATCH + 1)]
    for request in more:
        request.pk = None
    InboxRequest.objects.bulk_create(more)
    Inbox.objects.filter(pk=inbox.pk).update(expires_at=timezone.now())

    assert post(inbox) == 404
    assert list(Inbox.objects.live()) == [other]
    prune()
    assert list(Inbox.objects.all()) == [other]
    assert [request.inbox_id for request in InboxRequest.objects.all()] == [other.pk]


@pytest.mark.bound("LIMIT_INBOXES")
def test_a_user_has_twenty_at_a_time(maker):
    inboxes = [Inbox.create_for(maker) for _ in range(bounds.INBOXES)]
    assert len({inbox.url_id.reveal() for inbox in inboxes}) == bounds.INBOXES
    with pytest.raises(ApiError, match="You have 20 inboxes already"):
        Inbox.create_for(maker)
    Inbox.create_for(User.objects.create(username="another", is_staff=True))
    inboxes[0].delete_with_requests()
    Inbox.create_for(maker)


def test_a_user_who_is_deleted_or_inactive_leaves_an_inbox_that_takes_nothing(maker):
    inbox = Inbox.create_for(maker)
    User.objects.filter(pk=maker.pk).update(is_active=False)
    assert post(inbox) == 404
    User.objects.filter(pk=maker.pk).update(is_active=True)
    assert post(inbox) == 200
    maker.delete()
    assert post(inbox) == 404


def test_neither_the_id_nor_headers_nor_secrets_are_stored_readable(maker):
    inbox = Inbox.create_for(maker)
    inbox.use_secret("whsec_" + "A" * 32)
    receive(Post(InboxUrl(inbox.url_id.reveal(), ""), [("authorization", "Bearer hunter22")], b"{}"))
    rows = [*Inbox.objects.values_list("digest", "url_id", "signing_secret")]
    ciphers = [value if isinstance(value, str) else value.cipher for value in rows[0]]
    ciphers += [request.headers.cipher for request in InboxRequest.objects.all()]
    for hidden in (inbox.url_id.reveal(), "A" * 32, "hunter22"):
        assert not [cipher for cipher in ciphers if hidden in cipher]
