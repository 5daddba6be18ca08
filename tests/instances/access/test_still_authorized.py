"""Authorization of joined sockets, which is checked again whenever access changes."""

from __future__ import annotations

from typing import Any

from instances.access.access import Access, still_authorized
from instances.models import ApiKey, Instance
from tests.environment import GLOBAL_KEY


def issue(*scopes: str, instances: tuple[Instance, ...] = (), **fields: Any) -> tuple[ApiKey, str]:
    key, secret = ApiKey.objects.issue("a test's", list(scopes), **fields)
    key.instances.set(instances)
    return key, secret


def test_sockets_are_checked_together(mine, theirs, django_assert_num_queries):
    _, secret = issue("listen", instances=(mine,))
    everywhere, keyless = Access.from_key(GLOBAL_KEY), Access(frozenset({"listen"}), is_for_all=True)
    own, theirs_own = Access.from_key(mine.token.reveal()), Access.from_key(theirs.token.reveal())
    by_key = Access.from_key(secret)
    kept = {
        (own, mine.pk, "minha loja"),
        (theirs_own, theirs.pk, "alheia"),
        (by_key, mine.pk, "minha loja"),
        (everywhere, mine.pk, "minha loja"),
        (everywhere, None, None),
        (keyless, None, None),
        (keyless, theirs.pk, "alheia"),
    }
    revoked = {
        (theirs_own, mine.pk, "minha loja"),
        (by_key, theirs.pk, "alheia"),
        (by_key, None, None),
        (own, None, None),
    }
    revoked |= {(everywhere, mine.pk, "another name"), (Access(frozenset({"send"}), is_for_all=True), None, None)}
    # queries: the key, the instances, and for each of two whether the key opens it
    with django_assert_num_queries(4):
        assert still_authorized([*kept, *revoked, *kept]) == kept


def test_a_key_that_is_narrowed_to_an_instance_leaves_the_global_namespace(mine):
    key, secret = issue("listen", all_instances=True)
    access = Access.from_key(secret)
    everywhere, one_instance = (access, None, None), (access, mine.pk, mine.name)
    assert still_authorized([everywhere, one_instance]) == {everywhere, one_instance}

    key.all_instances = False
    key.save()
    key.instances.add(mine)

    assert still_authorized([everywhere, one_instance]) == {one_instance}


def test_a_socket_of_a_deleted_instance_does_not_listen_to_a_new_one_of_its_name(mine):
    access, token = Access.from_key(GLOBAL_KEY), mine.token.reveal()
    deleted = (access, mine.pk, "minha loja")
    mine.delete()
    recreated = Instance(name="minha loja")
    recreated.give_token(token)
    recreated.save()
    assert still_authorized([deleted]) == set()
    assert still_authorized([(access, recreated.pk, "minha loja")])
