"""10,000 instances with 1,000,000 events, deliveries and messages, written by a few statements."""

from __future__ import annotations

import uuid
from datetime import timedelta
from urllib.parse import quote

from django.contrib import admin
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from instances.models import ApiKey, Chat, Contact, Instance, Message, Subscription
from realtime.delivery.models import Delivery
from realtime.log.models import Event
from realtime.log.stream import Stream
from tests.instances.admin.pages import at

INSTANCES = 10_000
#: Rows of an instance in each of the other tables.
ROWS = 100


def fill(instances: int = INSTANCES, rows: int = ROWS) -> list[Instance]:
    """Create the rows; returns the instances."""
    shops = [Instance(name=f"shop {n}", number=f"5511{n:09}", connection_state="open") for n in range(instances)]
    for shop in shops:
        shop.token_digest, shop.token = uuid.uuid4().hex * 2, "no token"
    Instance.objects.bulk_create(shops, 1000)
    now = timezone.now()
    Stream.objects.bulk_create(
        [Stream(instance_id=shop.pk, name=shop.name, last_seq=rows, heard_seq=rows) for shop in shops], 1000
    )
    Subscription.objects.bulk_create(
        [
            Subscription(instance=shop, transport="webhook", options={"url": f"https://hook.example.com/{shop.name}"})
            for shop in shops
        ],
        1000,
    )
    ApiKey.objects.bulk_create(
        [ApiKey(name=f"key {n}", prefix=f"evo_{n}", digest=f"{n:064}", scopes=["read"]) for n in range(instances)], 1000
    )
    endpoint = Subscription.objects.order_by("pk").values_list("pk", flat=True)[0]
    copy(Event, instances, rows, name="i.name", seq="n", type="'call'", envelope="'{}'", is_heard="TRUE")
    state = "CASE WHEN n % 10 = 0 THEN 'dead' ELSE 'delivered' END"
    copy(
        *(Delivery, instances, rows),
        **{"name": "i.name", "seq": "n", "type": "'call'", "event_id": "'e'", "transport": "'webhook'", "body": "''"},
        **{
            "endpoint_id": f"{endpoint} + (n * 7919) % {instances}",
            "destination": "'https://hook.example.com/in'",
            "state": state,
        },
        **{"due_at": quoted(now), "finished_at": quoted(now)},
    )
    copy(
        *(Message, instances, rows),
        **{"wa_id": "'wa-' || n || '-' || i.name", "remote_jid": "'55119' || n || '@s.whatsapp.net'"},
        **{"type": "'conversation'", "content": """'{"conversation":"good morning, number ' || n || '"}'"""},
        **{"timestamp": "1767225600 + n", "extra": "'{}'", "push_name": "'Ana'"},
    )
    address = {"remote_jid": "'55119' || n || '@s.whatsapp.net'"}
    copy(Contact, instances, rows, push_name="'Ana'", **address)
    copy(Chat, instances, rows, name="'Ana'", last_message_at="1767225600 + n", **address)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return shops


def lists() -> list[str]:
    """Return the URLs of all lists of the admin."""
    return [at("changelist", model) for model in admin.site._registry]


def filters_and_searches(shops: list[Instance]) -> list[str]:
    """Return URLs of lists with filters, and of the search, that look at many of the rows, or find few among them."""
    of_rows = [at("changelist", model) for model in (Event, Delivery, Message, Contact, Chat)]
    terms = ("shop 77", "551190001", "wa-5-shop 77", "50", "good morning", "nothing at all", "shop 77 5")
    return [
        *(f"{url}?instance_id={shops[5000].pk}" for url in of_rows),
        *(f"{at('changelist', Event)}?{query}" for query in ("type=messages.upsert", "q=shop+50", "q=wa-5-shop+77")),
        *(f"{at('changelist', Delivery)}?state__exact={state}" for state in ("pending", "dead", "delivered")),
        f"{at('changelist', Delivery)}?transport=rabbitmq",
        *(f"{at('changelist', Message)}?{query}" for query in ("q=nothing", "from_me__exact=1", "p=200")),
        *(f"{at('changelist', Instance)}?{query}" for query in ("q=shop+77", "websocket=none", "p=100")),
        *(f"{reverse('admin:search')}?s={quote(term)}" for term in terms),
    ]


def quoted(moment) -> str:
    return f"'{moment:%Y-%m-%d %H:%M:%S}'"


def copy(model, instances: int, rows: int, **values: str) -> None:
    """Insert `rows` rows for each instance; `values` are SQL of the instance `i` and the number `n`."""
    known = {"instance_id": "i.id", **values}
    now = quoted(timezone.now() - timedelta(minutes=1))
    for field in model._meta.concrete_fields:
        if field.primary_key or field.column in known or field.null or field.has_db_default():
            continue
        default = field.get_default()
        if getattr(field, "auto_now_add", False) or getattr(field, "auto_now", False):
            known[field.column] = now
        elif isinstance(default, bool):
            known[field.column] = str(default).upper()
        elif isinstance(default, int):
            known[field.column] = str(default)
        else:
            known[field.column] = f"'{default if isinstance(default, str) else '{}'}'"
    is_sqlite = connection.vendor == "sqlite"
    numbers = (
        f"(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {rows}) SELECT n FROM c)"
        if is_sqlite
        else f"generate_series(1, {rows})"
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {model._meta.db_table} ({', '.join(known)}) SELECT {', '.join(known.values())}"
            f" FROM {numbers} AS g{'' if is_sqlite else '(n)'} CROSS JOIN instances_instance AS i ORDER BY i.id, n"
        )
