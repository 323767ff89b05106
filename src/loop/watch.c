/* SPDX-License-Identifier: Apache-2.0 */
/* watch — see watch.h. */
#include "loop/watch.h"

#include "loop/loop_internal.h"

struct watch {
    uv_poll_t poll;
    struct loop *loop;
    void (*fn)(void *arg);
    void *arg;
    bool closing;
};

static void on_poll(uv_poll_t *h, int status, int events)
{
    struct watch *w = h->data;

    (void)status; /* reading tells what is wrong */
    (void)events;
    w->loop->activity++;
    if (!w->closing)
        w->fn(w->arg);
}

static void on_closed(uv_handle_t *h)
{
    free(h->data);
}

int watch_open(struct loop *loop, int fd, void (*fn)(void *arg), void *arg, struct watch **ret, struct err *err)
{
    struct watch *w = NEW(struct watch);
    int rc = uv_poll_init(&loop->uv, &w->poll, fd);

    if (rc < 0) {
        free(w);
        return err_sys(err, -rc, "cannot watch descriptor %d", fd);
    }
    w->poll.data = w;
    w->loop = loop;
    w->fn = fn;
    w->arg = arg;
    BUG_ON(uv_poll_start(&w->poll, UV_READABLE | UV_DISCONNECT, on_poll) < 0);
    *ret = w;
    return 0;
}

struct watch *watch_close(struct watch *w)
{
    if (!w)
        return NULL;
    w->closing = true;
    uv_close((uv_handle_t *)&w->poll, on_closed);
    return NULL;
}
