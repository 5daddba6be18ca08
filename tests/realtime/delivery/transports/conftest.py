"""A raw receiver that tenants may send to, and a webhook transport."""

from ipaddress import ip_network

import pytest

from realtime.delivery.transports.webhook import Webhook
from tests.realtime.delivery.transports.raw_receiver import Receiver


@pytest.fixture
async def receiver(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    settings.WEBHOOK_REQUEST_TIMEOUT_MS = 10_000
    started = Receiver()
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def webhook():
    created = Webhook()
    yield created
    await created.close()
