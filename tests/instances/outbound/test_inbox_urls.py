"""URLs that are this server's inboxes, and those that only look so."""

from __future__ import annotations

import pytest

from instances.outbound.inbox_urls import InboxUrl, check_receiver, inbox_path, inbox_url, url_of
from instances.outbound.webhook_urls import is_same_origin

pytestmark = pytest.mark.any_database

ID = "3QYAbTvzmO1TplmBe-X9lA"


@pytest.fixture(autouse=True)
def known(settings):
    settings.SERVER_URL, settings.SERVER_HOST, settings.SERVER_PORT = "https://evo.example.com", "192.168.7.7", 8080
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", "evo.example.com", "192.168.7.7", "gate.example.com"]
    settings.WEBHOOK_ALLOWED_NETWORKS = []


@pytest.mark.parametrize(
    "base",
    [
        "https://evo.example.com",
        "https://evo.example.com:443",
        "HTTPS://EVO.example.com",
        "http://evo.example.com",
        "http://gate.example.com:8080",
        "https://gate.example.com",
        "http://localhost:8080",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
        "http://192.168.7.7:8080",
    ],
)
def test_an_inbox_of_this_server_is_recognized_by_any_of_its_names(base):
    assert inbox_url(f"{base}/inbox/{ID}") == InboxUrl(ID, "")
    check_receiver(f"{base}/inbox/{ID}/messages-upsert?token=x")
    assert inbox_url(f"{base}/inbox/{ID}/messages-upsert?token=x") == InboxUrl(ID, "/messages-upsert?token=x")


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1:8081/inbox/{ID}",
        f"http://127.0.0.1/inbox/{ID}",
        f"https://127.0.0.1:8080/inbox/{ID}",
        f"http://127.0.0.2:8080/inbox/{ID}",
        f"http://127.1:8080/inbox/{ID}",
        f"http://127.0.0.1:8080@10.0.0.1/inbox/{ID}",
        f"http://x@127.0.0.1:8080/inbox/{ID}",
        f"http://127.0.0.1:8080\\@10.0.0.1/inbox/{ID}",
        f"http://10.0.0.1:8080/inbox/{ID}",
        f"http://10.0.0.1#@127.0.0.1:8080/inbox/{ID}",
        f"http://10.0.0.1?127.0.0.1:8080/inbox/{ID}",
        f"http://127.0.0.1:8080/other/inbox/{ID}",
        f"http://127.0.0.1:8080//inbox/{ID}",
        f"http://127.0.0.1:8080/inbox/{ID[:-1]}",
        f"http://127.0.0.1:8080/inbox/{ID}A",
        f"http://127.0.0.1:8080/INBOX/{ID}",
        f"http://127.0.0.1:8080/inbox/%33{ID[1:]}",
        f"http://127.0.0.1:8080/%69nbox/{ID}",
        f"http://127.0.0.1:8080/inbox/{ID}/../../admin/",
        f"http://127.0.0.1:8080/inbox/{ID}/x/y",
        f"http://127.0.0.1:8080/inbox/{ID}#x",
        f"http://127.0.0.1:8080/inbox/{ID} ",
        f"http://127.0.0.1:8080/inbox/{ID}\n",
        f"ftp://127.0.0.1:8080/inbox/{ID}",
        f"http://[::1]:8081/inbox/{ID}",
    ],
)
def test_a_url_that_only_looks_like_one_is_left_to_the_ssrf_guard(url):
    assert inbox_url(url) is None
    with pytest.raises(ValueError, match=r"\w"):
        check_receiver(url)


def test_the_inbox_of_another_host_is_an_ordinary_url():
    assert inbox_url(f"https://evo.example.org/inbox/{ID}") is None
    check_receiver(f"https://evo.example.org/inbox/{ID}")


def test_a_server_below_a_path_has_its_inboxes_there(settings):
    settings.SERVER_URL = "https://example.com/evo"
    assert url_of(ID) == f"https://example.com/evo/inbox/{ID}"
    assert inbox_url(url_of(ID)) == InboxUrl(ID, "")
    assert inbox_url(f"https://example.com/evil/inbox/{ID}") is None


def test_without_a_server_url_deliveries_go_by_the_address_that_is_listened_on(settings):
    settings.SERVER_URL = ""
    assert url_of(ID) == f"http://192.168.7.7:8080/inbox/{ID}"
    settings.SERVER_HOST = "0.0.0.0"
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", "*"]
    assert url_of(ID) == f"http://127.0.0.1:8080/inbox/{ID}"
    assert inbox_url(f"http://192.168.9.9:8080/inbox/{ID}")
    assert inbox_url(f"http://evoapi:8080/inbox/{ID}")
    assert inbox_url(f"http://rebound.example.org:8080/inbox/{ID}") is None


def test_the_path_of_a_request_is_read_as_that_of_a_url():
    assert inbox_path(f"/inbox/{ID}", "") == InboxUrl(ID, "")
    assert inbox_path(f"/inbox/{ID}/call", "a=b") == InboxUrl(ID, "/call?a=b")
    for path in ("/inbox/", f"/inbox/{ID}/", f"/inbox/{ID}x", f"/inbox/{ID}/a/b", "/inbox/\x00"):
        assert inbox_path(path, "") is None


def test_headers_that_are_kept_for_one_inbox_are_not_sent_to_another():
    mine, other = f"http://127.0.0.1:8080/inbox/{ID}", f"http://127.0.0.1:8080/inbox/{ID[::-1]}"
    assert is_same_origin(mine, mine)
    assert not is_same_origin(mine, other)
