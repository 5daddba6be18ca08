"""The warning about environment variables that nothing reads."""

from __future__ import annotations

import logging

from django.conf import settings

logger = logging.getLogger(__name__)


def warn_of_unknown_variables() -> None:
    """Log the variables that begin like ours and that nothing reads, if any: most likely they are misspelt."""
    if sentence := settings.VARIABLES.describe_unknown():
        logger.warning("%s. docs/settings.md and docs/limits.md list what is read", sentence)
