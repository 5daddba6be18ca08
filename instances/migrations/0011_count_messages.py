"""Count the messages of instances and chats that are stored already: an instance in each transaction.

A run that was interrupted goes on with the instances that have no counter yet.
"""

from django.db import connection, migrations, transaction

CHATS = """
INSERT INTO instances_chat (
    instance_id, remote_jid, created_at, updated_at, message_count, unread_count, last_message_at, last_inbound_at
)
SELECT instance_id, remote_jid, MIN(created_at), MAX(created_at), COUNT(*), 0, MAX(CASE WHEN timestamp > 0 THEN timestamp ELSE 1 END),
    MAX(CASE WHEN from_me THEN 0 ELSE timestamp END)
FROM instances_message WHERE instance_id = %s AND wa_id IS NOT NULL GROUP BY instance_id, remote_jid
ON CONFLICT (instance_id, remote_jid) DO UPDATE SET
    message_count = excluded.message_count,
    last_message_at = excluded.last_message_at,
    last_inbound_at = excluded.last_inbound_at
"""
INSTANCE = """
INSERT INTO instances_messagecount (instance_id, count)
SELECT %s, COALESCE(SUM(message_count), 0) FROM instances_chat WHERE instance_id = %s
"""


def count_messages(apps, schema_editor):
    Instance = apps.get_model("instances", "Instance")
    for instance in Instance.objects.filter(counted_messages=None).only("pk"):
        with transaction.atomic(), connection.cursor() as cursor:
            key = Instance._meta.pk.get_db_prep_value(instance.pk, connection)
            if Instance.objects.select_for_update().filter(pk=instance.pk).exists():
                cursor.execute(CHATS, [key])
                cursor.execute(INSTANCE, [key, key])


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("instances", "0010_stored_reads"),
    ]

    operations = [
        migrations.RunPython(count_messages, migrations.RunPython.noop, elidable=True),
    ]
