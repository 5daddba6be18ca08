from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

import orjson
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import models, transaction
from django.utils import timezone

from instances.bounds import INBOX_HEADER_BYTES, INBOX_HOURS, INBOXES
from instances.crypto import Secret, digest, digests
from instances.errors import ApiError
from instances.fields import EncryptedField, PlainField
from instances.outbound.inbox_urls import ID_BYTES
from realtime.inbox.signature import Finding, Verdict, check

#: Names and values of headers, in their order.
HeaderList = Sequence[tuple[str, str]]


class InboxQuerySet(models.QuerySet["Inbox"]):
    def live(self) -> InboxQuerySet:
        """Inboxes that have not expired, of users who are active."""
        return self.filter(expires_at__gt=timezone.now(), owner__is_active=True)

    def with_url_id(self, url_id: str) -> InboxQuerySet:
        """The inbox with this id in its URL; the effort is the same for every id."""
        return self.filter(digest__in=digests(url_id))


class Inbox(models.Model):
    """A URL that takes POST requests, which its owner alone sees. Its id in the URL is 128 random bits."""

    # without a constraint: a user's page in the admin would read all bodies to delete them with him; they expire soon
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.DO_NOTHING, db_constraint=False, related_name="inboxes")
    #: The digest of the id in its URL, by which it is found.
    digest = models.CharField(max_length=64, unique=True, editable=False)
    url_id = EncryptedField(editable=False)
    signing_secret = EncryptedField(
        null=True, editable=False, help_text="Checks what others than this server have signed."
    )
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    #: The beginning of the minute in which requests are counted, and their number.
    minute_began_at = models.DateTimeField(null=True, editable=False)
    minute_count = models.IntegerField(default=0, editable=False)

    objects: ClassVar[Any] = InboxQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "inboxes"
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"inbox {self.pk}"

    @classmethod
    def create_for(cls, owner: Any) -> Inbox:
        """Make an inbox for a user. Raises ApiError (409) if he has as many as he may."""
        with transaction.atomic():
            # of two requests at the same time, one waits for the other's inbox to be counted
            get_user_model()._default_manager.select_for_update(no_key=True).get(pk=owner.pk)
            if cls.objects.live().filter(owner=owner).count() >= INBOXES:
                raise ApiError(f"You have {INBOXES} inboxes already: delete one that you no longer need", 409)
            url_id, now = secrets.token_urlsafe(ID_BYTES), timezone.now()
            return cls.objects.create(
                owner=owner,
                digest=digest(url_id),
                url_id=Secret(url_id),
                created_at=now,
                expires_at=now + timedelta(hours=INBOX_HOURS),
            )

    def use_secret(self, secret: str) -> None:
        """Check by this secret, or by none if it is empty, what others have signed: what has come already, too."""
        with transaction.atomic():
            self.signing_secret = Secret(secret) if secret else None
            self.save(update_fields=["signing_secret"])
            for request in self.requests.filter(endpoint_id=None):
                request.keep_finding(
                    self.judge(request.header_list, bytes(request.body), request.received_at.timestamp())
                )
                request.save(update_fields=["verdict", "reason"])

    def judge(self, headers: HeaderList, body: bytes, at: float) -> Finding:
        """Check the signature of a request that this server has not sent. Raises UnreadableSecret."""
        known = [self.signing_secret.reveal()] if self.signing_secret else []
        return check(by_name(headers), body, known, at, "of this inbox")

    def delete_with_requests(self) -> None:
        with transaction.atomic():
            self.requests.all().delete()
            self.delete()


class InboxRequest(models.Model):
    """A POST request to an inbox."""

    inbox = models.ForeignKey(Inbox, models.CASCADE, related_name="requests")
    received_at = models.DateTimeField()
    #: The client's address; empty for a delivery of this server.
    address = PlainField(max_length=64, default="")
    #: The path behind the inbox's id, and the query.
    path = PlainField(max_length=2048, default="")
    #: A JSON list of names and values; they may hold keys.
    headers = EncryptedField()
    #: True if headers were left out, because they were too long.
    has_more_headers = models.BooleanField(default=False)
    body = models.BinaryField()
    size = models.IntegerField()
    #: The endpoint whose delivery it is, 0 or below for one of the environment; None for a request of others.
    endpoint_id = models.BigIntegerField(null=True)
    verdict = models.CharField(max_length=16, choices=[(each.value, each.value) for each in Verdict])
    #: A sentence about the verdict.
    reason = PlainField(max_length=255)

    objects: ClassVar[Any] = models.Manager()

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"request {self.pk}"

    @property
    def header_list(self) -> HeaderList:
        """The headers. Raises UnreadableSecret."""
        return [(name, value) for name, value in orjson.loads(self.headers.reveal())]

    def keep_headers(self, headers: HeaderList) -> None:
        """Set the first headers that fit into INBOX_HEADER_BYTES."""
        kept, size = [], 0
        for name, value in headers:
            size += len(name) + len(value)
            if size > INBOX_HEADER_BYTES:
                break
            kept.append((name, value))
        self.headers = Secret(orjson.dumps(kept).decode())
        self.has_more_headers = len(kept) < len(headers)

    def keep_finding(self, finding: Finding) -> None:
        """Set the verdict on the signature."""
        self.verdict, self.reason = finding.verdict.value, finding.reason


def by_name(headers: HeaderList) -> dict[str, str]:
    """Return headers by their names in lower case, the values of one name joined by commas."""
    values: dict[str, str] = {}
    for name, value in headers:
        values[name.lower()] = f"{values[name.lower()]}, {value}" if name.lower() in values else value
    return values
