/* HTTP requests over connections that are kept: each waits for its answer before it sends the next one. */
#include "load.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_REQUESTS = 1 << 20 };

struct connection posters[MAX_CONNECTIONS];
struct histogram answers;
size_t answered, failed;
int is_posting;
uint64_t post_started, last_answer_at;

static struct request {
    char *bytes;
    size_t length;
    uint64_t sent_at;
} requests[MAX_REQUESTS];
static char requests_path[1000];
static size_t request_count, sent;
static int poster_count, in_flight, is_event;
static uint64_t interval, next_due, stop_at;

/* `<length> NEWLINE <request>`, again and again. Asked for the same file again, it goes on where it was. */
static void load_requests(const char *path) {
    if (!strcmp(path, requests_path))
        return;
    strcpy(requests_path, path);
    sent = 0;
    FILE *file = fopen(path, "rb");
    if (!file)
        die("%s: %s", path, strerror(errno));
    size_t length;
    for (request_count = 0; fscanf(file, "%zu", &length) == 1; request_count++) {
        struct request *request = &requests[request_count];
        *request = (struct request){malloc(length), length, 0};
        fgetc(file);
        if (request_count + 1 == MAX_REQUESTS || fread(request->bytes, 1, length, file) != length)
            die("%s holds too much or breaks off", path);
    }
    fclose(file);
}

/* When the request with this number, counted from 1, was to be sent. */
uint64_t time_of_request(uint64_t number) {
    return number && number <= request_count ? requests[number - 1].sent_at : 0;
}

/* When time alone will change something; far away if it will not. */
uint64_t next_request_at(void) {
    uint64_t time = now();
    if (is_posting && interval && next_due > time)
        return next_due;
    return is_posting && stop_at > time ? stop_at : UINT64_MAX;
}

static void post(struct connection *c, uint64_t due) {
    struct request *request = &requests[sent++ % request_count];
    request->sent_at = c->due = due;
    c->state = ANSWERING;
    in_flight++;
    send_all(c, request->bytes, request->length);
}

/* At a rate, latency counts from when a request was due, also where it had to wait for a connection. */
void post_what_is_due(void) {
    uint64_t time = now();
    for (int i = 0; i < poster_count && is_posting; i++) {
        if (posters[i].state != IDLE)
            continue;
        if ((interval ? next_due : time) >= stop_at) {
            is_posting = in_flight > 0;
        } else if (!interval) {
            post(&posters[i], time);
        } else if (next_due <= time) {
            post(&posters[i], next_due);
            next_due += interval;
        }
    }
}

void start_posting(const char *path, int connections, double rate, double seconds, int makes_events) {
    load_requests(path);
    for (; poster_count < connections; poster_count++)
        dial(&posters[poster_count], poster_count, IDLE, 1);
    is_event = makes_events;
    post_started = next_due = now();
    interval = rate > 0 ? 1e9 / rate : 0;
    stop_at = post_started + seconds * 1e9;
    is_posting = 1;
    post_what_is_due();
}

/* Take one answer; returns its length, 0 while it is not whole. */
size_t take_answer(struct connection *c, char *bytes, size_t length) {
    char *end = memmem(bytes, length, "\r\n\r\n", 4);
    if (!end)
        return 0;
    *end = 0;
    char *header = strcasestr(bytes, "content-length:");
    if (!header)
        die("an answer without Content-Length: %.40s", bytes);
    size_t whole = end + 4 - bytes + strtoul(header + 15, NULL, 10);
    *end = '\r';
    if (length < whole)
        return 0;
    last_answer_at = now();
    count(&answers, c->due, last_answer_at);
    answered++;
    in_flight--;
    c->state = IDLE;
    if (memcmp(bytes, "HTTP/1.1 2", 10)) {
        if (!failed++)
            fprintf(stderr, "load: the first answer that is not 2xx: %.*s\n", (int)(whole > 400 ? 400 : whole), bytes);
    } else if (is_event) {
        expected += joined;
    }
    if (is_posting)
        post_what_is_due();
    return whole;
}
