"""URLs of webhooks as they are shown to those who may not manage them."""

from __future__ import annotations

import pytest

from instances.outbound.webhook_urls import masked_url

pytestmark = pytest.mark.any_database


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.slack.com/services/T0/B0/of-the-tenant", "https://hooks.slack.com/********"),
        (
            "https://api.telegram.org/bot1:of-the-tenant/send?x=1&y",
            "https://api.telegram.org/********?x=********&********",
        ),
        ("http://a.example:81/in#of-the-tenant", "http://a.example:81/********#********"),
        ("http://a.example:81/", "http://a.example:81/"),
        ("http://a.example?token=1", "http://a.example?token=********"),
        ("exchange loja, queue loja.call", "exchange loja, queue loja.call"),
        ("", ""),
    ],
)
def test_path_and_query_are_masked(url, shown):
    assert masked_url(url) == shown
