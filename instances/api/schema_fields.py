"""More serializer fields with the types and error texts of Evolution API's JSON schemas."""

from __future__ import annotations

import re
from typing import Any

from rest_framework import serializers

from instances.api.fields import MAX_NUMBER_LENGTH, Text


class OneOfNumbers(serializers.Field):
    """One of a few JSON numbers."""

    def __init__(self, *values: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.values = values
        for code in ("enum", "null"):
            self.error_messages[code] = "is not one of enum values: " + ",".join(map(str, values))

    def to_internal_value(self, data: Any) -> int:
        # 1.0 is 1 in JSON, and True is not
        if isinstance(data, bool) or not isinstance(data, (int, float)) or data not in self.values:
            self.fail("enum")
        return int(data)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "enum": list(self.values)}


class JsonNumber(serializers.Field):
    """A JSON number."""

    default_error_messages = {
        "type": "is not of a type(s) number",
        "null": "is not of a type(s) number",
        "maximum": "must be less than or equal to {maximum}",
    }

    def __init__(self, maximum: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.maximum = maximum

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, (int, float)):
            self.fail("type")
        if self.maximum is not None and data > self.maximum:
            self.fail("maximum", maximum=self.maximum)
        return data

    def schema(self) -> dict[str, Any]:
        return {"type": "number"} | ({} if self.maximum is None else {"maximum": self.maximum})


class ChatNumber(Text):
    """The phone number or JID of a chat, which is refused in Evolution API's one sentence."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**({"max_length": MAX_NUMBER_LENGTH} | kwargs))

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise serializers.ValidationError("Invalid format")
        return super().to_internal_value(data)


class NumericText(Text):
    """An item of a list of phone numbers: ten characters or more, with a digit."""

    LEAST = 10

    def __init__(self, of: str, **kwargs: Any) -> None:
        """`of` is the name of the list."""
        super().__init__(**({"max_length": MAX_NUMBER_LENGTH} | kwargs))
        self.of = of

    def to_internal_value(self, data: Any) -> str:
        number = super().to_internal_value(data) if isinstance(data, str) else ""
        if len(number) < self.LEAST or not re.search("[0-9]", number):
            raise serializers.ValidationError(f'"{self.of}" must be an array of numeric strings')
        return number

    def run_validation(self, data: Any = serializers.empty) -> Any:
        return self.to_internal_value(data)

    def schema(self) -> dict[str, Any]:
        return {"minLength": self.LEAST, "pattern": r"^[^\x00]*[0-9][^\x00]*$"}
