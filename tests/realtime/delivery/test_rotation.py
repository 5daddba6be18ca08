"""After a rotation both secrets sign for as long as was chosen, then the new one alone, in a process that runs on."""

from __future__ import annotations

import time

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from instances.outbound.signing_secrets import rotated
from instances.outbound.webhook_secrets import new_secret
from tests.in_process import until
from tests.realtime.delivery.deliveries import endpoint, finished, record
from tests.receiver import Receiver

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]


def test_the_old_secret_signs_until_its_overlap_ends(inside, loja):
    old, new = new_secret(), new_secret()
    with Receiver() as receiver:
        target = endpoint(loja, receiver)
        target.keep_secrets(**rotated({"signing": [old]}, new, 3, time.time()))
        target.save()
        ends_at = target.all_secrets["signing_until"]
        record(loja, 1)
        finished(1)
        until(lambda: time.time() > ends_at)
        record(loja, 2)
        finished(2)
    during, after = receiver.requests
    for secret in (old, new):
        Webhook(secret).verify(during.body, dict(during.headers))
    Webhook(new).verify(after.body, dict(after.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(after.body, dict(after.headers))
