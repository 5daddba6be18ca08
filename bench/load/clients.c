/* The Socket.IO clients: Engine.IO 4 over a websocket, and of Socket.IO 5 what it takes to join and to count events. */
#include "load.h"
#include <stdio.h>
#include <string.h>

enum { MAX_LINES = 20000 };

struct connection clients[MAX_CONNECTIONS];
struct histogram events;
int client_count, wanted_clients, at_once, in_setup, joined, refused;
size_t frames, wrong;
uint64_t last_event_at;

static char *lines[MAX_LINES];
static int line_count;

void read_who_they_are(const char *path) {
    FILE *file = fopen(path, "r");
    for (size_t room = 0; file && line_count < MAX_LINES && getline(&lines[line_count], &room, file) > 0; room = 0) {
        lines[line_count][strcspn(lines[line_count], "\n")] = 0;
        line_count++;
    }
    if (!line_count)
        die("%s holds no clients", path);
}

static void send_frame(struct connection *c, int opcode, const char *payload, size_t length) {
    static uint32_t mask = 0x9e3779b9;
    unsigned char frame[4096], *p = frame;
    if (length > sizeof frame - 8)
        die("a message of %zu bytes is too long to send", length);
    *p++ = 0x80 | opcode;
    *p++ = 0x80 | (length < 126 ? length : 126);
    if (length >= 126) {
        *p++ = length >> 8;
        *p++ = length;
    }
    mask = mask * 1664525 + 1013904223;
    memcpy(p, &mask, 4);
    for (size_t i = 0; i < length; i++)
        p[4 + i] = payload[i] ^ p[i % 4];
    send_all(c, (char *)frame, p + 4 + length - frame);
}

void dial_clients(void) {
    static const char hello[] = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    while (client_count < wanted_clients && in_setup < at_once) {
        struct connection *c = &clients[client_count];
        dial(c, client_count++, UPGRADING, 0);
        send_all(c, hello, sizeof hello - 1);
        in_setup++;
    }
}

static void join(struct connection *c) {
    const char *line = lines[c->number % line_count], *tab = strchr(line, '\t');
    char packet[4000];
    int length = snprintf(packet, sizeof packet, "40%.*s,%s", (int)(tab - line), line, tab + 1);
    send_frame(c, 1, packet, length);
}

/* The digits after a mark, which is mostly where it was the last time: `*hint` bytes from the beginning. */
static uint64_t number_after(const char *text, size_t length, const char *mark, size_t mark_length, size_t *hint) {
    const char *found = text + *hint;
    if (*hint + mark_length > length || memcmp(found, mark, mark_length))
        found = memmem(text, length, mark, mark_length);
    if (!found)
        return 0;
    *hint = found - text;
    uint64_t number = 0;
    for (found += mark_length; found < text + length && *found >= '0' && *found <= '9'; found++)
        number = number * 10 + *found - '0';
    return number;
}

static void hear_event(struct connection *c, const char *text, size_t length) {
    static const char name[] = "[\"messages.upsert\"";
    static size_t time_hint, seq_hint;
    size_t tail = length > 100 ? 100 : length; /* seq is among the last members */
    uint64_t seq = number_after(text + length - tail, tail, "\"seq\":", 6, &seq_hint);
    if (!seq || (c->seq && seq != c->seq + 1))
        wrong++;
    c->seq = seq;
    frames++;
    const char *start = memchr(text, '[', length > 300 ? 300 : length);
    if (!start || memcmp(start, name, sizeof name - 1))
        return;
    uint64_t time = number_after(text, length, "ts=", 3, &time_hint);
    if (time < 1000000000)
        time = time_of_request(time);
    last_event_at = last_seen_at;
    count(&events, time, last_event_at);
}

static void count_event(struct connection *c, const char *text, size_t length) {
    if (length >= 2 && text[0] == '4' && text[1] == '2') {
        hear_event(c, text, length);
    } else if (length && text[0] == '2') {
        send_frame(c, 1, "3", 1);
    } else if (length && text[0] == '0' && c->state == OPENING) {
        c->state = JOINING;
        join(c);
    } else if (length >= 2 && text[0] == '4' && c->state == JOINING) {
        if (text[1] == '0') {
            c->state = JOINED;
            joined++;
            in_setup--;
        } else {
            if (!refused++)
                fprintf(stderr, "load: the first one refused: %.*s\n", (int)length, text);
            hang_up(c);
        }
        dial_clients();
    } else if (length >= 2 && text[0] == '4' && text[1] == '1') {
        hang_up(c);
    }
}

/* Take one frame, or the answer to the handshake; returns its length, 0 while it is not whole. */
size_t take_frame(struct connection *c, char *bytes, size_t length) {
    if (c->state == UPGRADING) {
        char *end = memmem(bytes, length, "\r\n\r\n", 4);
        if (!end)
            return 0;
        if (memcmp(bytes, "HTTP/1.1 101", 12))
            die("the server refused a websocket: %.40s", bytes);
        c->state = OPENING;
        return end + 4 - bytes;
    }
    const unsigned char *head = (unsigned char *)bytes;
    if (length < 2)
        return 0;
    size_t header = 2, size = head[1];
    if (size == 126) {
        header = 4;
        size = length < 4 ? 0 : head[2] << 8 | head[3];
    } else if (size == 127) {
        header = 10;
        size = 0;
        for (int i = 2; i < 10 && length >= 10; i++)
            size = size << 8 | head[i];
    }
    if (length < header + size || length < header)
        return 0;
    if (head[0] == 0x81)
        count_event(c, bytes + header, size);
    else if (head[0] == 0x89)
        send_frame(c, 10, bytes + header, size);
    else if (head[0] == 0x88)
        hang_up(c);
    else if (head[0] != 0x8a)
        die("an unexpected kind of frame: 0x%02x", head[0]);
    return header + size;
}

