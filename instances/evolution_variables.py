"""The environment variables of Evolution API 2.4, with what each does here: a part of docs/compatibility.md."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple


class Effect(Enum):
    """The effect of a variable of Evolution API on this server."""

    USED = "used"
    REPLACED = "replaced"
    NONE = "no effect"


class EvolutionVariable(NamedTuple):
    """Variables of Evolution API that have the same effect here; `<NAME>` in a name stands for an event's."""

    names: tuple[str, ...]
    effect: Effect
    #: A note on the effect, without a full stop; what serves in place of a variable that is replaced.
    note: str = ""


def _used(names: str, note: str = "") -> EvolutionVariable:
    return EvolutionVariable(tuple(names.split()), Effect.USED, note)


def _replaced(names: str, note: str) -> EvolutionVariable:
    return EvolutionVariable(tuple(names.split()), Effect.REPLACED, note)


def _unused(names: str, note: str) -> EvolutionVariable:
    return EvolutionVariable(tuple(names.split()), Effect.NONE, note)


_NO_BOTS = "There are no chatbots here: run them as clients"
_NO_ENGINE = "For the engine of WhatsApp Web; there is none here"
_NO_MEDIA = "No media are stored here"
_NOBODY_IS_TOLD = "Nothing is reported to anybody"
_NODES = "For Node"

#: The variables in the order of the sample that Evolution API ships.
VARIABLES = (
    _used("SERVER_PORT SERVER_URL"),
    _replaced(
        "SERVER_TYPE SSL_CONF_PRIVKEY SSL_CONF_FULLCHAIN", "A proxy in front has the certificate: [proxies](proxies.md)"
    ),
    _used("SERVER_DISABLE_MANAGER", "There is no dashboard anyway unless `EVOLUTION_MANAGER_DIR` is set"),
    _unused("SERVER_DISABLE_DOCS", "`/docs/` and `/openapi.json` are public, and have nothing of an instance"),
    _unused("SERVER_NAME", "Nothing shows it"),
    _unused("TELEMETRY_ENABLED TELEMETRY_URL SENTRY_DSN", _NOBODY_IS_TOLD),
    _unused(
        "EVOLUTION_OPERATOR_EMAIL LICENSE_ENDPOINT_ENCODED LICENSE_ENDPOINT_XOR_KEY",
        "There is no licence, and no licence server",
    ),
    _used("PROMETHEUS_METRICS", "`GET /metrics`"),
    _used("METRICS_AUTH_REQUIRED METRICS_USER METRICS_PASSWORD"),
    _used("METRICS_ALLOWED_IPS", "CIDRs, too; without it and without a password, this machine alone"),
    _used("CORS_ORIGIN CORS_METHODS"),
    _used("CORS_CREDENTIALS", "It needs a list of origins"),
    _used("LOG_LEVEL", "The lowest of the levels that it lists"),
    _unused("LOG_COLOR", "The log has no colours"),
    _unused("LOG_BAILEYS", _NO_ENGINE),
    _unused("EVENT_EMITTER_MAX_LISTENERS NODE_ENV DOCKER_ENV", _NODES),
    _unused("DEL_INSTANCE DEL_TEMP_INSTANCES", "Instances are deleted by whoever may do so, and not by the server"),
    _replaced(
        "DATABASE_PROVIDER DATABASE_CONNECTION_URI DATABASE_BOUNCER_CONNECTION_URI",
        "`DATABASE_URL`: PostgreSQL, or SQLite without it",
    ),
    _replaced("POSTGRES_DATABASE POSTGRES_USERNAME POSTGRES_PASSWORD", "For Docker Compose; `DATABASE_URL` has them"),
    _used(
        "DATABASE_CONNECTION_CLIENT_NAME",
        "`clientName`; it separates no installations, which need databases of their own",
    ),
    _replaced(
        "DATABASE_SAVE_DATA_INSTANCE DATABASE_SAVE_DATA_NEW_MESSAGE DATABASE_SAVE_MESSAGE_UPDATE "
        "DATABASE_SAVE_DATA_CONTACTS DATABASE_SAVE_DATA_CHATS DATABASE_SAVE_DATA_LABELS DATABASE_SAVE_DATA_HISTORIC",
        "Instances, messages, statuses, contacts and chats are stored in any case; events for `EVENT_RETENTION_HOURS`",
    ),
    _unused("DATABASE_SAVE_IS_ON_WHATSAPP DATABASE_SAVE_IS_ON_WHATSAPP_DAYS", _NO_ENGINE),
    _unused("DATABASE_DELETE_MESSAGE", "Messages that are deleted on WhatsApp stay stored"),
    _used("RABBITMQ_ENABLED RABBITMQ_URI RABBITMQ_EXCHANGE_NAME RABBITMQ_PREFIX_KEY RABBITMQ_GLOBAL_ENABLED"),
    _used("RABBITMQ_EVENTS_<NAME>"),
    _unused("RABBITMQ_FRAME_MAX", "Client and broker agree on it"),
    _unused(
        "NATS_ENABLED NATS_URI NATS_EXCHANGE_NAME NATS_PREFIX_KEY NATS_GLOBAL_ENABLED NATS_EVENTS_<NAME>",
        "No events go to NATS",
    ),
    _unused(
        "SQS_ENABLED SQS_ACCESS_KEY_ID SQS_SECRET_ACCESS_KEY SQS_ACCOUNT_ID SQS_REGION SQS_BASE_URL SQS_GLOBAL_ENABLED "
        "SQS_MAX_PAYLOAD_SIZE SQS_GLOBAL_FORCE_SINGLE_QUEUE SQS_GLOBAL_PREFIX_NAME SQS_GLOBAL_<NAME>",
        "No events go to SQS",
    ),
    _unused(
        "KAFKA_ENABLED KAFKA_CLIENT_ID KAFKA_BROKERS KAFKA_CONNECTION_TIMEOUT KAFKA_REQUEST_TIMEOUT "
        "KAFKA_GLOBAL_ENABLED KAFKA_CONSUMER_GROUP_ID KAFKA_TOPIC_PREFIX KAFKA_NUM_PARTITIONS KAFKA_REPLICATION_FACTOR "
        "KAFKA_AUTO_CREATE_TOPICS KAFKA_SASL_ENABLED KAFKA_SASL_MECHANISM KAFKA_SASL_USERNAME KAFKA_SASL_PASSWORD "
        "KAFKA_SSL_ENABLED KAFKA_SSL_REJECT_UNAUTHORIZED KAFKA_SSL_CA KAFKA_SSL_KEY KAFKA_SSL_CERT KAFKA_EVENTS_<NAME>",
        "No events go to Kafka",
    ),
    _unused(
        "PUSHER_ENABLED PUSHER_GLOBAL_ENABLED PUSHER_GLOBAL_APP_ID PUSHER_GLOBAL_KEY PUSHER_GLOBAL_SECRET "
        "PUSHER_GLOBAL_CLUSTER PUSHER_GLOBAL_USE_TLS PUSHER_EVENTS_<NAME>",
        "No events go to Pusher",
    ),
    _used("WEBSOCKET_ENABLED WEBSOCKET_GLOBAL_EVENTS", "`true` unless set"),
    _used("WEBSOCKET_ALLOWED_HOSTS", "CIDRs, too; nobody unless set, and `*` does not do without a key"),
    _used("WA_BUSINESS_TOKEN_WEBHOOK", "Generated unless set"),
    _used("WA_BUSINESS_URL WA_BUSINESS_VERSION"),
    _unused("WA_BUSINESS_LANGUAGE", "Evolution API does not use it either"),
    _used("WEBHOOK_GLOBAL_ENABLED WEBHOOK_GLOBAL_URL WEBHOOK_GLOBAL_WEBHOOK_BY_EVENTS WEBHOOK_EVENTS_<NAME>"),
    _unused(
        "WEBHOOK_EVENTS_ERRORS WEBHOOK_EVENTS_ERRORS_WEBHOOK",
        "Errors are in the log; Evolution API's hook has the global key",
    ),
    _used(
        "WEBHOOK_REQUEST_TIMEOUT_MS WEBHOOK_RETRY_MAX_ATTEMPTS WEBHOOK_RETRY_INITIAL_DELAY_SECONDS "
        "WEBHOOK_RETRY_USE_EXPONENTIAL_BACKOFF WEBHOOK_RETRY_MAX_DELAY_SECONDS WEBHOOK_RETRY_JITTER_FACTOR "
        "WEBHOOK_RETRY_NON_RETRYABLE_STATUS_CODES",
        "Without any of the waits, Standard Webhooks' schedule",
    ),
    _used("CONFIG_BAILEYS_VERSION", "`whatsappWebVersion` in `GET /`; nobody is asked for it"),
    _unused("CONFIG_SESSION_PHONE_CLIENT CONFIG_SESSION_PHONE_NAME QRCODE_LIMIT QRCODE_COLOR", _NO_ENGINE),
    _unused("PROVIDER_ENABLED PROVIDER_HOST PROVIDER_PORT PROVIDER_PREFIX", _NO_ENGINE),
    _replaced(
        "PROXY_HOST PROXY_PORT PROXY_PROTOCOL PROXY_USERNAME PROXY_PASSWORD",
        "Each instance's proxy is stored by `/proxy/set`, for its engine",
    ),
    _used("FACEBOOK_APP_ID FACEBOOK_CONFIG_ID FACEBOOK_USER_TOKEN", "`POST /verify-creds` has them"),
    _unused("TYPEBOT_ENABLED TYPEBOT_API_VERSION TYPEBOT_SEND_MEDIA_BASE64", _NO_BOTS),
    _unused("OPENAI_ENABLED OPENAI_API_KEY_GLOBAL DIFY_ENABLED N8N_ENABLED EVOAI_ENABLED FLOWISE_ENABLED", _NO_BOTS),
    _unused(
        "CHATWOOT_ENABLED CHATWOOT_MESSAGE_READ CHATWOOT_MESSAGE_DELETE CHATWOOT_BOT_CONTACT "
        "CHATWOOT_IMPORT_DATABASE_CONNECTION_URI CHATWOOT_IMPORT_PLACEHOLDER_MEDIA_MESSAGE",
        "There is no connection to Chatwoot here",
    ),
    _replaced(
        "CACHE_REDIS_ENABLED CACHE_REDIS_URI CACHE_REDIS_TTL CACHE_REDIS_PREFIX_KEY CACHE_REDIS_SAVE_INSTANCES "
        "CACHE_LOCAL_ENABLED CACHE_LOCAL_TTL",
        "There is no cache to keep; processes share what `DATABASE_URL` names",
    ),
    _unused(
        "S3_ENABLED S3_ACCESS_KEY S3_SECRET_KEY S3_BUCKET S3_PORT S3_ENDPOINT S3_REGION S3_USE_SSL S3_SKIP_POLICY "
        "S3_SAVE_VIDEO",
        _NO_MEDIA,
    ),
    _unused("API_AUDIO_CONVERTER API_AUDIO_CONVERTER_KEY", "Audio is not converted"),
    _used("AUTHENTICATION_API_KEY", "Generated on SQLite unless set; it never leaves the server"),
    _replaced(
        "AUTHENTICATION_EXPOSE_IN_FETCH_INSTANCES",
        "Keys that may `manage` read tokens of their instances; events have none",
    ),
    _unused("LANGUAGE", "All texts are English"),
)

#: Variables of former versions, which still stand in many a file of variables.
FORMER = (
    *("AUTHENTICATION_TYPE", "AUTHENTICATION_JWT_*", "AUTHENTICATION_INSTANCE_*", "AUTHENTICATION_GLOBAL_AUTH_TOKEN"),
    *("CLEAN_STORE_*", "STORE_*", "DATABASE_ENABLED", "DATABASE_CONNECTION_DB_PREFIX_NAME", "DATABASE_SAVE_*"),
    *("CONFIG_SESSION_PHONE_VERSION", "RABBITMQ_MODE", "RABBITMQ_MAX_LENGTH*", "RABBITMQ_MESSAGE_TTL"),
    *("RABBITMQ_EVENTS_NEW_JWT_TOKEN", "TYPEBOT_KEEP_OPEN", "WEBHOOK_GLOBAL_BASE64"),
    *("WEBHOOK_EVENTS_NEW_JWT_TOKEN", "WEBHOOK_EVENTS_CHAMA_AI_ACTION", "RABBITMQ_EVENTS_CHAMA_AI_ACTION"),
)


def unread_variables() -> Iterator[str]:
    """Yield patterns of the variables of Evolution API that nothing here reads, for which no warning is needed."""
    for variable in VARIABLES:
        if variable.effect is not Effect.USED:
            yield from (name.replace("<NAME>", "*") for name in variable.names)
    yield from FORMER


def variables_table() -> str:
    """Return the table of the variables in Markdown."""
    lines = ["| Variable | Here | |", "|---|---|---|"]
    for names, effect, note in VARIABLES:
        lines.append(f"| {', '.join(f'`{name}`' for name in names)} | {effect.value} | {note} |")
    return "\n".join(lines)
