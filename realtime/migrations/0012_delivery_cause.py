from django.db import migrations, models

#: By SQL, as Django would copy the whole table on SQLite, with millions of rows.
ADD = "ALTER TABLE realtime_delivery ADD COLUMN cause varchar(32) DEFAULT '' NOT NULL"
REMOVE = "ALTER TABLE realtime_delivery DROP COLUMN cause"


class Migration(migrations.Migration):

    dependencies = [
        ('realtime', '0011_inboxes'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            [migrations.RunSQL(ADD, REMOVE)],
            [
                migrations.AddField(
                    model_name='delivery',
                    name='cause',
                    field=models.CharField(db_default='', default='', help_text='The cause of its last failure, by which it is grouped.', max_length=32),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name='delivery',
            index=models.Index(condition=models.Q(('state', 'dead')), fields=['endpoint_id', 'cause', 'id'], name='delivery_cause'),
        ),
        migrations.AddIndex(
            model_name='delivery',
            index=models.Index(condition=models.Q(('state', 'pending'), models.Q(('cause', ''), _negated=True)), fields=['endpoint_id', 'cause', 'id'], name='delivery_retried'),
        ),
    ]
