"""The environment of the tests, loaded by pytest before Django's settings: data directory and database.

The database is SQLite. With TEST_DATABASE=postgres it is PostgreSQL at DATABASE_URL
(postgres://postgres@127.0.0.1:5432/postgres by default).
"""

import os
import tempfile

POSTGRES_URL = os.environ.pop("DATABASE_URL", "") or "postgres://postgres@127.0.0.1:5432/postgres"
REDIS_URL = os.environ.pop("REDIS_URL", "") or "redis://127.0.0.1:6379/0"
RABBITMQ_URI = os.environ.pop("RABBITMQ_URI", "") or "amqp://guest:guest@127.0.0.1:5672/"
ON_POSTGRES = os.environ.get("TEST_DATABASE") == "postgres"
#: Directories of built copies of Evolution Manager, separated by colons; most machines have none.
MANAGER_DIRS = os.environ.pop("TEST_MANAGER_DIRS", "")
IS_CI = os.environ.get("CI") == "true"

GLOBAL_KEY = "global-key-of-the-tests-0123456789"
APP_SECRET = "app-secret-of-the-tests"
VERIFY_TOKEN = "verify-token-of-the-tests"

#: Variables of each process under test; none of the developer's own environment are used.
SETTINGS = {
    "AUTHENTICATION_API_KEY": GLOBAL_KEY,
    "SECRET_KEY": "secret-key-of-the-tests",
    "ENCRYPTION_KEYS": "c2VjcmV0LWtleS1vZi10aGUtdGVzdHMtMDEyMzQ1Njc=",
    "WA_BUSINESS_APP_SECRET": APP_SECRET,
    "WA_BUSINESS_TOKEN_WEBHOOK": VERIFY_TOKEN,
    "WA_BUSINESS_URL": "http://127.0.0.1:9",  # nothing listens on this port
    "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",  # the network of the tests' receivers
    "DJANGO_SETTINGS_MODULE": "evoapi.settings",
}
OURS = (
    "ALLOWED_HOSTS",
    "SERVER_",
    "WEBSOCKET_",
    "WEBHOOK_",
    "RABBITMQ_",
    "WA_BUSINESS_",
    "EVOLUTION_",
    "EVENT_",
    "LIMIT_",
    "MAX_",
    "CORS_",
    "DJANGO_",
    "DATA_DIR",
)

for name in [name for name in os.environ if name.startswith(OURS)]:
    del os.environ[name]
os.environ |= SETTINGS | {"DATA_DIR": tempfile.mkdtemp(prefix="evoapi-tests-")}
if ON_POSTGRES:
    os.environ["DATABASE_URL"] = POSTGRES_URL
