
import django.db.models.deletion
from django.db import migrations, models

import instances.fields


class Migration(migrations.Migration):

    dependencies = [
        ('instances', '0007_unique_key'),
    ]

    operations = [
        migrations.CreateModel(
            name='EarlyStatus',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('wa_id', models.CharField(help_text='The id of the message, not known here yet.', max_length=255, verbose_name='WhatsApp id')),
                ('report', instances.fields.JsonField(help_text='The report as the provider parsed it.')),
                ('created_at', models.DateTimeField(auto_now_add=True, help_text='The time when it was received.')),
            ],
            options={
                'verbose_name_plural': 'early statuses',
                'ordering': ('id',),
            },
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(condition=models.Q(('wa_id', None)), fields=['created_at'], name='message_without_result'),
        ),
        migrations.AddField(
            model_name='earlystatus',
            name='instance',
            field=models.ForeignKey(help_text='The instance whose number it was reported for.', on_delete=django.db.models.deletion.CASCADE, related_name='early_statuses', to='instances.instance'),
        ),
    ]
