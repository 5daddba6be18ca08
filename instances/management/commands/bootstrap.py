from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand

from instances.crypto import Secret
from instances.management.demo import DEMO
from instances.models import Instance


class Command(BaseCommand):
    help = (
        "Prepare a first run: the admin's login, an app secret for Meta's webhook, two demo instances. Safe to repeat."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        is_first = not get_user_model().objects.filter(is_superuser=True).exists()
        if is_first:
            self._make_secrets()
            self._make_admin()
            self._make_demo()
            call_command("credentials", stdout=self.stdout)
        else:
            self.stdout.write("`manage.py credentials` shows the URLs, the admin's login and the keys.")

    def _make_secrets(self) -> None:
        for name in ("DJANGO_SUPERUSER_PASSWORD", "WA_BUSINESS_APP_SECRET", "WA_BUSINESS_TOKEN_WEBHOOK"):
            if not getattr(settings, name):
                setattr(settings, name, settings.SECRETS.get(name))

    def _make_admin(self) -> None:
        get_user_model().objects.create_superuser(
            settings.DJANGO_SUPERUSER_USERNAME, password=settings.DJANGO_SUPERUSER_PASSWORD
        )

    def _make_demo(self) -> None:
        if Instance.objects.exists():
            return
        for fields in DEMO:
            instance = Instance(**fields)
            if instance.provider.token_is_credential:
                instance.provider_token = Secret("none: this is a demo")
            instance.save()
