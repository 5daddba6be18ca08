"""Tokens that tenants choose at rotateToken: strong, nobody else's, and guesses at the keys of others no more than a
wrong key is one. The operator gives what he likes.
"""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from instances.models import ApiKey, Instance
from tests.clients.staff import Staff, url
from tests.environment import GLOBAL_KEY
from tests.in_process import until

REFUSED = (
    "This token cannot be used: choose another one of 16 characters or more, or leave it out to have one generated"
)


def rotate(server, instance, key, token, **options):
    return server.post(server.path("/instance/rotateToken", instance), {"token": token}, key=key, **options)


def choose(server, token, instance):
    return rotate(server, instance, instance.token, token)


def state(server, instance, key):
    return server.get(server.path("/instance/connectionState", instance), key=key).status


def key_that_manages(server):
    code = "from instances.models import ApiKey; print(ApiKey.objects.issue('x', ['manage'], all_instances=True)[1])"
    return server.shell(code).strip()


def test_a_chosen_token_that_is_weak_or_somebodys_is_refused_in_the_same_words(server):
    mine, theirs = server.create(), server.create()
    cloud = server.create(integration="WHATSAPP-BUSINESS")
    key = key_that_manages(server)
    for token in (theirs.token, cloud.token, GLOBAL_KEY, key, "15-characters-x"):
        for chooser in (mine.token, key):
            response = rotate(server, mine, chooser, token)
            assert response.status == 400, response.body
            assert response.json["response"]["message"] == [REFUSED]
    assert (state(server, mine, mine.token), state(server, mine, theirs.token)) == (200, 401)

    chosen = "16-characters-" + secrets.token_hex(1)
    assert rotate(server, mine, mine.token, chosen).json["hash"] == chosen
    assert rotate(server, mine, chosen, chosen).status == 200  # it is its own


def test_instances_of_the_cloud_api_may_share_a_token(server):
    one, other = (server.create(integration="WHATSAPP-BUSINESS") for _ in range(2))
    assert rotate(server, one, one.token, other.token).status == 200
    assert (state(server, one, other.token), state(server, other, other.token)) == (200, 200)


def test_the_operator_gives_any_token(server):
    theirs = server.create(token="short")
    repeated = server.create(token="short")
    mine = server.create()
    assert rotate(server, mine, GLOBAL_KEY, "short").json["hash"] == "short"
    assert {state(server, instance, "short") for instance in (mine, theirs, repeated)} == {200}


def test_of_two_tenants_that_choose_the_same_token_at_once_one_gets_it(server):
    instances = [server.create() for _ in range(4)]
    for _ in range(3):
        chosen = secrets.token_hex(16)
        with ThreadPoolExecutor(4) as pool:
            responses = list(pool.map(partial(choose, server, chosen), instances))
        assert sorted(response.status for response in responses) == [200] + [400] * 3
        winner = next(each for each, response in zip(instances, responses, strict=True) if response.status == 200)
        assert rotate(server, winner, chosen, "").status == 200
        instances[instances.index(winner)] = server.create()


def test_a_chosen_token_counts_as_a_wrong_key_of_its_address(fresh_server):
    server = fresh_server(TRUSTED_PROXIES="127.0.0.1", LIMIT_WRONG_KEYS="3", LIMIT_WRONG_KEYS_PER_SECOND="1")
    mine = server.create()

    def of(address):
        return {"X-Forwarded-For": address}

    def choose(address):
        return rotate(server, mine, mine.token, "a-guess-at-a-key", headers=of(address)).status

    taken = server.create(token="a-guess-at-a-key")
    assert [choose("198.51.100.1") for _ in range(3)] == [400] * 3
    until(lambda: choose("198.51.100.1") == 429, 10)
    path = server.path("/instance/connectionState", taken)
    assert server.get(path, key="wrong", headers=of("198.51.100.1")).status == 429
    assert choose("198.51.100.2") == 400
    # nor are the addresses of an IPv6 subscriber without number
    until(lambda: choose(f"2001:db8:1:2::{secrets.token_hex(2)}") == 429, 10)
    assert choose("2001:db8:1:3::1") == 400
    # the operator, and who has one generated, are not held up
    assert rotate(server, mine, GLOBAL_KEY, "x", headers=of("198.51.100.1")).status == 200
    assert rotate(server, mine, "x", "", headers=of("198.51.100.1")).status == 200


def test_weak_tokens_are_listed_in_the_admin(server):
    tag = secrets.token_hex(4)
    strong, cloud_twins = server.create(f"{tag} strong"), secrets.token_hex(16)
    server.create(f"{tag} long enough", token=f"x{tag[:7]}16chars-")  # 16 characters
    server.create(f"{tag} short", token=f"x{tag[:7]}15chars")
    twins = [server.create(f"{tag} twin {number}", token=f"shared-token-{tag}") for number in (1, 2)]
    for number in (1, 2):
        server.create(f"{tag} cloud {number}", integration="WHATSAPP-BUSINESS", token=cloud_twins)
    server.create(f"{tag} keyed", token=key_that_manages(server))
    staff = Staff(server, "view_instance")

    names = {"strong", "long enough", "short", "twin 1", "twin 2", "cloud 1", "cloud 2", "keyed"}

    def listed(value):
        body = staff.get(f"{url('changelist', 'instances_instance')}?q={tag}&token_strength={value}").body.decode()
        return {name for name in names if f">{tag} {name}<" in body}

    assert listed("short") == {"short"}
    assert listed("shared") == {"twin 1", "twin 2", "keyed"}
    assert listed("weak") == {"short", "twin 1", "twin 2", "keyed"}
    assert listed("") == names
    assert "weak: shared" in staff.get(url("change", "instances_instance", twins[0].id)).body.decode()
    page = staff.get(url("change", "instances_instance", strong.id)).body.decode()
    assert "weak" not in page.partition('id="content"')[2]


@pytest.mark.any_database
@pytest.mark.parametrize("length", [1, 15, 16, 17, 200])
def test_a_short_token_is_known_by_its_cipher(db, length):
    instance = Instance(name="loja")
    instance.give_token("x" * length)
    instance.save()
    assert Instance.objects.with_token_strength().get().has_short_token is (length < 16)
    assert not ApiKey.objects.exists()
