/* The limit: what the kernel's send() costs, with frames that are ready and nothing else to do.
 *
 * It takes the commands of the other servers (see README.md) and lets everybody in. Events of one turn are joined into
 * one send() a client. The handshake's key is not answered: our load generator does not look at it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CLIENTS = 20000, PAYLOAD = 640, MAX_PER_TURN = 100 };

static int clients[MAX_CLIENTS], client_count;
static char turn[MAX_PER_TURN * (PAYLOAD + 4)], namespace[300];
static uint64_t seq;

static double clock_of(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* One text frame of PAYLOAD bytes. */
static void write_frame(char *frame, unsigned long long ts) {
    static char filling[PAYLOAD];
    if (!filling[0])
        memset(filling, 'x', PAYLOAD);
    char *payload = frame + 4, tail[64];
    int tail_length = snprintf(tail, sizeof tail, "\",\"seq\":%llu}]", (unsigned long long)++seq);
    memcpy(frame, (char[]){(char)0x81, 126, (char)(PAYLOAD >> 8), (char)PAYLOAD}, 4);
    memcpy(payload, filling, PAYLOAD);
    int head = sprintf(payload, "42%s,[\"messages.upsert\",{\"text\":\"ts=%llu", namespace, ts);
    payload[head] = ' ';
    memcpy(payload + PAYLOAD - tail_length, tail, tail_length);
}

static void send_whole(int fd, const char *bytes, size_t length) {
    while (length) {
        ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);
        if (sent < 0)
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 1000);
        else
            bytes += sent, length -= sent;
    }
}

static void send_turn(int events, unsigned long long ts) {
    for (int i = 0; i < events; i++)
        write_frame(turn + i * (PAYLOAD + 4), ts ? ts : clock_of(CLOCK_MONOTONIC) * 1e9);
    for (int i = 0; i < client_count; i++)
        send_whole(clients[i], turn, events * (PAYLOAD + 4));
}

static void answer_text(int fd, const char *text) {
    char frame[400];
    int length = snprintf(frame + 2, sizeof frame - 2, "%s", text);
    frame[0] = (char)0x81;
    frame[1] = length;
    send_whole(fd, frame, length + 2);
}

/* One client from its handshake to CONNECT. The generator sends each message whole, so each is read whole. */
static void let_in(int listener) {
    static const char upgrade[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    char message[4096];
    int fd = accept(listener, NULL, NULL), one = 1;
    if (recv(fd, message, sizeof message, 0) <= 0)
        exit(1);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    send_whole(fd, upgrade, sizeof upgrade - 1);
    answer_text(fd, "0{\"sid\":\"x\",\"upgrades\":[],\"pingInterval\":25000,\"pingTimeout\":20000}");
    if (recv(fd, message, sizeof message, 0) <= 0)
        exit(1);
    snprintf(message, sizeof message, "40%s,{\"sid\":\"x\"}", namespace);
    answer_text(fd, message);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    clients[client_count++] = fd;
}

static void obey(const char *line) {
    int events, per_turn;
    unsigned long long ts;
    if (sscanf(line, "feed %d %d", &events, &per_turn) == 2) {
        for (int i = 0; i < events; i += per_turn)
            send_turn(per_turn, 0);
        printf("{\"emitted\": %d}\n", events);
    } else if (sscanf(line, "event %llu", &ts) == 1) {
        send_turn(1, ts);
    } else if (!strcmp(line, "usage")) {
        long pages = 0, resident = 0;
        FILE *statm = fopen("/proc/self/statm", "r");
        if (fscanf(statm, "%ld %ld", &pages, &resident) != 2)
            exit(1);
        fclose(statm);
        printf("{\"cpu\": %.6f, \"rss\": %ld}\n", clock_of(CLOCK_PROCESS_CPUTIME_ID), resident * sysconf(_SC_PAGESIZE));
    }
    fflush(stdout);
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (argc != 2 || bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4096))
        return 1;
    snprintf(namespace, sizeof namespace, "%s", argv[1]);
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
    struct pollfd ready[] = {{.fd = 0, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
    char line[8192], *end;
    size_t have = 0;
    for (;;) {
        poll(ready, 2, -1);
        if (ready[1].revents)
            let_in(listener);
        if (!ready[0].revents)
            continue;
        ssize_t got = read(0, line + have, sizeof line - 1 - have);
        if (got <= 0)
            return 0;
        have += got;
        line[have] = 0;
        char *start = line;
        for (; (end = strchr(start, '\n')); start = end + 1) {
            *end = 0;
            obey(start);
        }
        have = strlen(start);
        memmove(line, start, have);
    }
}
