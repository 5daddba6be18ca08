"""Log-ins at the admin: guesses are limited by address and name, nothing is stored for one, and who has a session or a
key waits behind none of them.
"""

from __future__ import annotations

import http.client
import itertools
import json
import secrets
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from urllib.parse import urlencode

import pytest

from tests.clients.staff import Staff, url
from tests.environment import GLOBAL_KEY
from tests.server import Server

# hashing takes CPU time in other threads, which the watchdog counts, but not the GIL: the loop has its turns
pytestmark = pytest.mark.any_database

PASSWORD = "a-long-password-of-the-tests"
TOKEN = "a" * 32
CREATE = "from django.contrib.auth.models import User; User.objects.create_superuser({!r}, password={!r})"
COUNT = """
import json
from django.apps import apps
print(json.dumps({model._meta.label: model._default_manager.count() for model in apps.get_models()}))
"""
#: Addresses and names that no other test uses.
addresses = (f"198.51.{high}.{low}" for high, low in itertools.product(range(256), range(1, 255)))
names = (f"name {number}" for number in itertools.count())


def running(environment, **limits):
    """Run a server behind a proxy, so that tests choose their addresses."""
    server = Server(environment | {"TRUSTED_PROXIES": "127.0.0.1"} | limits)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def strict(environment):
    limits = {"LIMIT_LOG_INS": "3", "LIMIT_LOG_INS_OF_NAME": "1", "LIMIT_LOG_INS_UNSLOWED": "1"}
    yield from running(environment, **limits, LIMIT_LOG_IN_DELAY="3")


@pytest.fixture(scope="module")
def short_queue(environment):
    """A server that limits no address and no name, and lets four log-ins wait."""
    limits = ("LIMIT_LOG_INS", "LIMIT_LOG_INS_OF_NAME", "LIMIT_LOG_INS_UNSLOWED")
    yield from running(environment, **dict.fromkeys(limits, "10000"), LIMIT_PASSWORD_QUEUE="4")


@pytest.fixture
def root(server):
    """The name of a user with the password PASSWORD."""
    name = f"root-{secrets.token_hex(4)}"
    server.shell(CREATE.format(name, PASSWORD))
    return name


def post(server, body, headers=None):
    """Post a form over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    known = {"Cookie": f"csrftoken={TOKEN}", "Content-Type": "application/x-www-form-urlencoded"}
    try:
        connection.request("POST", "/admin/login/", body, known | (headers or {}))
        response = connection.getresponse()
        response.content = response.read()
        return response
    finally:
        connection.close()


def log_in(server, name, password="wrong", address="", **headers):
    form = {"username": name, "password": password, "csrfmiddlewaretoken": TOKEN}
    return post(server, urlencode(form), headers | ({"X-Forwarded-For": address} if address else {}))


def message(response):
    return json.loads(response.content)["response"]["message"]


@pytest.mark.bound("LIMIT_LOG_INS")
@pytest.mark.bound("LIMIT_LOG_INS_OF_NAME")
@pytest.mark.bound("LIMIT_LOG_INS_PER_MINUTE")
@pytest.mark.bound("LIMIT_LOG_INS_OF_NAME_PER_MINUTE")
def test_guesses_are_limited_by_address_and_by_address_and_name(strict, root):
    address = next(addresses)
    assert [log_in(strict, root, address=address).status for _ in range(3)] == [200, 429, 429]
    assert [log_in(strict, next(names), address=address).status for _ in range(3)] == [200, 200, 429]
    refused = log_in(strict, root, PASSWORD, address)
    assert (refused.status, message(refused)) == (429, ["Too many log-ins from this address; try again later"])
    assert int(refused.headers["Retry-After"]) > 0


def test_another_sites_page_locks_nobody_out(strict, root):
    """Forms that a page makes the browser of a user send are refused, and do not count for the user's address."""
    address, form = next(addresses), urlencode({"username": root, "password": "wrong"})
    for headers in ({"Cookie": ""}, {"Origin": "https://evil.example"}) * 2:
        assert post(strict, form, {"X-Forwarded-For": address} | headers).status == 403
    assert log_in(strict, root, PASSWORD, address).status == 302


@pytest.mark.bound("LIMIT_LOG_INS_UNSLOWED")
@pytest.mark.bound("LIMIT_LOG_IN_DELAY")
def test_a_name_that_is_guessed_is_slowed_and_not_locked(strict, root):
    assert log_in(strict, root, address=next(addresses)).status == 200
    with ThreadPoolExecutor(2) as pool:
        slowed = pool.submit(log_in, strict, root, PASSWORD, next(addresses))
        other = pool.submit(log_in, strict, next(names), "wrong", next(addresses))
        done, _ = wait([slowed, other], return_when=FIRST_COMPLETED)
        assert done == {other}
        assert (slowed.result().status, other.result().status) == (302, 200)


@pytest.mark.parametrize("spellings", [("Jürgen", "JÜRGEN", " jürgen", "\uff4aürgen"), ("x" * 5000, "X" * 5000)])
def test_a_name_is_one_however_it_is_spelled(strict, spellings):
    address = next(addresses)
    statuses = [log_in(strict, name, address=address).status for name in spellings]
    assert statuses == [200] + [429] * (len(spellings) - 1)


def test_the_addresses_of_an_ipv6_network_are_one(strict):
    statuses = [log_in(strict, next(names), address=f"2001:db8:1:2::{n}").status for n in range(4)]
    assert statuses == [200, 200, 200, 429]
    assert log_in(strict, next(names), address="2001:db8:1:3::1").status == 200


def test_right_log_ins_do_not_count(strict, root):
    address = next(addresses)
    assert [log_in(strict, root, PASSWORD, address).status for _ in range(4)] == [302] * 4
    assert log_in(strict, root, "wrong", address).status == 200
    assert log_in(strict, root, PASSWORD, address).status == 429


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("multipart/form-data; boundary=x", 415),
        ("application/json", 415),
        ("", 415),
        ("APPLICATION/x-www-form-urlencoded; charset=utf-8", 200),
    ],
)
def test_a_log_in_is_a_form(strict, content_type, status):
    headers = {"Content-Type": content_type}
    assert log_in(strict, next(names), address=next(addresses), **headers).status == status


def test_of_several_names_in_a_form_the_one_counts_that_django_takes(strict):
    address, form = next(addresses), {"password": "wrong", "csrfmiddlewaretoken": TOKEN, "username": next(names)}
    bodies = [f"username={next(names)}&{urlencode(form)}" for _ in range(2)]
    assert [post(strict, body, {"X-Forwarded-For": address}).status for body in bodies] == [200, 429]


@pytest.mark.bound("LIMIT_LOG_IN_BYTES")
def test_a_log_in_of_many_bytes_or_fields_is_refused(strict, root):
    assert log_in(strict, "x" * 17_000, address=next(addresses)).status == 413
    fields = "&".join(f"{n}=" for n in range(2000))
    assert post(strict, fields, {"X-Forwarded-For": next(addresses)}).status == 400
    assert log_in(strict, root, PASSWORD, next(addresses)).status == 302


def test_nothing_is_stored_for_a_guess(strict):
    before = json.loads(strict.shell(COUNT))
    assert log_in(strict, next(names), address=next(addresses)).status == 200
    assert json.loads(strict.shell(COUNT)) == before


@pytest.mark.slow
@pytest.mark.bound("LIMIT_PASSWORD_HASHES")
@pytest.mark.bound("LIMIT_PASSWORD_QUEUE")
def test_few_log_ins_wait_and_nobody_else_waits_for_them(short_queue):
    staff = Staff(short_queue, is_superuser=True)
    with ThreadPoolExecutor(32) as pool:
        log_ins = [pool.submit(log_in, short_queue, next(names), address=next(addresses)) for _ in range(32)]
        wait(log_ins, return_when=FIRST_COMPLETED)  # those that are refused
        assert short_queue.get("/instance/fetchInstances", key=GLOBAL_KEY).status == 200
        assert staff.get("/admin/").status == 200
        hashed = [each for each in log_ins if each.done() and each.result().status == 200]
    assert len(hashed) < 2 + 4
    responses = [each.result() for each in log_ins]
    statuses = Counter(response.status for response in responses)
    assert set(statuses) == {200, 429}
    assert statuses[200] >= 2 + 4
    refused = next(response for response in responses if response.status == 429)
    assert "wait already" in message(refused)[0]
    assert refused.headers["Retry-After"] == "5"


@pytest.mark.parametrize("one", ["address", "name"])
def test_one_address_and_one_name_have_half_of_the_queue(short_queue, one):
    guesses = [(next(names), next(addresses)) for _ in range(16)]
    if one == "name":
        guesses = [(guesses[0][0], address) for _, address in guesses]
    else:
        guesses = [(name, guesses[0][1]) for name, _ in guesses]
    with ThreadPoolExecutor(17) as pool:
        pending = [pool.submit(log_in, short_queue, name, address=address) for name, address in guesses]
        wait(pending, return_when=FIRST_COMPLETED)  # those that are refused
        assert log_in(short_queue, next(names), address=next(addresses)).status == 200
    statuses = Counter(each.result().status for each in pending)
    assert set(statuses) == {200, 429}
    assert statuses[200] >= 2 + 2


def test_new_passwords_are_hashed_apart_and_hold_up_nobody(short_queue, root):
    staff = Staff(short_queue, is_superuser=True)
    form = {"old_password": "wrong", "new_password1": "x", "new_password2": "x"}
    user = {"usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
    pages = [("/admin/password_change/", form) for _ in range(8)]
    pages += [(url("add", "auth_user"), user | {"username": secrets.token_hex(8)}) for _ in range(8)]
    code = "from django.contrib.auth.models import User; print(User.objects.get(username={!r}).pk)"
    pk = short_queue.shell(code.format(root))
    pages += [(url("password_change", "auth_user", pk.strip()), user | {"set-password": ""}) for _ in range(8)]
    with ThreadPoolExecutor(24) as pool:
        pending = [pool.submit(staff.post, path, form) for path, form in pages]
        wait(pending, return_when=FIRST_COMPLETED)
        assert short_queue.get("/instance/fetchInstances", key=GLOBAL_KEY).status == 200
        assert log_in(short_queue, root, PASSWORD, next(addresses)).status == 302
    statuses = Counter(each.result().status for each in pending)
    assert statuses[429] > 0
    assert statuses[429] + statuses[200] + statuses[302] == len(pages)
