"""Model fields for values that SQLite and PostgreSQL do not both store unchanged."""

from __future__ import annotations

from typing import Any

import orjson
from django.core.exceptions import ValidationError
from django.db import models

from instances import json_body
from instances.crypto import Secret


class EncryptedField(models.TextField):
    """An encrypted string: the column holds a Fernet token, the attribute a `Secret`."""

    _pyi_private_set_type: Any  # for django-stubs' mypy plugin alone
    _pyi_private_get_type: Any

    def from_db_value(self, value: str | None, *args: Any) -> Secret | None:
        return None if value is None else Secret(cipher=value)

    def to_python(self, value: Any) -> Secret | None:
        return value if value is None or isinstance(value, Secret) else Secret(str(value))

    def get_prep_value(self, value: Any) -> str | None:
        secret = self.to_python(value)
        return None if secret is None else secret.cipher


class JsonField(models.TextField):
    """JSON in a text column, which unlike PostgreSQL's jsonb keeps NUL characters and the order of keys."""

    _pyi_private_set_type: Any
    _pyi_private_get_type: Any

    def from_db_value(self, value: str | None, *args: Any) -> Any:
        return None if value is None else json_body.load_stored(value)

    def to_python(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise ValidationError(f"This is not JSON: {error}") from None

    def get_prep_value(self, value: Any) -> str | None:
        return None if value is None else json_body.dumps(value).decode()

    def value_to_string(self, obj: models.Model) -> str:
        return self.get_prep_value(self.value_from_object(obj)) or ""


class PlainField(models.CharField):
    """Text from outside, for display: truncated to `max_length`, its NULs replaced, which PostgreSQL refuses."""

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        if isinstance(value, str):
            value = value.replace("\x00", "�")[: self.max_length]
        return value
