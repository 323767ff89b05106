/* SPDX-License-Identifier: Apache-2.0 */
/* conn_setup — how a connection begins: dialled from a fiber, or accepted with a handshake and a time limit. */
#include <string.h>

#include "base/mem.h"
#include "net/conn_internal.h"

enum { ONE_ADDR_SIZE = 64 };

#define ONE_DIAL_MAX (5 * USEC_SEC)

/* --- Dialling ------------------------------------------------------------------------------------------------------------------------ */

struct dial {
    struct event done;
    int rc;
};

static void on_dial_shaken(void *arg, int rc)
{
    struct dial *dial = arg;
    dial->rc = rc;
    event_signal(&dial->done);
}

int conn_start_tls(struct conn *c, struct tls_ctx *tls, const char *server_name, usec_t deadline, struct err *err)
{
    int rc = conn_tls_init(c, tls, server_name, err);
    if (rc < 0)
        return rc;
    struct dial dial = {.rc = 0};
    event_init(&dial.done, c->loop);
    conn_tls_handshake(c, on_dial_shaken, &dial);
    rc = event_wait(&dial.done, deadline);
    event_release(&dial.done);
    if (rc < 0)
        return err_set(err, (enum err_code) - rc, "TLS handshake: %s",
                       rc == -(int)ERR_DEADLINE ? "deadline exceeded" : "cancelled");
    if (dial.rc < 0 && err)
        *err = *c->failure;
    return dial.rc;
}

static int dial_one(struct loop *loop, const char *addr, struct tls_ctx *tls, const char *server_name, usec_t deadline,
                    struct conn **ret, struct err *err)
{
    struct stream *s = NULL;
    int rc = stream_dial(loop, addr, deadline, &s, err);
    if (rc < 0)
        return rc;
    if (!tls) {
        *ret = conn_plain(s);
        return 0;
    }
    struct conn *c = conn_make(s);
    rc = conn_start_tls(c, tls, server_name, deadline, err);
    if (rc < 0) {
        conn_close(c);
        return rc;
    }
    *ret = c;
    return 0;
}

/* The last address has all the time that is left, the others an equal part of it at most. */
static usec_t share(usec_t deadline, size_t left)
{
    usec_t now = clock_mono();
    if (left <= 1 || now >= deadline)
        return deadline;
    usec_t part = (deadline - now) / left;
    return now + (part < ONE_DIAL_MAX ? part : ONE_DIAL_MAX);
}

int conn_dial(struct loop *loop, const char *addr, struct tls_ctx *tls, const char *server_name, usec_t deadline,
              struct conn **ret, struct err *err)
{
    if (str_starts(str_from(addr), STR("unix:")) || !strchr(addr, ','))
        return dial_one(loop, addr, tls, server_name, deadline, ret, err);
    struct str rest = str_from(addr);
    size_t left = 1;
    for (size_t i = 0; i < rest.n; i++)
        left += rest.p[i] == ',';
    if (left > CONN_ADDRS_MAX)
        return err_set(err, ERR_INVALID, "more than %d addresses", CONN_ADDRS_MAX);
    int rc;
    do {
        char one[ONE_ADDR_SIZE];
        if (str_copy(one, sizeof(one), str_cut(&rest, ',')) != 0)
            return err_set(err, ERR_INVALID, "address too long");
        rc = dial_one(loop, one, tls, server_name, share(deadline, left), ret, err);
    } while (--left && (rc == -(int)ERR_UNAVAILABLE || rc == -(int)ERR_DEADLINE));
    return rc;
}

/* --- Accepting ----------------------------------------------------------------------------------------------------------------------- */

struct conn_accept {
    struct conn *c;
    struct timer timer;
    struct task done;
    int rc;
    struct err err;
    void (*on_ready)(void *arg, struct conn *c);
    void (*on_failed)(void *arg, const char *peer, const struct err *err);
    void *arg;
};

static void accept_ended(struct conn_accept *a, int rc, const struct err *err)
{
    timer_stop(&a->timer);
    a->rc = rc;
    if (err)
        a->err = *err;
    loop_post(a->c->loop, &a->done);
}

static void on_accept_shaken(void *arg, int rc)
{
    struct conn_accept *a = arg;
    accept_ended(a, rc, rc < 0 ? a->c->failure : NULL);
}

static void on_accept_timeout(void *arg)
{
    struct conn_accept *a = arg;
    struct err err = ERR_INIT;
    a->c->shaking = false;
    conn_adjust(a->c);
    accept_ended(a, err_set(&err, ERR_DEADLINE, "TLS handshake: not finished in time"), &err);
}

static void on_accept_done(void *arg)
{
    struct conn_accept *a = arg;
    if (a->rc == 0) {
        a->on_ready(a->arg, a->c);
    } else {
        a->on_failed(a->arg, conn_peer_addr(a->c), &a->err);
        conn_close(a->c);
    }
    free(a);
}

struct conn_accept *conn_accept_tls(struct stream *s, struct tls_ctx *tls, usec_t timeout,
                                    void (*on_ready)(void *arg, struct conn *c),
                                    void (*on_failed)(void *arg, const char *peer, const struct err *err), void *arg)
{
    struct conn_accept *a = NEW(struct conn_accept);
    a->c = conn_make(s);
    a->on_ready = on_ready;
    a->on_failed = on_failed;
    a->arg = arg;
    timer_init(&a->timer, a->c->loop, on_accept_timeout, a);
    task_init(&a->done, on_accept_done, a);
    struct err err = ERR_INIT;
    int rc = conn_tls_init(a->c, tls, NULL, &err);
    if (rc < 0) {
        accept_ended(a, rc, &err);
        return a;
    }
    timer_set(&a->timer, timeout);
    conn_tls_handshake(a->c, on_accept_shaken, a);
    return a;
}

void conn_accept_cancel(struct conn_accept *a)
{
    timer_stop(&a->timer);
    task_cancel(&a->done);
    a->c->shaking = false;
    conn_close(a->c);
    free(a);
}
