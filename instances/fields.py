"""Model fields for what SQLite and PostgreSQL would not both store as it came."""

from __future__ import annotations

from typing import Any

import orjson
from django.core.exceptions import ValidationError
from django.db import models

from instances.crypto import Secret


class EncryptedField(models.TextField):
    """A secret that can be read back; the column holds a Fernet token, the attribute a `Secret`."""

    _pyi_private_set_type: Any  # read by the type checker alone
    _pyi_private_get_type: Any

    def from_db_value(self, value: str | None, *args: Any) -> Secret | None:
        return None if value is None else Secret(cipher=value)

    def to_python(self, value: Any) -> Secret | None:
        return value if value is None or isinstance(value, Secret) else Secret(str(value))

    def get_prep_value(self, value: Any) -> str | None:
        secret = self.to_python(value)
        return None if secret is None else secret.cipher


class JsonField(models.TextField):
    """JSON in a text column: unlike PostgreSQL's jsonb it keeps NUL characters and the order of keys."""

    _pyi_private_set_type: Any
    _pyi_private_get_type: Any

    def from_db_value(self, value: str | None, *args: Any) -> Any:
        return None if value is None else orjson.loads(value)

    def to_python(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise ValidationError(f"This is not JSON: {error}") from None

    def get_prep_value(self, value: Any) -> str | None:
        return None if value is None else orjson.dumps(value).decode()

    def value_to_string(self, obj: models.Model) -> str:
        return self.get_prep_value(self.value_from_object(obj)) or ""


class PlainField(models.CharField):
    """Text from outside, for people to read: cut to `max_length`, and without the NUL that PostgreSQL refuses."""

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        if isinstance(value, str):
            value = value.replace("\x00", "�")[: self.max_length]
        return value
