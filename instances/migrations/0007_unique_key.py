from django.db import migrations, models

#: The integrations whose payloads name an instance by its number, when this was written; later ones fill the column.
BY_NUMBER = ("WHATSAPP-BUSINESS", "EVOLUTION")


def fill(apps, schema_editor):
    """Fill the column of the instances whose number no other may have, in one statement."""
    instances = apps.get_model("instances", "Instance").objects.using(schema_editor.connection.alias)
    instances.filter(integration__in=BY_NUMBER, number__gt="").update(unique_key=models.F("number"))


class Migration(migrations.Migration):

    dependencies = [
        ('instances', '0006_whole_lists'),
    ]

    operations = [
        migrations.AlterField(
            model_name='instance',
            name='integration',
            field=models.CharField(default='EVOLUTION', max_length=32),
        ),
        migrations.AlterField(
            model_name='instance',
            name='number',
            field=models.CharField(blank=True, help_text='The number by which the provider knows the instance.', max_length=255, null=True),
        ),
        migrations.AddField(
            model_name='instance',
            name='unique_key',
            field=models.CharField(editable=False, help_text='What no other instance of this integration may have. Filled by the provider; empty: it may repeat.', max_length=255, null=True),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=True),
        migrations.RemoveConstraint(
            model_name='instance',
            name='instance_number_is_unique',
        ),
        migrations.AddConstraint(
            model_name='instance',
            constraint=models.UniqueConstraint(fields=('integration', 'unique_key'), name='instance_unique_key', violation_error_message='This number is already in use.'),
        ),
    ]
