/* SPDX-License-Identifier: Apache-2.0 */
/* dial — connecting as a wait of the running fiber. */
#include <string.h>

#include "loop/stream_internal.h"

/* Heap memory: libuv keeps the request until its callback, which comes after the fiber gave up. */
struct dial {
    uv_connect_t req;
    struct event done;
    int status;
    bool abandoned;
};

static void on_connect(uv_connect_t *req, int status)
{
    struct dial *d = CONTAINER_OF(req, struct dial, req);

    ((struct loop *)req->handle->loop->data)->activity++;
    if (d->abandoned) {
        free(d);
        return;
    }
    d->status = status;
    event_signal(&d->done);
}

static int dial_failed(int status, const char *addr, struct err *err)
{
    int errnum = -status, code = -loop_uv_code(status);

    /* Whatever else a connect reports (no such socket file, no route, refused), the peer cannot be reached now. */
    if (code != ERR_DENIED && code != ERR_INVALID)
        code = ERR_UNAVAILABLE;
    (void)err_set(err, (enum err_code)code, "cannot connect to %s: %s", addr, uv_strerror(status));
    if (err)
        err->sys = errnum;
    return -code;
}

static int connect_start(struct dial *d, struct stream *s, const struct addr *a)
{
    union stream_handle *h = stream_handle(s);

    if (!a->is_unix)
        return uv_tcp_connect(&d->req, &h->tcp, &a->sa, on_connect);
    uv_pipe_connect(&d->req, &h->pipe, a->un.sun_path, on_connect);
    return 0;
}

int stream_dial(struct loop *loop, const char *addr, usec_t deadline, struct stream **ret, struct err *err)
{
    struct addr a;
    struct stream *s;
    struct dial *d;
    int rc;

    rc = addr_parse(addr, &a, err);
    if (rc < 0)
        return rc;
    s = stream_new(loop, a.is_unix);
    d = NEW(struct dial);
    event_init(&d->done, loop);
    rc = connect_start(d, s, &a);
    if (rc < 0) {
        free(d);
        (void)stream_close(s);
        return dial_failed(rc, addr, err);
    }
    rc = event_wait(&d->done, deadline);
    if (rc < 0) {
        if (d->done.set)
            free(d);
        else
            d->abandoned = true;
        (void)stream_close(s);
        return err_set(err, (enum err_code)-rc, "connecting to %s %s", addr, rc == -ERR_DEADLINE ? "took too long" : "was cancelled");
    }
    rc = d->status;
    free(d);
    if (rc < 0) {
        (void)stream_close(s);
        return dial_failed(rc, addr, err);
    }
    stream_connected(s);
    *ret = s;
    return 0;
}
