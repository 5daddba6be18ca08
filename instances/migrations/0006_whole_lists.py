from django.db import migrations

import instances.fields

#: Evolution API 2.4's events. 2.3 has all but MESSAGING_HISTORY_SET; the manager's "Mark all" leaves five more out.
ALL_OF_2_4 = frozenset(
    (
        "APPLICATION_STARTUP", "QRCODE_UPDATED", "MESSAGES_SET", "MESSAGES_UPSERT", "MESSAGES_EDITED",
        "MESSAGES_UPDATE", "MESSAGES_DELETE", "SEND_MESSAGE", "SEND_MESSAGE_UPDATE", "CONTACTS_SET",
        "CONTACTS_UPSERT", "CONTACTS_UPDATE", "PRESENCE_UPDATE", "CHATS_SET", "CHATS_UPSERT", "CHATS_UPDATE",
        "CHATS_DELETE", "GROUPS_UPSERT", "GROUP_UPDATE", "GROUP_PARTICIPANTS_UPDATE", "CONNECTION_UPDATE",
        "LABELS_EDIT", "LABELS_ASSOCIATION", "CALL", "TYPEBOT_START", "TYPEBOT_CHANGE_STATUS",
        "MESSAGING_HISTORY_SET", "REMOVE_INSTANCE", "LOGOUT_INSTANCE", "INSTANCE_CREATE", "INSTANCE_DELETE",
        "STATUS_INSTANCE",
    )
)
ALL_OF_2_3 = ALL_OF_2_4 - {"MESSAGING_HISTORY_SET"}
MARKED = ALL_OF_2_3 - {"MESSAGES_EDITED", "SEND_MESSAGE_UPDATE", "INSTANCE_CREATE", "INSTANCE_DELETE", "STATUS_INSTANCE"}


def empty_whole_lists(apps, schema_editor):
    """Store an empty list, which stands for all events, where a subscription lists all that Evolution API has."""
    Subscription = apps.get_model("instances", "Subscription")
    whole = []
    for pk, names in Subscription.objects.values_list("pk", "events").iterator():
        listed = frozenset("GROUP_UPDATE" if name == "GROUPS_UPDATE" else name for name in names)
        if listed in (ALL_OF_2_4, ALL_OF_2_3, MARKED):
            whole.append(pk)
    for start in range(0, len(whole), 500):
        Subscription.objects.filter(pk__in=whole[start : start + 500]).update(events=[])


class Migration(migrations.Migration):

    dependencies = [
        ('instances', '0005_texts'),
    ]

    operations = [
        migrations.AlterField(
            model_name='subscription',
            name='events',
            field=instances.fields.JsonField(blank=True, default=list, help_text='Empty: all events.'),
        ),
        migrations.RunPython(empty_whole_lists, migrations.RunPython.noop, elidable=True),
    ]
