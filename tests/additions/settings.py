"""Settings with a provider and a transport of the tests: a line for each."""

from evoapi.settings import *  # noqa: F403
from evoapi.settings import PROVIDERS

PROVIDERS = [*PROVIDERS, "tests.additions.pigeon.PigeonPost"]
