/* SPDX-License-Identifier: Apache-2.0 */
/* resolve — c-ares on a thread: it keeps its own time and sockets, and its results are plain data. */
#include "net/resolve.h"

#include <ares.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "loop/lane.h"
#include "net/conn.h"

enum { HOST_SIZE = 256 };
#define LOOKUP_MAX (10 * USEC_SEC)

struct lookup {
    const char *host;
    unsigned port;
    usec_t deadline;
    char *dst;
    size_t size;
    int status; /* of c-ares */
    bool done;
};

int net_split_hostport(const char *hostport, char *ret_host, unsigned *ret_port)
{
    struct str s = str_from(hostport), host, port;
    const char *colon = strrchr(hostport, ':');
    if (!colon)
        return -(int)ERR_INVALID;
    host = (struct str){s.p, (size_t)(colon - s.p)};
    port = str_from(colon + 1);
    if (host.n && host.p[0] == '[') {
        if (host.n < 3 || host.p[host.n - 1] != ']')
            return -(int)ERR_INVALID;
        host = (struct str){host.p + 1, host.n - 2};
    } else if (memchr(host.p, ':', host.n)) {
        return -(int)ERR_INVALID;
    }
    uint64_t n = 0;
    if (host.n == 0 || str_to_u64(port, 65535, &n) != 0 || str_copy(ret_host, HOST_SIZE, host) != 0)
        return -(int)ERR_INVALID;
    for (size_t i = 0; i < host.n; i++) {
        if ((uint8_t)host.p[i] <= 0x20 || (uint8_t)host.p[i] >= 0x7f || host.p[i] == '/')
            return -(int)ERR_INVALID;
    }
    *ret_port = (unsigned)n;
    return 0;
}

static int put(char *dst, size_t size, const char *host, unsigned port, bool six)
{
    int n = snprintf(dst, size, six ? "[%s]:%u" : "%s:%u", host, port);
    return n > 0 && (size_t)n < size ? 0 : -(int)ERR_INVALID;
}

static bool is_numeric(const char *host, bool *six)
{
    struct in6_addr any;
    *six = inet_pton(AF_INET6, host, &any) == 1;
    return *six || inet_pton(AF_INET, host, &any) == 1;
}

/* Has this machine a way there at all? Nothing is sent. */
static bool routable(const struct ares_addrinfo_node *node)
{
    AUTO_FD int fd = socket(node->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && connect(fd, node->ai_addr, node->ai_addrlen) == 0;
}

static int put_node(struct lookup *l, struct buf *out, const struct ares_addrinfo_node *node)
{
    char text[INET6_ADDRSTRLEN], one[NET_ADDR_SIZE];
    bool six = node->ai_family == AF_INET6;
    const void *addr = six ? (const void *)&((const struct sockaddr_in6 *)(const void *)node->ai_addr)->sin6_addr
                           : (const void *)&((const struct sockaddr_in *)(const void *)node->ai_addr)->sin_addr;
    if (!inet_ntop(node->ai_family, addr, text, sizeof(text)) || put(one, sizeof(one), text, l->port, six) != 0)
        return -(int)ERR_INVALID;
    return buf_printf(out, "%s%s", out->len ? "," : "", one);
}

/* The addresses that one dials in turn: IPv4 first, which davitd and most else listen on by default whatever the name says; within a family
 * c-ares has put the best first. Without a route to any the first one is named, for the message. */
static void put_all(struct lookup *l, const struct ares_addrinfo_node *nodes)
{
    AUTO_BUF list = BUF_INIT(l->size - 1);
    unsigned n = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (const struct ares_addrinfo_node *node = nodes; node && n < CONN_ADDRS_MAX; node = node->ai_next) {
            if (node->ai_family == (pass ? AF_INET6 : AF_INET) && routable(node) && put_node(l, &list, node) == 0)
                n++;
        }
    }
    for (const struct ares_addrinfo_node *node = nodes; node && n == 0; node = node->ai_next) {
        if ((node->ai_family == AF_INET || node->ai_family == AF_INET6) && put_node(l, &list, node) == 0)
            n++;
    }
    if (n && str_copy(l->dst, l->size, buf_str(&list)) == 0)
        l->status = ARES_SUCCESS;
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *result)
{
    struct lookup *l = arg;
    (void)timeouts;
    l->done = true;
    l->status = status;
    if (status != ARES_SUCCESS)
        return;
    l->status = ARES_ENODATA;
    put_all(l, result->nodes);
    ares_freeaddrinfo(result);
}

/* One wait for the sockets of @channel, at most until the deadline. */
static void step(ares_channel channel, usec_t left)
{
    ares_socket_t socks[ARES_GETSOCK_MAXNUM];
    struct pollfd fds[ARES_GETSOCK_MAXNUM];
    int mask = ares_getsock(channel, socks, ARES_GETSOCK_MAXNUM);
    nfds_t n = 0;
    for (int i = 0; i < ARES_GETSOCK_MAXNUM; i++) {
        short events = (short)((ARES_GETSOCK_READABLE(mask, i) ? POLLIN : 0) | (ARES_GETSOCK_WRITABLE(mask, i) ? POLLOUT : 0));
        if (events)
            fds[n++] = (struct pollfd){.fd = socks[i], .events = events};
    }
    struct timeval limit = {.tv_sec = (time_t)(left / USEC_SEC), .tv_usec = (suseconds_t)(left % USEC_SEC)}, tv;
    const struct timeval *wait = ares_timeout(channel, &limit, &tv);
    int got = poll(fds, n, (int)(wait->tv_sec * 1000 + wait->tv_usec / 1000 + 1));
    if (got <= 0)
        ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    for (nfds_t i = 0; got > 0 && i < n; i++)
        ares_process_fd(channel, fds[i].revents & (POLLIN | POLLERR | POLLHUP) ? fds[i].fd : ARES_SOCKET_BAD,
                        fds[i].revents & POLLOUT ? fds[i].fd : ARES_SOCKET_BAD);
}

/* On the lane's thread. */
static int run_lookup(void *arg)
{
    struct lookup *l = arg;
    ares_channel channel;
    struct ares_options options = {.timeout = 2000, .tries = 3};
    l->status = ares_init_options(&channel, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES);
    if (l->status != ARES_SUCCESS)
        return 0;
    const struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    ares_getaddrinfo(channel, l->host, NULL, &hints, on_answer, l);
    while (!l->done) {
        usec_t now = clock_mono();
        if (now >= l->deadline)
            ares_cancel(channel);
        else
            step(channel, l->deadline - now);
    }
    ares_destroy(channel);
    return 0;
}

static int judge(const struct lookup *l, struct err *err)
{
    switch (l->status) {
    case ARES_SUCCESS: return 0;
    case ARES_ENOTFOUND:
    case ARES_ENODATA: return err_set(err, ERR_NOT_FOUND, "%s: no such host name", l->host);
    case ARES_EBADNAME: return err_set(err, ERR_INVALID, "%s: not a host name", l->host);
    case ARES_ECANCELLED: return err_set(err, ERR_DEADLINE, "%s: no answer from the name server in time", l->host);
    default: return err_set(err, ERR_UNAVAILABLE, "%s: name look-up failed: %s", l->host, ares_strerror(l->status));
    }
}

int net_resolve(struct loop *loop, const char *hostport, usec_t deadline, char *ret_numeric, size_t size, struct err *err)
{
    if (str_starts(str_from(hostport), STR("unix:"))) {
        if (str_copy(ret_numeric, size, str_from(hostport)) != 0)
            return err_set(err, ERR_INVALID, "socket path too long");
        return 0;
    }
    char host[HOST_SIZE];
    struct lookup l = {.host = host, .dst = ret_numeric, .size = size};
    if (net_split_hostport(hostport, host, &l.port) != 0)
        return err_set(err, ERR_INVALID, "\"%.200s\" is not host:port", hostport);
    bool six;
    if (is_numeric(host, &six)) {
        if (put(ret_numeric, size, host, l.port, six) != 0)
            return err_set(err, ERR_INVALID, "address too long");
        return 0;
    }
    usec_t limit = deadline_in(LOOKUP_MAX);
    l.deadline = deadline < limit ? deadline : limit;
    struct lane *lane = lane_try_new(loop, "resolve", 1, 1);
    if (!lane)
        return err_set(err, ERR_EXHAUSTED, "%s: no thread for the name look-up", host);
    int rc = lane_call(lane, run_lookup, &l, l.deadline);
    lane_free(lane);
    if (rc < 0)
        return err_set(err, (enum err_code) - rc, "%s: name look-up %s", host,
                       rc == -(int)ERR_CANCELLED ? "cancelled" : "not done in time");
    return judge(&l, err);
}
