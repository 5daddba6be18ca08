
import uuid

import django.db.models.deletion
from django.db import migrations, models

import instances.fields


class Migration(migrations.Migration):

    dependencies = [
        ('instances', '0011_count_messages'),
    ]

    operations = [
        migrations.CreateModel(
            name='Installation',
            fields=[
                ('id', models.PositiveSmallIntegerField(default=1, editable=False, primary_key=True, serialize=False)),
                ('identifier', models.UUIDField(default=uuid.uuid4, editable=False)),
            ],
        ),
        migrations.AddField(
            model_name='instance',
            name='logged_out_at',
            field=models.DateTimeField(editable=False, help_text='When it was logged out; until it is connected again, it sends nothing.', null=True),
        ),
        migrations.CreateModel(
            name='Proxy',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('is_enabled', models.BooleanField(default=False, verbose_name='enabled')),
                ('host', models.CharField(blank=True, default='', max_length=255)),
                ('port', models.CharField(blank=True, default='', max_length=5)),
                ('protocol', models.CharField(blank=True, default='', max_length=6)),
                ('username', models.CharField(blank=True, default='', max_length=255)),
                ('password', instances.fields.EncryptedField(blank=True, default='')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('instance', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='proxy', to='instances.instance')),
            ],
            options={
                'verbose_name_plural': 'proxies',
            },
        ),
    ]
