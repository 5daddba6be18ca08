/* What the three parts of the load generator share: connections, counting, and what they ask of each other. */
#pragma once
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>

enum { BUFFER = 1 << 20, MAX_CONNECTIONS = 20000, BUCKETS = 10 * 1000 * 1000 };
enum state { CLOSED, UPGRADING, OPENING, JOINING, JOINED, IDLE, ANSWERING };

struct connection {
    int fd, number;
    enum state state;
    char *rest; /* what was read of a message that is not whole yet */
    size_t rest_length;
    uint64_t seq; /* of the last event */
    uint64_t due; /* when the request that is being answered was to be sent */
};

/* Latencies in buckets of 1 us. */
struct histogram {
    uint32_t counts[BUCKETS];
    size_t total, highest;
};

static inline void count(struct histogram *h, uint64_t from, uint64_t to) {
    size_t bucket = to > from ? (to - from) / 1000 : 0;
    if (bucket >= BUCKETS)
        bucket = BUCKETS - 1;
    h->counts[bucket]++;
    h->total++;
    if (bucket > h->highest)
        h->highest = bucket;
}

/* load.c. Times are CLOCK_MONOTONIC in ns. */
extern uint64_t last_seen_at; /* when the last bytes were read */
extern size_t expected;       /* events that are to come */
void die(const char *format, ...);
uint64_t now(void);
void dial(struct connection *c, int number, enum state state, int is_poster);
void hang_up(struct connection *c);
void send_all(struct connection *c, const char *bytes, size_t length);

/* clients.c */
extern struct connection clients[];
extern struct histogram events;
extern int client_count, wanted_clients, at_once, in_setup, joined, refused;
extern size_t frames, wrong;
extern uint64_t last_event_at;
void read_who_they_are(const char *path);
void dial_clients(void);
size_t take_frame(struct connection *c, char *bytes, size_t length);

/* requests.c */
extern struct connection posters[];
extern struct histogram answers;
extern size_t answered, failed;
extern int is_posting;
extern uint64_t post_started, last_answer_at;
uint64_t time_of_request(uint64_t number);
uint64_t next_request_at(void);
void start_posting(const char *path, int connections, double rate, double seconds, int is_event);
void post_what_is_due(void);
size_t take_answer(struct connection *c, char *bytes, size_t length);
