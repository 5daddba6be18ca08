"""Settings with a provider and a transport of the tests: a line for each."""

from evoapi.settings import *  # noqa: F403
from evoapi.settings import DATA_DIR, EVENT_TRANSPORTS, PROVIDERS

PROVIDERS = [*PROVIDERS, "tests.additions.pigeon.PigeonPost"]
EVENT_TRANSPORTS = [*EVENT_TRANSPORTS, "tests.additions.spool.Spool"]

#: The directory that `Spool` writes to.
SPOOL_DIR = DATA_DIR / "spool"
