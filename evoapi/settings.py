"""Django's settings, and the environment variables of evoapi, which docs/settings.md explains.

Variables that Evolution API has, too, have its names.
"""

from __future__ import annotations

import logging.config
import os
import re
from collections.abc import Callable
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from urllib.parse import quote, urlsplit

from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from evoapi import database_url
from evoapi.private_files import SQLITE_SUFFIXES, make_private
from evoapi.secrets import SecretsFile, token
from evoapi.unfold import UNFOLD as UNFOLD
from evoapi.variables import Variables
from instances import bounds
from instances.bounds.bound import ERRORS, TABLE
from instances.events import GROUP_UPDATE, EventType
from instances.outbound.webhook_secrets import check_secret

VARIABLES = Variables(os.environ)
VARIABLES.known |= TABLE.keys()
VARIABLES.errors += ERRORS
BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(VARIABLES.plain("DATA_DIR", default=str(BASE_DIR / "var"))).resolve()
os.umask(0o077)  # before the first file: database and secrets are their owner's alone

#: Keys that Evolution API published as its default and its sample, and that are therefore no secrets.
PUBLISHED_KEYS = {"BQYHJGJHJ", "429683C4C977415CAAFCCE10F7D57E11"}

#: The version of Evolution API that this server is compatible with; clients check the major number.
EVOLUTION_VERSION = "2.4.0"


def _events(prefix: str) -> frozenset[str]:
    """Return the names of the events whose variable is true, such as WEBHOOK_EVENTS_MESSAGES_UPSERT=true."""
    names = [GROUP_UPDATE, *EventType.names]
    return frozenset(name for name in names if VARIABLES.flag(prefix + name, default=False))


# Address of the server

SERVER_HOST = VARIABLES.plain("SERVER_HOST", default="127.0.0.1")
SERVER_PORT = VARIABLES.whole("SERVER_PORT", default=8080, low=0, high=65535, unit="a port")
SERVER_URL = VARIABLES.url("SERVER_URL", example="https://evo.example.com").rstrip("/")
_server = urlsplit(SERVER_URL)

DEBUG = VARIABLES.flag("DEBUG", default=False)
DEFAULT_EXCEPTION_REPORTER = "evoapi.debug.Reporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "evoapi.debug.ReporterFilter"
ALLOWED_HOSTS: list[str] = ["localhost", "127.0.0.1", "[::1]", *VARIABLES.items("ALLOWED_HOSTS")]
for _host in ALLOWED_HOSTS:
    if not re.fullmatch(r"\*|\[[0-9a-fA-F:.]+\]|[^\s/:@*\[\]]+", _host):
        VARIABLES.refuse("ALLOWED_HOSTS", "names of hosts without scheme and port, such as evo.example.com", _host)
if _server.hostname:
    ALLOWED_HOSTS.append(_server.hostname)
elif SERVER_HOST in ("0.0.0.0", "::"):  # noqa: S104 (compared, not bound)
    ALLOWED_HOSTS.append("*")
else:
    ALLOWED_HOSTS.append(SERVER_HOST)
CSRF_TRUSTED_ORIGINS = [f"{_server.scheme}://{_server.netloc}"] if SERVER_URL else []
CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE = _server.scheme == "https"
SECURE_REFERRER_POLICY = "same-origin"
#: Seconds that browsers use https alone for SERVER_URL's host, once they have seen a response by https.
SECURE_HSTS_SECONDS = VARIABLES.whole(
    "SECURE_HSTS_SECONDS",
    default=365 * 86_400 if _server.scheme == "https" else 0,
    low=0,
    high=10 * 365 * 86_400,
    unit="a number of seconds",
)
#: The end of each Content-Security-Policy.
_CSP_END = "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
#: Content-Security-Policies by the beginning of the path: pages load scripts and styles as files, and nothing from
#: elsewhere. The admin's Alpine evaluates the expressions in its attributes.
CONTENT_SECURITY_POLICIES = {
    "/admin/": f"default-src 'self'; script-src 'self' 'unsafe-eval'; img-src 'self' data:; {_CSP_END}",
    "/console/": f"default-src 'self'; {_CSP_END}",
    "/docs/": f"default-src 'self'; {_CSP_END}",
}

CORS_ORIGIN = VARIABLES.items("CORS_ORIGIN", default=["*"])
for _origin in CORS_ORIGIN:
    if not re.fullmatch(r"\*|null|[a-z][a-z0-9+.-]*://[^\s/@?#]+", _origin):
        VARIABLES.refuse("CORS_ORIGIN", "* or origins, separated by commas, such as https://panel.example.com", _origin)
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
CORS_ALLOW_ALL_ORIGINS = "*" in CORS_ORIGIN
CORS_ALLOWED_ORIGINS = [origin for origin in CORS_ORIGIN if origin != "*"]
CORS_ALLOW_HEADERS = [
    "accept",
    "apikey",
    "authorization",
    "content-type",
    "last-event-id",
    "user-agent",
    "x-requested-with",
]
CORS_EXPOSE_HEADERS = ["X-Ignored-Members"]
#: Methods that pages of other origins may use.
CORS_ALLOW_METHODS = [method.upper() for method in VARIABLES.items("CORS_METHODS", default=_METHODS)]
for _method in CORS_ALLOW_METHODS:
    if _method not in _METHODS:
        VARIABLES.refuse("CORS_METHODS", f"methods, separated by commas, of {', '.join(_METHODS)}", _method)
#: True if pages of the listed origins may send their cookies along, and read what is answered.
CORS_ALLOW_CREDENTIALS = VARIABLES.flag("CORS_CREDENTIALS", default=False)
if CORS_ALLOW_CREDENTIALS and not {"*", "null"}.isdisjoint(CORS_ORIGIN):
    VARIABLES.errors.append(
        "CORS_CREDENTIALS needs CORS_ORIGIN to list the origins, such as https://panel.example.com: with * or null any"
        " page could act as whoever looks at it"
    )
#: Beginnings of paths of which no page of another origin may read anything.
PATHS_WITHOUT_CORS = (*CONTENT_SECURITY_POLICIES, "/inbox/")
CORS_URLS_REGEX = f"^(?!{'|'.join(PATHS_WITHOUT_CORS)})"

#: Reverse proxies whose X-Forwarded-For is trusted.
TRUSTED_PROXIES = VARIABLES.networks("TRUSTED_PROXIES")

# Database

_default_database = f"sqlite:///{quote(str(DATA_DIR / 'db.sqlite3'))}"
try:
    _database, _ignored_options = database_url.parse(VARIABLES.plain("DATABASE_URL", _default_database))
except ImproperlyConfigured as _error:
    VARIABLES.errors.append(str(_error))
    _database, _ignored_options = database_url.parse(_default_database)
IS_SQLITE = "sqlite" in _database["ENGINE"]
if IS_SQLITE:
    DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_private(Path(f"{_database['NAME']}{suffix}") for suffix in SQLITE_SUFFIXES)
    _database |= {
        "ENGINE": "evoapi.sqlite",
        # few threads use the database, and as long as the server runs; a new connection each time would cost 0.6 ms
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": bounds.LOCK_SECONDS,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-16000; "
            # of all connections together; without it, each would keep its cache full of the last large event
            f"PRAGMA soft_heap_limit={bounds.SQLITE_CACHE_BYTES};",
        },
        "TEST": {"NAME": DATA_DIR / "test.sqlite3"},
    }
else:
    _database |= {
        "ENGINE": "evoapi.postgresql",
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": True,  # the pool holds broken connections after the database was unavailable
        "OPTIONS": {
            # a network that drops all packets is noticed after seconds, not after the kernel's 15 minutes
            "connect_timeout": 3,
            "tcp_user_timeout": 5000,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            **_database.get("OPTIONS", {}),
            # evoapi/postgresql retries, not the pool
            "pool": {"min_size": 2, "max_size": 20, "timeout": 3, "reconnect_timeout": 0},
        },
    }
DATABASES = {"default": _database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Secrets: generated and stored in DATA_DIR on SQLite; on PostgreSQL all machines must be configured with the same

SECRETS = SecretsFile(DATA_DIR / "secrets.json")
make_private([SECRETS.path])


#: The commands that print a new secret, where one has to be set.
_MAKE_KEY = 'python -c "import secrets; print(secrets.token_urlsafe(32))"'
_MAKE_FERNET_KEY = (
    'python -c "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())" (a Fernet key)'
)


def _secret(name: str, generate: Callable[[], str] = token, command: str = _MAKE_KEY) -> str:
    value = VARIABLES.text(name)
    if value:
        return value
    if not IS_SQLITE:
        VARIABLES.errors.append(
            f"{name} must be set in the environment: with PostgreSQL it is not generated. Set it for all processes to"
            f" what this prints: {command}"
        )
        return generate()
    return SECRETS.get(name, generate)


SECRET_KEY = _secret("SECRET_KEY")
SECRET_KEY_FALLBACKS = VARIABLES.items("SECRET_KEY_FALLBACKS")
#: Fernet keys for secrets that must be decrypted. The first encrypts, all decrypt.
ENCRYPTION_KEYS = [
    key.strip()
    for key in _secret("ENCRYPTION_KEYS", lambda: Fernet.generate_key().decode(), _MAKE_FERNET_KEY).split(",")
]
AUTHENTICATION_API_KEY = _secret("AUTHENTICATION_API_KEY")
if AUTHENTICATION_API_KEY in PUBLISHED_KEYS:
    VARIABLES.errors.append(
        "AUTHENTICATION_API_KEY is a key that Evolution API published as an example, so it is no secret. "
        f"Set another key, such as one that this prints: {_MAKE_KEY}"
        + (". Or leave the variable out to have a key generated" if IS_SQLITE else "")
    )
for _key in ENCRYPTION_KEYS:
    try:
        Fernet(_key)
    except ValueError:
        VARIABLES.refuse(
            "ENCRYPTION_KEYS",
            f"Fernet keys (32 bytes in URL-safe base64), separated by commas; this prints one: {_MAKE_FERNET_KEY}",
        )


def _generated_by_bootstrap(name: str) -> str:
    """Return the variable, even if it is empty; if it is not set, the secret that `manage.py bootstrap` stored."""
    VARIABLES.known.add(name)
    return os.environ[name] if name in os.environ else SECRETS.read().get(name, "")


# WhatsApp Cloud API

WA_BUSINESS_TOKEN_WEBHOOK = _generated_by_bootstrap("WA_BUSINESS_TOKEN_WEBHOOK")
WA_BUSINESS_APP_SECRET = _generated_by_bootstrap("WA_BUSINESS_APP_SECRET")
WA_BUSINESS_URL = VARIABLES.url(
    "WA_BUSINESS_URL", example="https://graph.facebook.com", default="https://graph.facebook.com"
).rstrip("/")
WA_BUSINESS_VERSION = VARIABLES.matching(
    "WA_BUSINESS_VERSION", r"v[0-9]+\.[0-9]+", default="v20.0", form="a version of the Graph API"
)

# The admin's first login

DJANGO_SUPERUSER_USERNAME = VARIABLES.plain("DJANGO_SUPERUSER_USERNAME", default="admin")
DJANGO_SUPERUSER_PASSWORD = _generated_by_bootstrap("DJANGO_SUPERUSER_PASSWORD")

# Evolution channel

_ingress = VARIABLES.plain("EVOLUTION_INGRESS_OPEN").lower()
#: The clients that may post to /webhook/evolution without a key: all (True), none (False) or those of these networks.
EVOLUTION_INGRESS_OPEN: bool | list[IPv4Network | IPv6Network] = (
    _ingress == "true" if _ingress in ("true", "false", "") else VARIABLES.networks("EVOLUTION_INGRESS_OPEN")
)

# Evolution Manager

SERVER_DISABLE_MANAGER = VARIABLES.flag("SERVER_DISABLE_MANAGER", default=False)
_manager = VARIABLES.plain("EVOLUTION_MANAGER_DIR")
#: The directory of a built copy of the dashboard (Evolution API's `manager/dist`); None: it is not served.
EVOLUTION_MANAGER_DIR = Path(_manager).resolve() if _manager and not SERVER_DISABLE_MANAGER else None
if EVOLUTION_MANAGER_DIR and not (EVOLUTION_MANAGER_DIR / "index.html").is_file():
    VARIABLES.refuse(
        "EVOLUTION_MANAGER_DIR",
        "the directory of a built copy of Evolution Manager with its index.html, such as /srv/manager/dist",
        _manager,
    )

# Socket.IO

WEBSOCKET_ENABLED = VARIABLES.flag("WEBSOCKET_ENABLED", default=True)
#: True if the namespace `/` receives every event of every instance.
WEBSOCKET_GLOBAL_EVENTS = VARIABLES.flag("WEBSOCKET_GLOBAL_EVENTS", default=True)
#: TCP peers that may join without a key. `*` is no such peer: it means any host in Evolution API, and each needs a key.
WEBSOCKET_ALLOWED_HOSTS = VARIABLES.networks("WEBSOCKET_ALLOWED_HOSTS", without="*")
#: Bytes of events that are buffered for a slow client; beyond it they are dropped, and read from the log again later.
WEBSOCKET_MAX_BUFFER = bounds.WEBSOCKET_MAX_BUFFER
SOCKET_IO_CLIENT = BASE_DIR / "node_modules" / "socket.io-client" / "dist"

# Event log

EVENT_RETENTION_HOURS = VARIABLES.whole(
    "EVENT_RETENTION_HOURS", default=168, low=1, high=1_000_000, unit="a number of hours"
)


def _milliseconds(name: str, default: int) -> int:
    return VARIABLES.whole(name, default, low=0, high=3_600_000, unit="a number of milliseconds, 0 for off,")


# Milliseconds in which events of a type are coalesced into the latest; 0 turns coalescing off.
EVENT_COALESCE_CONNECTION_UPDATE_MS = _milliseconds("EVENT_COALESCE_CONNECTION_UPDATE_MS", default=0)
EVENT_COALESCE_QRCODE_UPDATED_MS = _milliseconds("EVENT_COALESCE_QRCODE_UPDATED_MS", default=0)
#: Applies to each chat of an instance.
EVENT_COALESCE_PRESENCE_UPDATE_MS = _milliseconds("EVENT_COALESCE_PRESENCE_UPDATE_MS", default=1000)

#: Largest request body that is read, in bytes.
MAX_BODY_BYTES = bounds.MAX_BODY_BYTES
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES
DATA_UPLOAD_MAX_NUMBER_FIELDS = bounds.QUERY_FIELDS
DATABASE_CONNECTION_CLIENT_NAME = VARIABLES.plain("DATABASE_CONNECTION_CLIENT_NAME", default="evolution")

#: The version of WhatsApp Web that GET / shows; none where it is empty.
CONFIG_BAILEYS_VERSION = VARIABLES.plain("CONFIG_BAILEYS_VERSION")
if CONFIG_BAILEYS_VERSION and not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,12}){2}", CONFIG_BAILEYS_VERSION):
    VARIABLES.refuse("CONFIG_BAILEYS_VERSION", "a version, such as 2.3000.1028442591", CONFIG_BAILEYS_VERSION)
#: Members of the answer to POST /verify-creds, which needs the global key, for Evolution Manager's log-in at Facebook.
FACEBOOK_APP_ID = VARIABLES.plain("FACEBOOK_APP_ID")
FACEBOOK_CONFIG_ID = VARIABLES.plain("FACEBOOK_CONFIG_ID")
FACEBOOK_USER_TOKEN = VARIABLES.plain("FACEBOOK_USER_TOKEN")

# GET /metrics

PROMETHEUS_METRICS = VARIABLES.flag("PROMETHEUS_METRICS", default=False)
METRICS_AUTH_REQUIRED = VARIABLES.flag("METRICS_AUTH_REQUIRED", default=False)
METRICS_USER = VARIABLES.plain("METRICS_USER")
METRICS_PASSWORD = VARIABLES.plain("METRICS_PASSWORD")
#: The clients that may read the metrics.
METRICS_ALLOWED_IPS = VARIABLES.networks("METRICS_ALLOWED_IPS")

# RabbitMQ

RABBITMQ_ENABLED = VARIABLES.flag("RABBITMQ_ENABLED", default=False)
RABBITMQ_URI = VARIABLES.url(
    "RABBITMQ_URI", example="amqps://user:password@rabbit.example.com/vhost", schemes=("amqp", "amqps")
)
#: The exchange for the events of all instances; those of one instance are published to an exchange of its name.
RABBITMQ_EXCHANGE_NAME = VARIABLES.plain("RABBITMQ_EXCHANGE_NAME", default="evolution_exchange")
#: Prefix of the names of the queues for the events of all instances.
RABBITMQ_PREFIX_KEY = VARIABLES.plain("RABBITMQ_PREFIX_KEY")
#: True if events of all instances are published to one exchange: those that RABBITMQ_EVENTS_<NAME> selects.
RABBITMQ_GLOBAL_ENABLED = VARIABLES.flag("RABBITMQ_GLOBAL_ENABLED", default=False)
RABBITMQ_EVENTS = _events("RABBITMQ_EVENTS_")
if RABBITMQ_ENABLED and not RABBITMQ_URI:
    VARIABLES.errors.append(
        "RABBITMQ_ENABLED needs RABBITMQ_URI, such as amqps://user:password@rabbit.example.com/vhost"
    )
if RABBITMQ_ENABLED and find_spec("aiormq") is None:
    VARIABLES.errors.append(
        "RABBITMQ_ENABLED needs RabbitMQ's client: pip install --require-hashes -r requirements-rabbitmq.txt"
    )

# Extension points: a new provider or transport is a file and a line here

#: In the order in which clients are shown them.
PROVIDERS = [
    "instances.providers.whatsapp_web.WhatsAppWeb",
    "instances.providers.cloud_api.CloudApi",
    "instances.providers.evolution.EvolutionChannel",
]

#: True if the server sends deliveries itself; otherwise `manage.py deliver` must run.
DELIVERY_EMBEDDED = VARIABLES.flag("DELIVERY_EMBEDDED", default=True)
EVENT_TRANSPORTS = [
    "realtime.delivery.transports.webhook.Webhook",
    "realtime.delivery.transports.rabbitmq.RabbitMQ",
]

# Webhooks

#: Private networks that tenants' URLs may use.
WEBHOOK_ALLOWED_NETWORKS = VARIABLES.networks("WEBHOOK_ALLOWED_NETWORKS")
#: Milliseconds for an attempt: to connect, to send the request, and to read the response.
WEBHOOK_REQUEST_TIMEOUT_MS = VARIABLES.whole(
    "WEBHOOK_REQUEST_TIMEOUT_MS", default=30_000, low=1, high=100_000, unit="a number of milliseconds"
)
# Evolution API's formula for the delays between attempts; if none is set, Standard Webhooks' schedule is used
WEBHOOK_RETRY_MAX_ATTEMPTS = VARIABLES.number("WEBHOOK_RETRY_MAX_ATTEMPTS", 1, 1000, "10")
WEBHOOK_RETRY_INITIAL_DELAY_SECONDS = VARIABLES.number(
    "WEBHOOK_RETRY_INITIAL_DELAY_SECONDS", 0, 86_400, "5", unit="a number of seconds"
)
WEBHOOK_RETRY_USE_EXPONENTIAL_BACKOFF = VARIABLES.optional_flag("WEBHOOK_RETRY_USE_EXPONENTIAL_BACKOFF")
WEBHOOK_RETRY_MAX_DELAY_SECONDS = VARIABLES.number(
    "WEBHOOK_RETRY_MAX_DELAY_SECONDS", 0, 604_800, "300", unit="a number of seconds"
)
WEBHOOK_RETRY_JITTER_FACTOR = VARIABLES.number("WEBHOOK_RETRY_JITTER_FACTOR", 0, 1, "0.2")


def _statuses(name: str) -> frozenset[int] | None:
    values = VARIABLES.items(name)
    for value in values:
        if not re.fullmatch("[1-5][0-9][0-9]", value, re.ASCII):
            VARIABLES.refuse(name, "HTTP statuses, separated by commas, such as 400,422", value)
    return frozenset(int(value) for value in values if value.isdecimal()) or None


#: Response statuses after which a delivery is not retried; None: 400 and 422.
WEBHOOK_RETRY_NON_RETRYABLE_STATUS_CODES = _statuses("WEBHOOK_RETRY_NON_RETRYABLE_STATUS_CODES")


#: The global webhook, which receives the events of all instances. Its URL is the operator's, and may be private.
WEBHOOK_GLOBAL_ENABLED = VARIABLES.flag("WEBHOOK_GLOBAL_ENABLED", default=False)
WEBHOOK_GLOBAL_URL = VARIABLES.url("WEBHOOK_GLOBAL_URL", example="https://hook.example.com/in")
WEBHOOK_GLOBAL_WEBHOOK_BY_EVENTS = VARIABLES.flag("WEBHOOK_GLOBAL_WEBHOOK_BY_EVENTS", default=False)
#: The secret that its deliveries are signed with; if it is empty, they are not signed.
WEBHOOK_GLOBAL_SECRET = VARIABLES.plain("WEBHOOK_GLOBAL_SECRET")
WEBHOOK_EVENTS = _events("WEBHOOK_EVENTS_")
if WEBHOOK_GLOBAL_ENABLED and not WEBHOOK_GLOBAL_URL:
    VARIABLES.errors.append("WEBHOOK_GLOBAL_ENABLED needs WEBHOOK_GLOBAL_URL, such as https://hook.example.com/in")
if WEBHOOK_GLOBAL_SECRET:
    try:
        check_secret(WEBHOOK_GLOBAL_SECRET)
    except ValueError as _error:
        VARIABLES.errors.append(f"WEBHOOK_GLOBAL_SECRET: {_error}")

# Django

INSTALLED_APPS = [
    "instances",
    "realtime",  # before staticfiles, whose runserver it overrides
    "corsheaders",
    "unfold.apps.BasicAppConfig",  # before the admin, whose templates it overrides
    "evoapi.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
]
#: The middleware that adds headers to every response. The gate adds the same to what Django does not answer.
HEADER_MIDDLEWARE = [
    "corsheaders.middleware.CorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "evoapi.middleware.DefaultHeaders",
]
MIDDLEWARE = [
    *HEADER_MIDDLEWARE,
    "instances.api.ignored.IgnoredMembers",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "evoapi.urls"
ASGI_APPLICATION = "evoapi.asgi.application"
APPEND_SLASH = False  # API clients do not follow a redirect of a POST
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "realtime.pages.sections.open_sections",
            ],
        },
    },
]
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", "instances.access.staff.RoleBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
STATIC_ROOT = DATA_DIR / "static"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["instances.access.rest.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["instances.access.rest.MayUseInstance"],
    "DEFAULT_PARSER_CLASSES": ["instances.api.json.JsonParser", "instances.api.json.FormOrMisnamedJson"],
    "DEFAULT_RENDERER_CLASSES": ["instances.api.json.JsonRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "instances.api.json.AlwaysJson",
    "URL_FORMAT_OVERRIDE": None,
    "EXCEPTION_HANDLER": "instances.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_SCHEMA_CLASS": "instances.api.openapi.Schema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "evoapi",
    "DESCRIPTION": "WhatsApp numbers and their events: the routes of Evolution API, and those of evoapi.",
    "VERSION": "1",
    "DEFAULT_GENERATOR_CLASS": "instances.api.openapi.Generator",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "",
    "POSTPROCESSING_HOOKS": [
        "evoapi.openapi_examples.add_examples",
        "evoapi.openapi_descriptions.add_descriptions",
    ],
}

#: The levels of logging, and the names that Evolution API has for them, each with its level here.
_LEVELS = {
    **{name: name for name in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")},
    **{"WARN": "WARNING", "LOG": "INFO", "VERBOSE": "DEBUG", "DARK": "DEBUG"},
    **{"WEBHOOKS": "INFO", "WEBSOCKET": "INFO"},
}
_levels = [name.upper() for name in VARIABLES.items("LOG_LEVEL", default=["INFO"])]
for _level in _levels:
    if _level not in _LEVELS:
        VARIABLES.refuse("LOG_LEVEL", "DEBUG, INFO, WARNING, ERROR or CRITICAL, such as INFO", _level)
#: The lowest of those that are listed, as Evolution API's variable lists them.
LOG_LEVEL = min((_LEVELS.get(name, "INFO") for name in _levels), key=lambda name: logging.getLevelNamesMapping()[name])

VARIABLES.check()
LOGGING_CONFIG = None
logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"log_filter": {"()": "evoapi.log_filter.LogFilter"}},
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["log_filter"]}},
        "root": {"handlers": ["console"], "level": "WARNING"},
        "loggers": {
            **{name: {"level": LOG_LEVEL} for name in ("evoapi", "instances", "realtime")},
            # at INFO uvicorn logs each request's query, which may hold a key; its command has handlers of its own
            "uvicorn": {"level": "WARNING", "propagate": True},
            "uvicorn.error": {"level": "WARNING"},
            "uvicorn.access": {"level": "WARNING", "propagate": True},
            # evoapi/postgresql and realtime/delivery/transports/rabbitmq log when database and broker are unavailable
            "psycopg.pool": {"level": "ERROR"},
            "aiormq": {"level": "CRITICAL"},
            # a wrong key or name is the client's mistake, and gets its error response; it is not logged
            "django.request": {"level": "ERROR"},
            "django.security.DisallowedHost": {"level": "CRITICAL"},
        },
    }
)
if _ignored_options:
    logging.getLogger("evoapi.settings").warning(
        "DATABASE_URL has options without effect: %s", ", ".join(_ignored_options)
    )
