import pytest


@pytest.fixture(autouse=True)
def no_network_is_allowed(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = []
