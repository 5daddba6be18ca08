from typing import Any

from django.apps import AppConfig
from django.core import checks

from instances.bounds.bound import unknown_variables


class InstancesConfig(AppConfig):
    name = "instances"

    def ready(self) -> None:
        from instances.models import receivers  # noqa: F401 (connects the signals)

        checks.register(check_limits)


def check_limits(**options: Any) -> list[checks.CheckMessage]:
    """Warn of environment variables that look like a limit's and are none."""
    return [
        checks.Warning(
            f"{name} is no limit, so it changes nothing.", hint="docs/limits.md lists them.", id="evoapi.W001"
        )
        for name in unknown_variables()
    ]
