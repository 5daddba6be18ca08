/* The load generator: thousands of Socket.IO clients over websockets, and HTTP requests, in one thread.
 *
 * load PORT CLIENTS EVENTS_FD
 *
 * CLIENTS is a file; its lines are `<namespace> TAB <auth as JSON>`, and connection i uses line i modulo their
 * number. EVENTS_FD is the writing end of the server's standard input. Commands come by lines; answers are JSON lines:
 *
 *   connect COUNT AT_ONCE      open connections until there are COUNT, AT_ONCE in set-up -> answer
 *   measure EXPECTED           forget what was counted; EXPECTED events are to come
 *   rate PER_SECOND COUNT      write `event <due time>` to the server at that rate
 *   http FILE CONNECTIONS RATE SECONDS IS_EVENT
 *                              send FILE's requests, each once and then again from the first, as fast as they are
 *                              answered (RATE 0) or at RATE; IS_EVENT: each makes an event that every client receives
 *   await SECONDS              -> a report, once all is done and received, or nothing came for SECONDS
 *
 * Each event's envelope holds `ts=<n>` (CLOCK_MONOTONIC in ns, or the number of the request that caused it, counted
 * from 1) and `"seq":<n>`, which must grow by one from each event of a client to its next.
 */
#include "load.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

uint64_t last_seen_at;
size_t expected;

static char buffer[BUFFER];
static int port, epoll, timer, events_fd;

static int closed;
static uint64_t measured_since;
static double cpu_at_start;

/* The events that the server emits at a rate. */
static uint64_t next_tick, tick_interval;
static long ticks_left;

static enum { NOTHING, CONNECT, AWAIT } asked;
static uint64_t deadline, patience;

void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "load: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    exit(1);
}

uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static double cpu(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void forget(struct histogram *h) {
    memset(h->counts, 0, (h->highest + 1) * sizeof *h->counts);
    h->total = h->highest = 0;
}

static double quantile(const struct histogram *h, double q) {
    size_t seen = 0, wanted = h->total * q;
    for (size_t bucket = 0; bucket <= h->highest; bucket++)
        if ((seen += h->counts[bucket]) > wanted)
            return bucket / 1e3;
    return h->highest / 1e3;
}

/* Connections */

void send_all(struct connection *c, const char *bytes, size_t length) {
    ssize_t sent = send(c->fd, bytes, length, MSG_NOSIGNAL);
    if (sent != (ssize_t)length && !(sent < 0 && (errno == EPIPE || errno == ECONNRESET))) /* the next recv() tells */
        die("a connection did not take all that was to be sent");
}

void dial(struct connection *c, int number, enum state state, int is_poster) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct linger at_once_by_reset = {1, 0}; /* else each port is blocked for a minute */
    int one = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memset(c, 0, sizeof *c);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address))
        die("cannot connect: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once_by_reset, sizeof at_once_by_reset);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->number = number;
    c->state = state;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = number | (is_poster ? 1ull << 32 : 0)};
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
}

void hang_up(struct connection *c) {
    closed++;
    joined -= c->state == JOINED;
    in_setup -= c->state == UPGRADING || c->state == OPENING || c->state == JOINING;
    c->state = CLOSED;
    close(c->fd);
}

static void receive(struct connection *c, int is_poster) {
    if (c->state == CLOSED)
        return; /* by what was read just before */
    if (c->rest)
        memcpy(buffer, c->rest, c->rest_length);
    ssize_t got = recv(c->fd, buffer + c->rest_length, BUFFER - c->rest_length, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        hang_up(c);
        return;
    }
    last_seen_at = now();
    size_t length = c->rest_length + got, done = 0, step;
    while (done < length && c->state != CLOSED &&
           (step = (is_poster ? take_answer : take_frame)(c, buffer + done, length - done)))
        done += step;
    free(c->rest);
    c->rest = NULL;
    c->rest_length = length - done;
    if (c->rest_length == BUFFER)
        die("a message longer than %d bytes", BUFFER);
    if (c->rest_length) {
        c->rest = malloc(c->rest_length);
        memcpy(c->rest, buffer + done, c->rest_length);
    }
}

/* What time brings */

static void write_what_is_due(void) {
    char line[40];
    while (ticks_left && next_tick <= now()) {
        int length = snprintf(line, sizeof line, "event %llu\n", (unsigned long long)next_tick);
        if (write(events_fd, line, length) != length)
            die("the server takes no events");
        next_tick += tick_interval;
        ticks_left--;
    }
}

static void set_timer(void) {
    uint64_t next = deadline;
    if (ticks_left && next_tick < next)
        next = next_tick;
    if (next_request_at() < next)
        next = next_request_at();
    struct itimerspec at = {.it_value = {next / 1000000000, next % 1000000000}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

/* What run.py asks */

static void report(void) {
    uint64_t time = now();
    printf("{\"events\": %zu, \"expected\": %zu, \"frames\": %zu, \"wrong\": %zu, \"closed\": %d, \"clients\": %d, ",
           events.total, expected, frames, wrong, closed, joined);
    printf("\"seconds\": %.6f, \"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"max\": %.3f, ",
           last_event_at ? (last_event_at - measured_since) / 1e9 : 0, quantile(&events, 0.5), quantile(&events, 0.9),
           quantile(&events, 0.99), events.highest / 1e3);
    printf("\"answered\": %zu, \"failed\": %zu, \"http_seconds\": %.6f, \"http_p50\": %.3f, \"http_p99\": %.3f, ", answered,
           failed, last_answer_at ? (last_answer_at - post_started) / 1e9 : 0, quantile(&answers, 0.5),
           quantile(&answers, 0.99));
    printf("\"cpu_share\": %.3f}\n", (cpu() - cpu_at_start) / ((time - measured_since) / 1e9));
    fflush(stdout);
}

static void measure(size_t to_come) {
    forget(&events);
    forget(&answers);
    expected = to_come;
    frames = wrong = answered = failed = closed = 0;
    last_event_at = last_answer_at = 0;
    cpu_at_start = cpu();
    measured_since = now();
}

static void obey(char *line) {
    char path[1000];
    int connections, is_event;
    double rate, seconds;
    size_t number;
    if (sscanf(line, "connect %d %d", &wanted_clients, &at_once) == 2) {
        if (wanted_clients > MAX_CONNECTIONS)
            die("at most %d connections", MAX_CONNECTIONS);
        measure(0);
        asked = CONNECT;
        patience = 10 * 1000000000ull;
        deadline = now() + patience;
        dial_clients();
    } else if (sscanf(line, "measure %zu", &number) == 1) {
        measure(number);
    } else if (sscanf(line, "rate %lf %ld", &rate, &ticks_left) == 2) {
        tick_interval = 1e9 / rate;
        next_tick = now() + tick_interval;
    } else if (sscanf(line, "http %999s %d %lf %lf %d", path, &connections, &rate, &seconds, &is_event) == 5) {
        start_posting(path, connections, rate, seconds, is_event);
    } else if (sscanf(line, "await %lf", &seconds) == 1) {
        asked = AWAIT;
        patience = seconds * 1e9;
        deadline = now() + patience;
    } else {
        die("no such command: %s", line);
    }
}

static void read_commands(void) {
    static char text[4096];
    static size_t length;
    ssize_t got = read(0, text + length, sizeof text - 1 - length);
    if (got <= 0)
        exit(0);
    length += got;
    text[length] = 0;
    char *line = text, *end;
    for (; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        obey(line);
    }
    length = strlen(line);
    memmove(text, line, length);
}

static void answer_what_is_asked(void) {
    if (asked != NOTHING && last_seen_at + patience > deadline)
        deadline = last_seen_at + patience;
    int is_late = now() >= deadline;
    if (asked == CONNECT && (is_late || (client_count == wanted_clients && !in_setup))) {
        printf("{\"joined\": %d, \"refused\": %d, \"closed\": %d, \"seconds\": %.6f, \"cpu_share\": %.3f}\n", joined, refused,
               closed, (now() - measured_since) / 1e9, (cpu() - cpu_at_start) / ((now() - measured_since) / 1e9));
        fflush(stdout);
        asked = NOTHING;
    } else if (asked == AWAIT && (is_late || (events.total >= expected && !ticks_left && !is_posting))) {
        report();
        asked = NOTHING;
    }
    if (asked == NOTHING)
        deadline = UINT64_MAX / 2;
}

int main(int argc, char **argv) {
    const uint64_t STDIN = UINT64_MAX, TIMER = UINT64_MAX - 1;
    if (argc != 4)
        die("usage: load PORT CLIENTS EVENTS_FD");
    port = atoi(argv[1]);
    events_fd = atoi(argv[3]);
    read_who_they_are(argv[2]);
    epoll = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    deadline = UINT64_MAX / 2;
    struct epoll_event commands = {.events = EPOLLIN, .data.u64 = STDIN}, ring = {.events = EPOLLIN, .data.u64 = TIMER};
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &commands);
    epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &ring);
    for (;;) {
        struct epoll_event ready[256];
        uint64_t rings;
        set_timer();
        int count = epoll_wait(epoll, ready, 256, -1);
        for (int i = 0; i < count; i++) {
            uint64_t who = ready[i].data.u64;
            if (who == STDIN)
                read_commands();
            else if (who == TIMER)
                (void)!read(timer, &rings, sizeof rings);
            else
                receive(who >> 32 ? &posters[(uint32_t)who] : &clients[who], who >> 32 & 1);
            write_what_is_due(); /* also in a flood: the events are to be in time, whatever they cause */
        }
        if (is_posting)
            post_what_is_due();
        answer_what_is_asked();
    }
}
