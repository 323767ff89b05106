/* SPDX-License-Identifier: Apache-2.0 */
/* ingress_runtime — HAProxy as it runs: what it has loaded, which servers its workers know, how busy they are. A worker that ends after a reload
 * goes on with the connections that it has, and with requests that come on them: it is told of servers, too. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "host/reach/ingress_internal.h"

/* Idle connections to a server that is to go are closed in later turns of HAProxy's own. */
enum { DELETE_TRIES = 8 };
#define DELETE_STEP (25 * USEC_MSEC)
/* After a start and a reload the master process begins anew while the worker serves already. */
#define MASTER_AWAY (2 * USEC_SEC)
#define MASTER_STEP (25 * USEC_MSEC)

static int ask_once(struct ingress *in, uint32_t pid, const char *command, struct buf *out, struct err *err)
{
    const char *name = pid ? "master.sock" : "admin.sock";
    struct stat st;
    if (in->run_fd < 0 || fstatat(in->run_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_set(err, ERR_UNAVAILABLE, "HAProxy does not run");
    /* HAProxy may write there: a name that leads elsewhere is not followed. */
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, ERR_PRECONDITION, "%s/run/%s is no socket", in->folder, name);
    /* By descriptor, because the name of a socket is at most 107 bytes long. */
    AUTO_FREE char *socket = str_printf("unix:/proc/self/fd/%d/%s", in->run_fd, name);
    AUTO_FREE char *line = pid > INGRESS_MASTER ? str_printf("@!%u %s", pid, command) : str_dup(str_from(command));
    return haproxy_ask(in->loop, socket, line, out, deadline_in(INGRESS_ASK), err);
}

int ingress_ask(struct ingress *in, uint32_t pid, const char *command, struct buf *out, struct err *err)
{
    usec_t end = deadline_in(pid ? MASTER_AWAY : 0);
    for (;;) {
        struct err e = ERR_INIT;
        int rc = ask_once(in, pid, command, out, &e);
        bool again = rc == -(int)ERR_UNAVAILABLE && clock_mono() < end;
        if (rc < 0 && !again && err)
            *err = e;
        if (!again)
            return rc;
        rc = fiber_sleep(MASTER_STEP);
        if (rc < 0)
            return err_set(err, (enum err_code)-rc, "nobody waits any more for HAProxy");
    }
}

int ingress_old_workers(struct ingress *in, uint32_t ret[HAPROXY_OLD_MAX], size_t *ret_n, struct err *err)
{
    AUTO_BUF out = BUF_INIT(HAPROXY_ANSWER_MAX);
    *ret_n = 0;
    int rc = ingress_ask(in, INGRESS_MASTER, "show proc", &out, err);
    return rc < 0 ? rc : haproxy_old_workers(buf_str(&out), ret, ret_n, err);
}

void ingress_reload(struct ingress *in)
{
    AUTO_BUF out = BUF_INIT(HAPROXY_ANSWER_MAX);
    (void)ingress_ask(in, INGRESS_MASTER, "reload", &out, NULL);
}

int ingress_loaded(struct ingress *in, char ret[ROUTES_GENERATION_SIZE], struct err *err)
{
    AUTO_BUF out = BUF_INIT(HAPROXY_ANSWER_MAX);
    struct str text = STR("");
    int rc = ingress_ask(in, 0, "show info", &out, err);
    if (rc < 0)
        return rc;
    if (haproxy_info(buf_str(&out), "description", &text) != 0 || !str_starts(text, STR(ROUTES_PREFIX)))
        return err_set(err, ERR_INVALID, "HAProxy does not say what it has loaded");
    text = (struct str){text.p + strlen(ROUTES_PREFIX), text.n - strlen(ROUTES_PREFIX)};
    if (str_copy(ret, ROUTES_GENERATION_SIZE, text) != 0)
        return err_set(err, ERR_INVALID, "HAProxy has loaded something that it was not told");
    return 0;
}

/* --- Servers ---- */

/* The answer to a command that changes something is empty, or begins with @fine, or is the reason why not. */
static int order(struct ingress *in, uint32_t pid, const char *command, const char *fine, struct err *err)
{
    AUTO_BUF out = BUF_INIT(HAPROXY_ANSWER_MAX);
    int rc = ingress_ask(in, pid, command, &out, err);
    if (rc < 0)
        return rc;
    struct str text = buf_str(&out), first = STR("");
    while (text.n > 0 && first.n == 0)
        first = str_trim(str_cut(&text, '\n'));
    if (first.n == 0 || (fine && str_starts(first, str_from(fine))))
        return 0;
    return err_set(err, ERR_PRECONDITION, "HAProxy refuses a change of servers: " STR_FMT, (int)(first.n < 120 ? first.n : 120), first.p);
}

static const struct route_server *find(const struct route *r, struct str name)
{
    for (size_t i = 0; i < r->n_servers; i++)
        if (str_eq(str_from(r->servers[i].name), name))
            return &r->servers[i];
    return NULL;
}

static int add_server(struct ingress *in, uint32_t pid, const struct route *r, const struct route_server *s, struct err *err)
{
    AUTO_FREE char *add = str_printf("add server %s/%s %s:%u weight %u pool-purge-delay 5s pool-max-conn -1", r->backend, s->name, s->address,
                                     s->port, s->weight);
    AUTO_FREE char *enable = str_printf("enable server %s/%s", r->backend, s->name);
    int rc = order(in, pid, add, "New server registered", err);
    return rc < 0 ? rc : order(in, pid, enable, NULL, err);
}

static int weigh(struct ingress *in, uint32_t pid, const struct route *r, struct str name, unsigned weight, struct err *err)
{
    AUTO_FREE char *set = str_printf("set server %s/" STR_FMT " weight %u", r->backend, STR_ARG(name), weight);
    return order(in, pid, set, NULL, err);
}

static int change_server(struct ingress *in, uint32_t pid, const struct route *r, const struct route_server *want, const struct haproxy_server *is,
                         struct err *err)
{
    int rc = 0;
    if (!str_eq(is->address, str_from(want->address)) || is->port != want->port) {
        AUTO_FREE char *move = str_printf("set server %s/%s addr %s port %u", r->backend, want->name, want->address, want->port);
        rc = order(in, pid, move, "", err); /* it tells what was changed; whether it was is looked at afterwards */
    }
    if (rc == 0 && is->maintenance) {
        AUTO_FREE char *ready = str_printf("set server %s/%s state ready", r->backend, want->name);
        rc = order(in, pid, ready, NULL, err);
    }
    return rc == 0 && is->weight != want->weight ? weigh(in, pid, r, is->name, want->weight, err) : rc;
}

/* One that has connections still cannot be deleted: it stays, out of service, until the next reload or the next change after they have ended. */
static int delete_server(struct ingress *in, const struct route *r, struct str name, struct err *err)
{
    AUTO_FREE char *stop = str_printf("set server %s/" STR_FMT " state maint", r->backend, STR_ARG(name));
    AUTO_FREE char *del = str_printf("del server %s/" STR_FMT, r->backend, STR_ARG(name));
    int rc = order(in, 0, stop, NULL, err);
    for (unsigned i = 0; rc == 0 && i < DELETE_TRIES; i++) {
        rc = order(in, 0, del, "Server deleted", NULL);
        if (rc != -(int)ERR_PRECONDITION)
            return rc < 0 ? err_set(err, (enum err_code)-rc, "HAProxy does not answer") : 0;
        rc = fiber_sleep(DELETE_STEP);
    }
    return rc < 0 ? err_set(err, (enum err_code)-rc, "nobody waits any more for HAProxy") : 0;
}

/* What is to be done with a server that a worker has; @want: what it shall be, NULL: there shall be none of this name. */
typedef int server_fn(struct ingress *in, uint32_t pid, const struct route *r, const struct route_server *want, const struct haproxy_server *is,
                      struct err *err);
/* For each that the worker has: @fn, if not NULL. @seen, if not NULL: those of @r that it has. */
static int each_server(struct ingress *in, uint32_t pid, const struct route *r, server_fn *fn, bool *seen, struct err *err)
{
    AUTO_BUF out = BUF_INIT(HAPROXY_ANSWER_MAX);
    AUTO_FREE char *ask = str_printf("show servers state %s", r->backend);
    struct haproxy_table t;
    struct haproxy_server is;
    int rc = ingress_ask(in, pid, ask, &out, err);
    if (rc == 0)
        rc = haproxy_servers_begin(&t, buf_str(&out), err);
    while (rc >= 0 && (rc = haproxy_servers_next(&t, &is, err)) == 1) {
        const struct route_server *want = find(r, is.name);
        if (want && seen)
            seen[want - r->servers] = true;
        if (fn && (rc = fn(in, pid, r, want, &is, err)) < 0)
            break;
    }
    return rc < 0 ? rc : 0;
}

static int add_missing(struct ingress *in, uint32_t pid, const struct route *r, struct err *err)
{
    AUTO_FREE bool *seen = mem_zalloc(r->n_servers + 1, sizeof(*seen));
    int rc = each_server(in, pid, r, NULL, seen, err);
    for (size_t i = 0; rc == 0 && i < r->n_servers; i++)
        if (!seen[i])
            rc = add_server(in, pid, r, &r->servers[i], err);
    return rc;
}

/* What is not wanted gets nothing new. */
static int keep_or_fade(struct ingress *in, uint32_t pid, const struct route *r, const struct route_server *want, const struct haproxy_server *is,
                        struct err *err)
{
    if (want)
        return change_server(in, pid, r, want, is, err);
    return is->weight ? weigh(in, pid, r, is->name, 0, err) : 0;
}

static int drop_others(struct ingress *in, uint32_t pid, const struct route *r, const struct route_server *want, const struct haproxy_server *is,
                       struct err *err)
{
    (void)pid;
    return want ? 0 : delete_server(in, r, is->name, err);
}

static int compare(struct ingress *in, uint32_t pid, const struct route *r, const struct route_server *want, const struct haproxy_server *is,
                   struct err *err)
{
    (void)in;
    (void)pid;
    bool fits = want ? str_eq(is->address, str_from(want->address)) && is->port == want->port && is->weight == want->weight && !is->maintenance
                     : is->maintenance;
    if (fits)
        return 0;
    return err_set(err, ERR_PRECONDITION, "HAProxy has other servers for %s than it was told", r->backend);
}

int ingress_verify(struct ingress *in, const struct route *r, struct err *err)
{
    AUTO_FREE bool *seen = mem_zalloc(r->n_servers + 1, sizeof(*seen));
    int rc = each_server(in, 0, r, compare, seen, err);
    for (size_t i = 0; rc == 0 && i < r->n_servers; i++)
        if (!seen[i])
            rc = err_set(err, ERR_PRECONDITION, "HAProxy lacks server %s", r->servers[i].name);
    return rc;
}

void ingress_sync_old(struct ingress *in, const struct route *r)
{
    uint32_t old[HAPROXY_OLD_MAX];
    size_t n = 0;
    if (ingress_old_workers(in, old, &n, NULL) < 0)
        return;
    for (size_t i = 0; i < n; i++)
        if (add_missing(in, old[i], r, NULL) == 0)
            (void)each_server(in, old[i], r, keep_or_fade, NULL, NULL);
}

/* New ones first, then the weights, so that there is no moment without any. */
int ingress_sync(struct ingress *in, const struct route *r, struct err *err)
{
    int rc = add_missing(in, 0, r, err);
    if (rc == 0)
        rc = each_server(in, 0, r, keep_or_fade, NULL, err);
    if (rc < 0)
        return rc;
    ingress_sync_old(in, r);
    rc = each_server(in, 0, r, drop_others, NULL, err);
    return rc < 0 ? rc : ingress_verify(in, r, err);
}

/* --- Load ---- */

static int load_of(struct ingress *in, uint32_t pid, const char *backend, const char *server, unsigned *ret, struct err *err)
{
    AUTO_BUF out = BUF_INIT(HAPROXY_ANSWER_MAX);
    AUTO_FREE char *ask = str_printf("show stat %s 4 -1", backend);
    int rc = ingress_ask(in, pid, ask, &out, err);
    *ret = 0;
    if (rc < 0 || str_starts(buf_str(&out), STR("No such proxy")))
        return rc;
    return haproxy_load(buf_str(&out), server, ret, err);
}

int ingress_load(struct ingress *in, const char *backend, const char *server, unsigned *ret, struct err *err)
{
    uint32_t old[HAPROXY_OLD_MAX];
    size_t n = 0;
    unsigned total = 0, one = 0;
    int rc = load_of(in, 0, backend, server, &total, err);
    if (rc == 0)
        rc = ingress_old_workers(in, old, &n, err);
    /* One that has come to an end since is not there any more: what it says is no table. */
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (load_of(in, old[i], backend, server, &one, NULL) == 0)
            total += one;
    *ret = total;
    return rc;
}
