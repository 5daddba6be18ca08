"""The table of bounds: what a stranger, a key, an instance or the whole process may hold or cost.

Each bound is declared here once, used by its constant, changed by its environment variable, and listed in
docs/limits.md, which `python -m instances.bounds` prints. What a protocol or a column fixes is no bound: nobody could
change it.
"""

from __future__ import annotations

from instances.bounds.bound import Holder, bound
from instances.bounds.console import CONSOLE_DELIVERIES as CONSOLE_DELIVERIES
from instances.bounds.console import CONSOLE_EVENTS as CONSOLE_EVENTS
from instances.bounds.console import CONSOLE_NAMESPACES as CONSOLE_NAMESPACES
from instances.bounds.counters import COUNTED_HOURS as COUNTED_HOURS
from instances.bounds.counters import COUNTED_PAGE_EVENTS as COUNTED_PAGE_EVENTS
from instances.bounds.inbox import INBOX_BYTES as INBOX_BYTES
from instances.bounds.inbox import INBOX_HEADER_BYTES as INBOX_HEADER_BYTES
from instances.bounds.inbox import INBOX_HOURS as INBOX_HOURS
from instances.bounds.inbox import INBOX_POSTS_PER_MINUTE as INBOX_POSTS_PER_MINUTE
from instances.bounds.inbox import INBOX_REQUESTS as INBOX_REQUESTS
from instances.bounds.inbox import INBOXES as INBOXES
from instances.bounds.reads import COUNTED_MESSAGES as COUNTED_MESSAGES
from instances.bounds.reads import LAST_MESSAGE_BYTES as LAST_MESSAGE_BYTES
from instances.bounds.reads import PAGE_BYTES as PAGE_BYTES
from instances.bounds.reads import PAGE_ROWS as PAGE_ROWS
from instances.bounds.search import FILTERED_ROWS as FILTERED_ROWS
from instances.bounds.search import SEARCH_HITS as SEARCH_HITS
from instances.bounds.search import SEARCH_MILLISECONDS as SEARCH_MILLISECONDS
from instances.bounds.search import SEARCHED_MESSAGES as SEARCHED_MESSAGES

MAX_BODY_BYTES = bound(
    "MAX_BODY_BYTES",
    16 * 1024 * 1024,
    "bytes",
    Holder.STRANGER,
    limits="the body of a request",
    beyond="413, before more of it is read",
    needs_serve=True,
)
PROXY_HOPS = bound(
    "LIMIT_PROXY_HOPS",
    20,
    "addresses",
    Holder.STRANGER,
    limits="addresses in `X-Forwarded-For` that are looked at, from the last one on, while they are trusted proxies'",
    beyond="the last one that was looked at counts as the client's",
)
LOG_CHARACTERS = bound(
    "LIMIT_LOG_CHARACTERS",
    4096,
    "characters",
    Holder.STRANGER,
    limits="a log line that holds something of a request",
    beyond="its end is left out",
)
TURN_MILLISECONDS = bound(
    "LIMIT_TURN_MILLISECONDS",
    10,
    "milliseconds",
    Holder.STRANGER,
    limits="time in one turn of the event loop for what clients send over sockets, all together",
    beyond="the rest is handled in the next turns, a piece of each client in each",
)
STARTS_PER_TURN = bound(
    "LIMIT_STARTS_PER_TURN",
    20,
    "requests",
    Holder.STRANGER,
    limits="requests and websockets that begin in one turn of the event loop, all together",
    beyond="the others begin in the next turns",
)
HEAD_BYTES = bound(
    "LIMIT_HEAD_BYTES",
    64 * 1024,
    "bytes",
    Holder.STRANGER,
    limits="the head of a request; its trailers and chunk extensions together may have as many again",
    beyond="431, and the connection is closed",
    needs_serve=True,
)
HEAD_LINES = bound(
    "LIMIT_HEAD_LINES",
    200,
    "lines",
    Holder.STRANGER,
    limits="the lines of a head, and of trailers",
    beyond="431, and the connection is closed",
    needs_serve=True,
)
CONNECTIONS = bound(
    "LIMIT_CONNECTIONS",
    50_000,
    "connections",
    Holder.PROCESS,
    limits="open connections, websockets among them; at most as many as the system lets the process open files, but"
    " for 256 that it needs itself",
    beyond="the oldest that waits for a request, or sends its head, is closed for a new one; if all are at work, the"
    " new one is closed",
    needs_serve=True,
)
IDLE_CONNECTIONS = bound(
    "LIMIT_IDLE_CONNECTIONS",
    10_000,
    "connections",
    Holder.PROCESS,
    limits="those of them that wait for a request, or send its head, of some 5 kB each",
    beyond="the oldest one is closed",
    needs_serve=True,
)
UNPARSED_BYTES = bound(
    "LIMIT_UNPARSED_BYTES",
    16 * 1024 * 1024,
    "bytes",
    Holder.PROCESS,
    limits="heads that are not complete, and what clients send before an earlier request has its response, all"
    " together",
    beyond="the connection that has kept such bytes for the longest is closed",
    needs_serve=True,
)
HEAD_SECONDS = bound(
    "LIMIT_HEAD_SECONDS",
    10,
    "seconds",
    Holder.STRANGER,
    limits="time for the head of a request, from the start of the connection or from its first byte",
    beyond="408, and the connection is closed",
    needs_serve=True,
)
RESPONSE_SECONDS = bound(
    "LIMIT_RESPONSE_SECONDS",
    30,
    "seconds",
    Holder.STRANGER,
    limits="time in which a client reads nothing of a response, and that it takes beyond what 4 kB a second need",
    beyond="the connection is aborted",
    needs_serve=True,
)
HANDSHAKE_BYTES = bound(
    "LIMIT_HANDSHAKE_BYTES",
    16 * 1024,
    "bytes",
    Holder.STRANGER,
    limits="headers of a websocket's handshake, at most 128 of them",
    beyond="400",
)
FRAMES_PER_TURN = bound(
    "LIMIT_FRAMES_PER_TURN",
    100,
    "frames",
    Holder.STRANGER,
    limits="frames of one websocket that are read in one turn of the event loop",
    beyond="the rest is read in the next turns, and no more is received meanwhile",
)
PACKETS_PER_TURN = bound(
    "LIMIT_PACKETS_PER_TURN",
    100,
    "packets",
    Holder.STRANGER,
    limits="Socket.IO packets of one session that are handled in one turn of the event loop",
    beyond="the rest is handled in the next turns",
)
BYTES_PER_TURN = bound(
    "LIMIT_BYTES_PER_TURN",
    16 * 1024,
    "bytes",
    Holder.STRANGER,
    limits="bytes of such packets, but for the last one",
    beyond="the same",
)
MESSAGE_BYTES = bound(
    "LIMIT_MESSAGE_BYTES",
    1_000_000,
    "bytes",
    Holder.KEY,
    limits="a Socket.IO packet, and a POST of packets; the handshake names it as `maxPayload`",
    beyond="the session ends, and its client reconnects",
)
CONNECT_BYTES = bound(
    "LIMIT_CONNECT_BYTES",
    128 * 1024,
    "bytes",
    Holder.STRANGER,
    limits="a packet of a session that is in no namespace yet, which is a CONNECT with its `auth`",
    beyond="the session ends, and its client reconnects",
)
HANDSHAKE_KEY_BYTES = bound(
    "LIMIT_HANDSHAKE_KEY_BYTES",
    512,
    "bytes",
    Holder.STRANGER,
    limits="API keys in header and query of the request that opens a Socket.IO session, at most 8 of them",
    beyond="431; `auth` may have longer ones",
)
USER_AGENT_CHARACTERS = bound(
    "LIMIT_USER_AGENT_CHARACTERS",
    160,
    "characters",
    Holder.STRANGER,
    limits="the User-Agent of a Socket.IO session or an event stream, which the admin shows; part of a session's 2 kB",
    beyond="the rest is not kept",
)
PENDING_SESSIONS = bound(
    "LIMIT_PENDING_SESSIONS",
    20_000,
    "sessions",
    Holder.PROCESS,
    limits="Socket.IO sessions that are in no namespace, of some 2 kB each",
    beyond="the oldest one ends, and its client reconnects",
)
PENDING_SESSIONS_PER_ADDRESS = bound(
    "LIMIT_PENDING_SESSIONS_PER_ADDRESS",
    10_000,
    "sessions",
    Holder.STRANGER,
    limits="those of one address: so many clients may come at once through a proxy that TRUSTED_PROXIES lacks",
    beyond="the oldest one of the address ends, and its client reconnects",
)
JOIN_SECONDS = bound(
    "LIMIT_JOIN_SECONDS",
    10,
    "seconds",
    Holder.STRANGER,
    limits="time that a Socket.IO session may be in no namespace",
    beyond="it ends, and its client reconnects; the time that a CONNECT waits for its reply does not count",
)
NAMESPACES = bound(
    "LIMIT_NAMESPACES",
    1000,
    "namespaces",
    Holder.KEY,
    limits="namespaces that one Socket.IO session is in",
    beyond="the session ends, and its client reconnects",
)
PACKET_STRUCTURE = bound(
    "LIMIT_PACKET_STRUCTURE",
    20_000,
    "characters",
    Holder.KEY,
    limits="`{`, `[`, `,` and `:` in a Socket.IO packet, within strings too",
    beyond="the session ends, and its client reconnects",
)
ATTACHMENTS = bound(
    "LIMIT_ATTACHMENTS",
    10,
    "attachments",
    Holder.KEY,
    limits="binary attachments of a Socket.IO packet, of LIMIT_MESSAGE_BYTES together",
    beyond="the session ends, and its client reconnects",
)
REPLY_BYTES = bound(
    "LIMIT_REPLY_BYTES",
    256 * 1024,
    "bytes",
    Holder.KEY,
    limits="replies queued for a Socket.IO session that does not take them, 500 more counted for each",
    beyond="none of its packets is handled until it does; the session ends after LIMIT_STUCK_SECONDS",
)
STUCK_SECONDS = bound(
    "LIMIT_STUCK_SECONDS",
    30,
    "seconds",
    Holder.KEY,
    limits="time that a client may take nothing of what is queued for it",
    beyond="the connection is reset, and its client reconnects",
)
UPGRADE_SECONDS = bound(
    "LIMIT_UPGRADE_SECONDS",
    10,
    "seconds",
    Holder.STRANGER,
    limits="time from a websocket beside a polling session to the end of the upgrade",
    beyond="the websocket is closed, and the session goes on polling",
)
POST_SECONDS = bound(
    "LIMIT_POST_SECONDS",
    30,
    "seconds",
    Holder.STRANGER,
    limits="time for the body of a POST of packets",
    beyond="400, and the session ends",
)
CLOSE_SECONDS = bound(
    "LIMIT_CLOSE_SECONDS",
    10,
    "seconds",
    Holder.STRANGER,
    limits="time that a websocket may take from the server's close frame to its own",
    beyond="the connection is aborted",
)
ENDED_SECONDS = bound(
    "LIMIT_ENDED_SECONDS",
    5,
    "seconds",
    Holder.STRANGER,
    limits="time that a websocket whose session has ended may take to read the rest",
    beyond="the connection is reset",
)
LINGER_SECONDS = bound(
    "LIMIT_LINGER_SECONDS",
    2,
    "seconds",
    Holder.STRANGER,
    limits="time that a client whose request was refused may go on sending it; all is dropped",
    beyond="the connection is aborted, and the client may lose the response",
)
LINGER_BYTES = bound(
    "LIMIT_LINGER_BYTES",
    16 * 1024 * 1024,
    "bytes",
    Holder.STRANGER,
    limits="bytes that it may send then",
    beyond="the same",
)
BODY_PATIENCE = bound(
    "LIMIT_BODY_PATIENCE",
    10,
    "seconds",
    Holder.STRANGER,
    limits="a pause within a body, and the time that a body may take beyond that of its bytes at LIMIT_BODY_RATE",
    beyond="408",
    needs_serve=True,
)
BODY_RATE = bound(
    "LIMIT_BODY_RATE",
    4096,
    "bytes",
    Holder.STRANGER,
    limits="bytes of a body or of a response that a client sends or takes in a second, at least, on an average",
    beyond="408; a response is cut off",
)
QUERY_FIELDS = bound(
    "LIMIT_QUERY_FIELDS",
    1000,
    "fields",
    Holder.STRANGER,
    limits="fields of a query or a form",
    beyond="400, before any is decoded",
)
CONTENT_TYPE_BYTES = bound(
    "LIMIT_CONTENT_TYPE_BYTES",
    1024,
    "bytes",
    Holder.STRANGER,
    limits="a Content-Type: the time to read its parameters grows with the square of their number",
    beyond="431",
)
FORM_BYTES = bound(
    "LIMIT_FORM_BYTES",
    1024 * 1024,
    "bytes",
    Holder.STRANGER,
    limits="a body that is a form, as those of the admin; one with a file, as `/message/sendMedia` takes it, may have"
    " MAX_BODY_BYTES, and the file three quarters of them",
    beyond="413, before more of it is read",
)
MAX_HELD_BYTES = bound(
    "MAX_HELD_BYTES",
    256 * 1024 * 1024,
    "bytes",
    Holder.PROCESS,
    limits="bodies that are received, queued or worked on, and large responses that wait for their clients; half of it"
    " for a key, for the sockets of an address, or for all clients without a known key together, and a quarter of each"
    " for small bodies",
    beyond="503 with `Retry-After`, and a line a minute in the log; one body at a time is always taken",
)
INCOMPLETE_SECONDS = bound(
    "LIMIT_INCOMPLETE_SECONDS",
    1,
    "seconds",
    Holder.STRANGER,
    limits="time that a body, or a message of a socket, may be incomplete while there is no room for those of others",
    beyond="the oldest gives way: 503 with `Retry-After`, or close code 1013",
)
SMALL_BODY = bound(
    "LIMIT_SMALL_BODY",
    64 * 1024,
    "bytes",
    Holder.PROCESS,
    limits="a body that counts as small: it is read before its key is looked up, and the kept quarter is for it",
    beyond="a key that is wrong, or missing where one is needed, is answered 401 before the body is read",
)
WRITER_LAG = bound(
    "LIMIT_WRITER_LAG",
    5,
    "seconds",
    Holder.PROCESS,
    limits="the time that the oldest posted body waits to be stored",
    beyond="further ones are answered 503 with `Retry-After`",
)
REST_THREADS = bound(
    "LIMIT_REST_THREADS",
    8,
    "threads",
    Holder.PROCESS,
    limits="threads that answer REST and the admin, each with a connection to the database while it works",
    beyond="requests wait for a thread",
)
SENDING_THREADS = bound(
    "LIMIT_SENDING_THREADS",
    64,
    "threads",
    Holder.PROCESS,
    limits="threads that send messages or ask for templates and the like, most of which wait for WhatsApp",
    beyond="requests wait for a thread",
)
SEND_SECONDS = bound(
    "LIMIT_SEND_SECONDS",
    20,
    "seconds",
    Holder.PROCESS,
    limits="the time that the Graph API may take to answer a request that sends a message; two minutes are too long",
    beyond="504: it is not known whether the message was sent",
)
QUEUE_SECONDS = bound(
    "LIMIT_QUEUE_SECONDS",
    30,
    "seconds",
    Holder.PROCESS,
    limits="the time that a request of REST or the admin waits for a thread; those for one instance have half of all"
    " threads, those with one key three quarters",
    beyond="503 with `Retry-After`",
)
LOCK_SECONDS = bound(
    "LIMIT_LOCK_SECONDS",
    10,
    "seconds",
    Holder.INSTANCE,
    limits="the time that a transaction waits for one that keeps the instance (on SQLite, the database) locked",
    beyond="503 for a request; what runs in the background tries again",
)
JSON_STRUCTURE = bound(
    "LIMIT_JSON_STRUCTURE",
    500_000,
    "characters",
    Holder.KEY,
    limits="`{`, `[`, `,` and `:` outside of strings in a JSON body, all together",
    beyond="400, before it is parsed",
)
TEXT_CHARACTERS = bound(
    "LIMIT_TEXT_CHARACTERS",
    65536,
    "characters",
    Holder.KEY,
    limits="a text in a body of REST, such as that of a message; most members take less",
    beyond="400",
)
LIST_ITEMS = bound(
    "LIMIT_LIST_ITEMS",
    1000,
    "items",
    Holder.KEY,
    limits="a list in a body or query of REST, such as `events`, `scopes` or `ids`, before repeats are dropped",
    beyond="400, before an item is looked at",
)
MESSAGE_PARTS = bound(
    "LIMIT_MESSAGE_PARTS",
    50,
    "parts",
    Holder.KEY,
    limits="buttons, contacts, sections or components of a message, and rows of a section; WhatsApp takes fewer",
    beyond="400",
    least=10,
)
PUBLISHED_EVENTS = bound(
    "LIMIT_PUBLISHED_EVENTS",
    500,
    "events",
    Holder.KEY,
    limits="events in one request to `/event/publish`, which are recorded all or none",
    beyond="400, before an event is looked at",
)
READ_MESSAGES = bound(
    "LIMIT_READ_MESSAGES",
    100,
    "messages",
    Holder.KEY,
    limits="messages in one request to `/chat/markMessageAsRead`, each a request to the Graph API",
    beyond="400, before an item is looked at",
)
TEMPLATES = bound(
    "LIMIT_TEMPLATES",
    2000,
    "templates",
    Holder.KEY,
    limits="templates that `/template/find` reads from the Graph API, by pages of 50",
    beyond="400: they are not listed in part",
)
WRONG_KEYS = bound(
    "LIMIT_WRONG_KEYS",
    1000,
    "keys",
    Holder.STRANGER,
    limits="wrong keys from one address at once (IPv6: from one /64 network), chosen tokens among them",
    beyond="429, or a closed transport; right keys are not held up",
)
WRONG_KEYS_PER_SECOND = bound(
    "LIMIT_WRONG_KEYS_PER_SECOND",
    10,
    "keys",
    Holder.STRANGER,
    limits="wrong keys from one address in a second, after those at once",
    beyond="429, or a closed transport; right keys are not held up",
)
CLIENT_EVENTS = bound(
    "LIMIT_CLIENT_EVENTS",
    1000,
    "events",
    Holder.KEY,
    limits="`send_message` events that a key's clients emit at once",
    beyond="the acknowledgement is the error 429",
)
CLIENT_EVENTS_PER_SECOND = bound(
    "LIMIT_CLIENT_EVENTS_PER_SECOND",
    100,
    "events",
    Holder.KEY,
    limits="`send_message` events that a key's clients emit in a second, after those at once",
    beyond="the acknowledgement is the error 429",
)
LOG_INS = bound(
    "LIMIT_LOG_INS",
    20,
    "log-ins",
    Holder.STRANGER,
    limits="wrong log-ins at the admin from one address (IPv6: one /64 network) at once, in each process",
    beyond="429, before a password is looked at; behind a proxy set `TRUSTED_PROXIES`, or all have one address",
)
LOG_INS_PER_MINUTE = bound(
    "LIMIT_LOG_INS_PER_MINUTE",
    6,
    "log-ins",
    Holder.STRANGER,
    limits="log-ins from one address in a minute, after those at once",
    beyond="429, before a password is looked at",
)
LOG_INS_OF_NAME = bound(
    "LIMIT_LOG_INS_OF_NAME",
    5,
    "log-ins",
    Holder.STRANGER,
    limits="log-ins from one address with one user name at once",
    beyond="429, before a password is looked at; other addresses are not held up",
)
LOG_INS_OF_NAME_PER_MINUTE = bound(
    "LIMIT_LOG_INS_OF_NAME_PER_MINUTE",
    2,
    "log-ins",
    Holder.STRANGER,
    limits="log-ins from one address with one user name in a minute, after those at once",
    beyond="429, before a password is looked at; other addresses are not held up",
)
LOG_INS_UNSLOWED = bound(
    "LIMIT_LOG_INS_UNSLOWED",
    10,
    "log-ins",
    Holder.STRANGER,
    limits="log-ins with one user name from all addresses together at once; right ones do not count",
    beyond="each waits for up to `LIMIT_LOG_IN_DELAY`, and is not refused: nobody locks the name's owner out",
)
LOG_IN_DELAY = bound(
    "LIMIT_LOG_IN_DELAY",
    5,
    "seconds",
    Holder.STRANGER,
    limits="the delay of log-ins with a name that is tried too often, but for one in this time",
    beyond="no log-in is delayed for longer",
)
LOG_IN_BYTES = bound(
    "LIMIT_LOG_IN_BYTES",
    16 * 1024,
    "bytes",
    Holder.STRANGER,
    limits="the form that logs in at the admin",
    beyond="413",
)
PASSWORD_HASHES = bound(
    "LIMIT_PASSWORD_HASHES",
    2,
    "hashes",
    Holder.PROCESS,
    limits="passwords that are hashed at a time for log-ins, and as many for users who have one and set a new one",
    beyond="they wait, apart from all other requests",
)
PASSWORD_QUEUE = bound(
    "LIMIT_PASSWORD_QUEUE",
    16,
    "requests",
    Holder.PROCESS,
    limits="log-ins that wait to be hashed, and as many new passwords; half of them from one address or for one name",
    beyond="429; who is logged in, and REST, are not held up",
    least=2,
)
RATE_LIMITED = bound(
    "LIMIT_RATE_LIMITED",
    10_000,
    "addresses or keys",
    Holder.PROCESS,
    limits="addresses, keys or names that a rate limit remembers, for each limit",
    beyond="the least recently used is forgotten, and so has its full allowance again",
)
CACHED_KEYS = bound(
    "LIMIT_CACHED_KEYS",
    10_000,
    "keys",
    Holder.PROCESS,
    limits="keys, and pairs of key and instance, that are cached for posted payloads",
    beyond="the cache is emptied, and keys are read from the database again",
)
REPLAY_PAGE_EVENTS = bound(
    "LIMIT_REPLAY_PAGE_EVENTS",
    200,
    "events",
    Holder.PROCESS,
    limits="events of a page of the log, as it is read for sockets and event streams",
    beyond="the next page is read when these are sent",
)
REPLAY_PAGE_BYTES = bound(
    "LIMIT_REPLAY_PAGE_BYTES",
    512 * 1024,
    "bytes",
    Holder.KEY,
    limits="events of such a page, but one at least; a slow event stream holds as much while it reads none",
    beyond="the next page is read when these are sent",
)
FIND_EVENTS = bound(
    "LIMIT_FIND_EVENTS",
    1000,
    "events",
    Holder.KEY,
    limits="events in a response of `/event/find`",
    beyond="400 for a greater `limit`",
)
FIND_BYTES = bound(
    "LIMIT_FIND_BYTES",
    16 * 1024 * 1024,
    "bytes",
    Holder.KEY,
    limits="events in a response of `/event/find`, but one at least",
    beyond="the response ends before, and says that there are more",
)
INSTANCE_REPLAYS = bound(
    "LIMIT_INSTANCE_REPLAYS",
    2,
    "pages",
    Holder.INSTANCE,
    limits="pages of the log that are read at a time for clients of one instance that resume or are slow",
    beyond="they wait for their turn; instances take turns, however many of their clients wait",
)
CONCURRENT_REPLAYS = bound(
    "LIMIT_CONCURRENT_REPLAYS",
    3,
    "pages",
    Holder.PROCESS,
    limits="such pages for all instances; of four threads that read the log, the last one is for live events",
    beyond="they wait for their turn",
)
CACHED_GRANTS = bound(
    "LIMIT_CACHED_GRANTS",
    10_000,
    "grants",
    Holder.PROCESS,
    limits="permissions of keys to join a namespace that are cached, so that clients come back with one short read",
    beyond="the cache is cleared",
)
WEBSOCKET_MAX_BUFFER = bound(
    "WEBSOCKET_MAX_BUFFER",
    1024 * 1024,
    "bytes",
    Holder.KEY,
    limits="events queued for a connection that reads none",
    beyond="they are dropped, and read from the log again once it reads",
)

ENDPOINTS = bound(
    "LIMIT_ENDPOINTS",
    20,
    "endpoints",
    Holder.INSTANCE,
    limits="webhook endpoints of an instance",
    beyond="409 for another one",
)
EARLY_STATUSES = bound(
    "LIMIT_EARLY_STATUSES",
    1000,
    "statuses",
    Holder.INSTANCE,
    limits="statuses that WhatsApp reports for a message before it has answered the request that sends it, if it may"
    " be that one: they wait for the answer, for 12 minutes at most",
    beyond="a status is announced at once, without `messageId`, and is not stored",
)
OWED_DELIVERIES = bound(
    "LIMIT_OWED_DELIVERIES",
    100_000,
    "deliveries",
    Holder.INSTANCE,
    limits="deliveries to an instance's own endpoints that are pending",
    beyond="429 for what is published, resent or sent as a test; what a provider reports is recorded, its deliveries "
    "are `dropped`, and the event `deliveries.dropped` says so, at most once an hour",
)
OWED_BYTES = bound(
    "LIMIT_OWED_BYTES",
    256 * 1024 * 1024,
    "bytes",
    Holder.INSTANCE,
    limits="the bodies of an instance's pending deliveries, each counted once for all of its endpoints",
    beyond="as with `LIMIT_OWED_DELIVERIES`",
)
OPERATORS_OWED_DELIVERIES = bound(
    "LIMIT_OPERATORS_OWED_DELIVERIES",
    100_000,
    "deliveries",
    Holder.INSTANCE,
    limits="deliveries to the operator's endpoints, which receive the events of all instances, that are pending; an"
    " instance has at most as many of them as it leaves to the others",
    beyond="its deliveries to these endpoints alone are `dropped`, and `deliveries.dropped` says so, at most once an"
    " hour; nothing is refused to it. 429 for what the operator resends to them",
)
OPERATORS_OWED_BYTES = bound(
    "LIMIT_OPERATORS_OWED_BYTES",
    256 * 1024 * 1024,
    "bytes",
    Holder.INSTANCE,
    limits="the bodies of these deliveries, each counted once for all of the operator's endpoints",
    beyond="as with `LIMIT_OPERATORS_OWED_DELIVERIES`",
)
OFF_HOURS = bound(
    "LIMIT_OFF_HOURS",
    72,
    "hours",
    Holder.INSTANCE,
    limits="the age of a pending delivery by a transport that is switched off, such as RabbitMQ",
    beyond="it is given up (`dead`), which its `reason` says",
)
SQLITE_CACHE_BYTES = bound(
    "LIMIT_SQLITE_CACHE_BYTES",
    16 * 1024 * 1024,
    "bytes",
    Holder.PROCESS,
    limits="pages of SQLite's file that all connections keep in memory",
    beyond="they are read from the file again, which the system has in its cache",
)
DELIVERY_PAGE = bound(
    "LIMIT_DELIVERY_PAGE",
    1000,
    "deliveries",
    Holder.KEY,
    limits="deliveries in a response of `/webhook/deliveries`, without their bodies",
    beyond="400 for a greater `limit`",
)
FAILURE_GROUPS = bound(
    "LIMIT_FAILURE_GROUPS",
    200,
    "groups",
    Holder.PROCESS,
    limits="groups of failed deliveries that the admin's page lists, dead ones and waiting ones each",
    beyond="those of other endpoints are listed once these are mended, or for their instance alone",
)
RESENT = bound(
    "LIMIT_RESENT",
    10_000,
    "deliveries",
    Holder.KEY,
    limits="deliveries that one call resends",
    beyond="the call resends the oldest, and answers `hasMore`",
)

ATTEMPTS = bound(
    "LIMIT_ATTEMPTS",
    1000,
    "attempts",
    Holder.PROCESS,
    least=20,
    limits="attempts to send deliveries at a time; one instance has at most as many of them as are left free",
    beyond="further deliveries wait; a tenth is kept for endpoints that answer fast",
)
ATTEMPTS_PER_ENDPOINT = bound(
    "LIMIT_ATTEMPTS_PER_ENDPOINT",
    20,
    "attempts",
    Holder.RECEIVER,
    limits="attempts at a time to an endpoint; five before its first success, two while it fails",
    beyond="further deliveries to it wait",
)
LARGE_BODIES = bound(
    "LIMIT_LARGE_BODIES",
    64 * 1024 * 1024,
    "bytes",
    Holder.PROCESS,
    limits="bodies above 64 KiB that are being sent; one instance has at most as much of them as is left free",
    beyond="further large ones wait, small ones do not",
)
KNOWN_ENDPOINTS = bound(
    "LIMIT_KNOWN_ENDPOINTS",
    10_000,
    "endpoints",
    Holder.PROCESS,
    limits="endpoints of which a process remembers how their last attempt went",
    beyond="the one with the oldest attempt counts as new again",
)
RABBITMQ_CHANNELS = bound(
    "LIMIT_RABBITMQ_CHANNELS",
    256,
    "channels",
    Holder.PROCESS,
    limits="idle channels that are kept on the connection to RabbitMQ, one for each endpoint",
    beyond="the one that was idle for the longest is closed, and opened again when it is needed",
)
