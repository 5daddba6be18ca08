"""Settings with the faulty transport."""

from evoapi.settings import *  # noqa: F403

EVENT_TRANSPORTS = ["tests.realtime.operation.faulty.Faulty"]
