"""The environment variables: each is read as its type, and all that cannot be read are reported at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.core.exceptions import ImproperlyConfigured

from evoapi.database_url import unquoted
from instances.evolution_variables import unread_variables
from instances.spelling import nearest

#: Characters of a value that an error shows.
MAX_SHOWN = 60

_TRUE = ("true", "1", "yes", "y", "on", "ok")
_FALSE = ("false", "0", "no", "n", "off")

#: Variables of other programs that begin like ours: those that Evolution API reads and this server does not, those of
#: RabbitMQ's image, and Django's.
_OTHERS = (
    *unread_variables(),
    *("RABBITMQ_DEFAULT_*", "RABBITMQ_NODE*", "RABBITMQ_ERLANG_*", "RABBITMQ_CONFIG_FILE*", "RABBITMQ_LOGS"),
    *("RABBITMQ_MNESIA_*", "RABBITMQ_HOME", "DJANGO_SETTINGS_MODULE"),
)
#: Variables that Kubernetes and Docker's links set for each service, whatever its name.
_SERVICE_LINKS = re.compile(r".+_(SERVICE_.+|PORT|PORT_.+)")
#: First words that variables of other programs have, too: one of these is reported only if it is nearly one of ours.
_COMMON_WORDS = (
    *("ALLOWED_", "CONFIG_", "DATA_", "DATABASE_", "DJANGO_", "FACEBOOK_", "LOG_", "MAX_", "METRICS_", "PROMETHEUS_"),
    *("SECRET_", "SECURE_", "SERVER_"),
)
#: The similarity, from 0 to 1, from which it is.
_NEARLY = 0.85


class Variables:
    """The environment variables of the process. An empty variable counts as not set.

    Methods return the value, or the default of one that cannot be read, which `check` reports.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        #: The names of all variables that were asked for.
        self.known: set[str] = set()
        #: The defaults of those that have one, by name.
        self.defaults: dict[str, Any] = {}
        #: The units of those that are numbers, with the least and the greatest value, by name.
        self.ranges: dict[str, tuple[str, float, float]] = {}
        #: A sentence for each variable that cannot be read.
        self.errors: list[str] = []

    def refuse(self, name: str, form: str, shown: str = "") -> None:
        """Note that a variable cannot be read. `form`: the form expected, with an example; `shown`: the value."""
        is_shown = shown and "@" not in shown  # an @ may stand behind a password
        self.errors.append(f"{name} takes {form}" + (f"; not {shown[:MAX_SHOWN]!r}" if is_shown else ""))

    def check(self) -> None:
        """Raise ImproperlyConfigured, with a line for each, if there are variables that cannot be read."""
        if self.errors:
            lines = "".join(f"\n- {error}." for error in self.errors)
            raise ImproperlyConfigured(f"The environment cannot be used; docs/settings.md explains it.{lines}")

    def text(self, name: str, default: str = "") -> str:
        """Return a variable as it is."""
        self.known.add(name)
        self._note_default(name, default)
        return self._environment.get(name, "") or default

    def plain(self, name: str, default: str = "") -> str:
        """Return a variable without space and quotes around it."""
        value = unquoted(self.text(name))
        self._note_default(name, default)
        return value or default

    def items(self, name: str, default: Iterable[str] = ()) -> list[str]:
        """Return the items of a variable that are separated by commas, without empty ones."""
        items = [item.strip() for item in self.plain(name).split(",") if item.strip()]
        self._note_default(name, ",".join(default))
        return items or list(default)

    def flag(self, name: str, default: bool) -> bool:
        """Return a boolean."""
        value = self.optional_flag(name)
        self._note_default(name, default)
        return default if value is None else value

    def optional_flag(self, name: str) -> bool | None:
        """Return a boolean; None if the variable is not set."""
        value = self.plain(name)
        if value.lower() in (*_TRUE, *_FALSE):
            return value.lower() in _TRUE
        if value:
            self.refuse(name, "true or false", value)
        return None

    def whole(self, name: str, default: int, low: int, high: int, unit: str) -> int:
        """Return a whole number of `unit`."""
        value = self.plain(name)
        self._note_default(name, default)
        self.ranges[name] = (unit, low, high)
        if not value:
            return default
        if not (re.fullmatch(r"[0-9]{1,15}", value, re.ASCII) and low <= int(value) <= high):
            self.refuse(name, f"{unit} from {low} to {high}, such as {default}", value)
            if "://" in value:
                self.errors[-1] += ": Kubernetes sets it for a service of that name, unless enableServiceLinks is false"
            return default
        return int(value)

    def number(self, name: str, low: float, high: float, example: str, unit: str = "a number") -> float | None:
        """Return a number of `unit`, which may have a fraction; None if the variable is not set."""
        value = self.plain(name)
        self.ranges[name] = (unit, low, high)
        if not value:
            return None
        if not (re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value, re.ASCII) and low <= float(value) <= high):
            self.refuse(name, f"{unit} from {low:g} to {high:g}, such as {example}", value)
            return None
        return float(value)

    def networks(self, name: str, without: Collection[str] = ()) -> list[IPv4Network | IPv6Network]:
        """Return addresses and CIDRs; `*` is refused, as it would allow every client. Items `without` are left out."""
        found = []
        for item in self.items(name):
            if item in without:
                continue
            try:
                found.append(ip_network(item, strict=False))
            except ValueError:
                self.refuse(name, "addresses and CIDRs, separated by commas, such as 10.0.0.0/8,192.168.1.7", item)
        return found

    def url(self, name: str, example: str, default: str = "", schemes: Collection[str] = ("http", "https")) -> str:
        """Return a URL. Errors do not repeat it, since it may have a password."""
        value = self.plain(name, default)
        if value and not _has_host(value, schemes):
            beginnings = " or ".join(f"{scheme}://" for scheme in schemes)
            self.refuse(name, f"a URL that begins with {beginnings}, such as {example}")
            return default
        return value

    def matching(self, name: str, pattern: str, default: str, form: str) -> str:
        """Return a variable that matches a regular expression; `form` is the form in words."""
        value = self.plain(name, default)
        if not re.fullmatch(pattern, value, re.ASCII):
            self.refuse(name, f"{form}, such as {default}", value)
            return default
        return value

    def _note_default(self, name: str, default: Any) -> None:
        if default != "":
            self.defaults[name] = default

    # Names that nothing reads

    def unknown(self) -> list[str]:
        """Return the names that begin like ours, and that neither we nor a program that we know of read."""
        first_words = {f"{name.split('_')[0]}_" for name in self.known}
        return sorted(name for name in self._environment if self._is_unknown(name, first_words))

    def _is_unknown(self, name: str, first_words: Collection[str]) -> bool:
        first_word = f"{name.split('_')[0]}_"
        if first_word == f"{name}_" or first_word not in first_words or name in self.known:
            return False
        if _SERVICE_LINKS.fullmatch(name) or any(fnmatchcase(name, pattern) for pattern in _OTHERS):
            return False
        return first_word not in _COMMON_WORDS or bool(nearest(name, self.known, _NEARLY))

    def describe_unknown(self) -> str:
        """Return the sentence about names that nothing reads, with the nearest of ours; empty without any."""
        names = [name + _suggestion(nearest(name, self.known)) for name in self.unknown()]
        return f"These variables are read by nothing: {', '.join(names)}" if names else ""


def _suggestion(found: list[str]) -> str:
    return f" (near {' or '.join(found)})" if found else ""


def _has_host(url: str, schemes: Collection[str]) -> bool:
    try:
        parts: SplitResult = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
