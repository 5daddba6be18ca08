"""A provider that one file and one line of the settings add; and instances whose provider is not registered."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor

from instances.integrations import Integration, integrations
from instances.models import Instance
from tests.clients.staff import Staff, url
from tests.environment import GLOBAL_KEY
from tests.server import Number, Server, server_environment

ADDITIONS = {"DJANGO_SETTINGS_MODULE": "tests.additions.settings"}


@pytest.fixture(scope="module")
def with_pigeons(migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a provider of the tests, on a database that was migrated without it."""
    with server_environment(migrated, tmp_path_factory.mktemp("data")) as environment:
        server = Server(environment | ADDITIONS)
        server.start()
        yield server
        server.stop()


def a_ring() -> str:
    return f"BE-{secrets.token_hex(6)}"


def create(server: Server, ring: str | None) -> Number:
    return server.create(integration="PIGEON", businessId=ring or a_ring(), number=None)


def test_its_instances_are_created_and_their_payloads_reach_sockets(with_pigeons, node):
    ring = a_ring()
    instance = create(with_pigeons, ring)
    client = node.connect(f"{with_pigeons.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    payload = {"ring": ring, "sender": "dovecote@s.whatsapp.net", "note": "Arrived"}
    assert with_pigeons.post("/webhook/pigeon", payload, key=instance.token).status == 200

    event = client.event("messages.upsert")
    assert event["data"]["message"] == {"conversation": "Arrived"}
    assert client.call("send_message", {"number": "dovecote@s.whatsapp.net", "message": "Thanks", "id": "7"})
    assert client.event("send.message")["data"]["key"]["id"] == "pigeon-7"
    client.disconnect()


def test_its_endpoint_refuses_other_keys_and_says_what_is_missing(with_pigeons):
    ring = a_ring()
    instance, other = create(with_pigeons, ring), create(with_pigeons, None)
    payload = {"ring": ring, "sender": "dovecote@s.whatsapp.net", "note": "Arrived"}

    assert with_pigeons.post("/webhook/pigeon", payload, key=None).status == 401
    assert with_pigeons.post("/webhook/pigeon", payload, key=other.token).status == 401
    refused = with_pigeons.post("/webhook/pigeon", {"ring": ring}, key=instance.token)
    assert (refused.status, refused.json["response"]["message"]) == (400, ["instance requires property 'note'"])
    assert with_pigeons.get("/webhook/pigeon").status == 404
    assert with_pigeons.request("OPTIONS", "/webhook/pigeon").headers["Allow"] == "POST, OPTIONS"


def test_what_it_needs_and_what_may_not_repeat_is_as_it_declares(with_pigeons):
    ring = a_ring()
    first = create(with_pigeons, ring)

    body = {"instanceName": f"second-{ring}", "integration": "PIGEON"}
    missing = with_pigeons.post("/instance/create", body)
    repeated = with_pigeons.post("/instance/create", body | {"businessId": ring})

    assert (missing.status, missing.json["response"]["message"]) == (400, ["businessId is required"])
    text = f'This businessId "{ring}" is already in use.'
    assert (repeated.status, repeated.json["response"]["message"]) == (403, [text])
    assert with_pigeons.create(integration="EVOLUTION", businessId=ring).name
    assert with_pigeons.get(with_pigeons.path("/instance/connectionState", first)).json["instance"]["state"] == "open"


def test_it_is_in_the_documents_and_in_the_admin(with_pigeons):
    described = with_pigeons.get("/openapi.json").json
    members = described["components"]["schemas"]["CreateInstanceBodyRequest"]["properties"]
    assert "PIGEON" in members["integration"]["enum"]
    assert "Pigeon post: the number on the pigeon's ring, required." in members["businessId"]["description"]
    assert described["paths"]["/webhook/pigeon"]["post"]["operationId"] == "PigeonWebhook"
    assert "PigeonPayloadRequest" in described["components"]["schemas"]

    staff, ring = Staff(with_pigeons, is_superuser=True), a_ring()
    page = staff.get(url("add", "instances_instance")).body.decode()
    assert '<option value="PIGEON">Pigeon post</option>' in page
    assert "Pigeon post: the number on the pigeon's ring, required." in page
    form = {"name": f"by-hand-{ring}", "integration": "PIGEON", "number": "", "business_id": "", "own_token": ""}
    assert "businessId is required" in staff.post(url("add", "instances_instance"), form).body.decode()
    assert staff.post(url("add", "instances_instance"), form | {"business_id": ring}).status == 302
    again = form | {"name": f"again-{ring}", "business_id": ring}
    assert "This businessId is already in use." in staff.post(url("add", "instances_instance"), again).body.decode()
    assert "Pigeon post" in staff.get(f"{url('changelist', 'instances_instance')}?integration=PIGEON").body.decode()


def test_it_needs_no_migration(with_pigeons):
    assert "No changes detected" in with_pigeons.manage("makemigrations", "--check", "--dry-run")


def test_an_instance_whose_provider_is_not_registered_is_shown_and_says_so(server):
    """The settings had a provider once, and have it no more."""
    instance = server.create()
    server.shell(
        f"from instances.models import Instance; Instance.objects.filter(name={instance.name!r})"
        '.update(integration="PIGEON")'
    )
    [row] = server.get(f"/instance/fetchInstances?instanceName={instance.name}").json
    assert row["integration"] == "PIGEON"
    sent = server.post(server.path("/message/sendText", instance), {"number": "5511", "text": "x"}, key=GLOBAL_KEY)
    assert sent.status == 409
    assert "settings.PROVIDERS" in sent.json["response"]["message"][0]
    staff = Staff(server, is_superuser=True)
    assert staff.get(url("change", "instances_instance", instance.id)).status == 200
    assert server.request("DELETE", server.path("/instance/delete", instance)).status == 200


class Nameless(Integration):
    integration = ""
    label = "Nameless"


class Undescribed(Integration):
    integration = "UNDESCRIBED"
    label = "Undescribed"
    unique = "number"


class Unknown(Integration):
    integration = "UNKNOWN"
    label = "Unknown"
    members = {"colour": "of its feathers"}


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("provider", "error"),
    [
        ("Nameless", "declares no `integration`"),
        ("Undescribed", "does not describe number in `members`"),
        ("Unknown", "uses colour; an instance has token, number, businessId"),
    ],
)
def test_a_wrong_declaration_stops_the_start(settings, provider, error):
    settings.PROVIDERS = [f"{__name__}.{provider}"]
    integrations.cache_clear()
    try:
        with pytest.raises(ImproperlyConfigured, match=error):
            integrations()
    finally:
        integrations.cache_clear()


# The column that providers fill


def test_a_database_of_before_the_column_opens_with_it_filled(transactional_db):
    """Two instances of the Cloud API, or of the Evolution channel, must not have the same number; others may."""

    def migrate(targets):
        return MigrationExecutor(connection).migrate(targets).apps

    newest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    fields = {"number": "100200300", "token_digest": "", "token": ""}
    try:
        old = migrate([("instances", "0006_whole_lists")]).get_model("instances", "Instance").objects
        for integration in ("WHATSAPP-BUSINESS", "EVOLUTION", "WHATSAPP-BAILEYS"):
            old.create(name=integration, integration=integration, **fields)
        old.create(name="another web", integration="WHATSAPP-BAILEYS", **fields)
        old.create(name="numberless", integration="EVOLUTION", token_digest="", token="")
        migrate(newest)
        filled = dict(Instance.objects.values_list("name", "unique_key"))
        for integration in ("WHATSAPP-BUSINESS", "EVOLUTION"):
            with pytest.raises(IntegrityError), transaction.atomic():
                Instance.objects.create(name="second", integration=integration, number="100200300")
        Instance.objects.create(name="third web", integration="WHATSAPP-BAILEYS", number="100200300")

        back = migrate([("instances", "0006_whole_lists")]).get_model("instances", "Instance").objects
        with pytest.raises(IntegrityError), transaction.atomic():
            back.create(name="second", integration="EVOLUTION", **fields)
        assert back.count() == 6
    finally:
        migrate(newest)

    assert filled == {
        "WHATSAPP-BUSINESS": "100200300",
        "EVOLUTION": "100200300",
        "WHATSAPP-BAILEYS": None,
        "another web": None,
        "numberless": None,
    }


@pytest.mark.parametrize("saved", [{}, {"update_fields": ["number"]}], ids=["whole", "one column"])
def test_a_number_that_changes_is_free_for_another_instance(db, saved):
    first = Instance.objects.create(name="first", integration="WHATSAPP-BUSINESS", number="1")
    first.number = "2"
    first.save(**saved)

    Instance.objects.create(name="second", integration="WHATSAPP-BUSINESS", number="1")
    with pytest.raises(IntegrityError), transaction.atomic():
        Instance.objects.create(name="third", integration="WHATSAPP-BUSINESS", number="2")
