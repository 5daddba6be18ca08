from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import models, transaction

from instances.crypto import Secret, UnreadableSecret, is_current
from instances.fields import EncryptedField
from instances.models import Fingerprint

#: Rows that are read at a time, and of which those that change are written in one transaction.
BATCH = 500
#: Unreadable secrets that are named.
MAX_NAMED = 1000


class Command(BaseCommand):
    help = (
        "Encrypt all stored secrets anew, under the first of ENCRYPTION_KEYS. Put the new key behind the others first "
        "and restart all processes, then put it first and restart all again: a process without it cannot read what "
        "this writes, and one with the former key first goes on writing under that. Can be stopped and repeated."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--forget-missing-keys",
            action="store_true",
            help="give up what was encrypted under a key that is lost, so that servers start without it",
        )

    def handle(self, *args: Any, forget_missing_keys: bool, **options: Any) -> None:
        if forget_missing_keys:
            Fingerprint.forget_missing_keys()
        try:
            Fingerprint.check_all()
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        self.stdout.write(
            "All processes must have restarted with the new key first in ENCRYPTION_KEYS, the former ones behind it."
        )
        changed, passes = 0, 0
        while True:
            rotation = Rotation()
            rotation.run()
            changed, passes = changed + rotation.changed, passes + 1
            if not rotation.old:
                break
            self.stdout.write(f"Pass {passes}: {rotation.changed} of {rotation.seen} secrets encrypted anew")
        Fingerprint.forget_former_keys()
        self.stdout.write(
            f"{changed} secrets were encrypted anew. A whole pass over {rotation.seen} found none under a former key: "
            "the former keys may be taken out of ENCRYPTION_KEYS."
        )
        if rotation.unreadable:
            names = "\n".join(f"  {name}" for name in rotation.names)
            self.stderr.write(
                f"{rotation.unreadable} secrets cannot be read with any of ENCRYPTION_KEYS, and are left as they are:\n"
                f"{names}\nAdd the key that is missing and start this again, or set them anew."
            )


class Rotation:
    """A pass over all secrets, in batches."""

    def __init__(self) -> None:
        #: Secrets that were looked at, that stood under a former key, and that were written under the first.
        self.seen = self.old = self.changed = 0
        self.unreadable = 0
        #: The first unreadable secrets: their rows and columns.
        self.names: list[str] = []

    def run(self) -> None:
        for model in apps.get_models():
            fields = [field.attname for field in model._meta.concrete_fields if isinstance(field, EncryptedField)]
            if fields and not model._meta.proxy:
                for rows in _batches(model, fields):
                    self._rotate(model, fields, rows)

    def _rotate(self, model: type[models.Model], fields: list[str], rows: list[tuple[Any, ...]]) -> None:
        new: list[tuple[Any, str, Secret, Secret]] = []
        for pk, *secrets in rows:
            for field, secret in zip(fields, secrets, strict=True):
                if secret is None:
                    continue
                self.seen += 1
                if is_current(secret.cipher):
                    continue
                try:
                    new.append((pk, field, secret, Secret(secret.reveal())))
                except UnreadableSecret:
                    self.unreadable += 1
                    if len(self.names) < MAX_NAMED:
                        self.names.append(f"{field} of {model._meta.verbose_name} {_name(model, pk)}")
        self.old += len(new)
        if new:
            with transaction.atomic():
                for pk, field, secret, encrypted in new:
                    # a row that was changed meanwhile keeps its new secret
                    unchanged = model._base_manager.filter(pk=pk, **{field: secret})
                    self.changed += unchanged.update(**{field: encrypted})


def _batches(model: type[models.Model], fields: list[str]) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the keys and secrets of all rows."""
    rows = model._base_manager.order_by("pk").values_list("pk", *fields)
    batch = list(rows[:BATCH])
    while batch:
        yield batch
        batch = list(rows.filter(pk__gt=batch[-1][0])[:BATCH])


def _name(model: type[models.Model], pk: Any) -> str:
    """Return the key of a row and, where it has one, its name."""
    if "name" not in {field.name for field in model._meta.concrete_fields}:
        return str(pk)
    return f"{model._base_manager.values_list('name', flat=True).get(pk=pk)} ({pk})"
