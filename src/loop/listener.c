/* SPDX-License-Identifier: Apache-2.0 */
/* listener — accepting connections on TCP and unix sockets. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/str.h"
#include "loop/stream_internal.h"

enum { LISTEN_BACKLOG = 512 };

struct listener {
    union stream_handle h;
    struct loop *loop;
    void (*on_accept)(void *arg, struct stream *s);
    void *arg;
    char *addr;
    bool is_unix;
    bool closing;
};

static void on_connection(uv_stream_t *h, int status)
{
    struct listener *l = h->data;
    struct stream *s;

    l->loop->activity++;
    /* A failed accept (the peer is gone again, no descriptors left) concerns nobody here; libuv goes on listening. */
    if (status < 0 || l->closing)
        return;
    s = stream_new(l->loop, l->is_unix);
    if (uv_accept(h, &stream_handle(s)->stream) < 0) {
        (void)stream_close(s);
        return;
    }
    stream_connected(s);
    l->on_accept(l->arg, s);
}

/* Makes way for a new socket at the path: 0 when nothing is there now, -ERR_EXISTS when something must stay. */
static int clear_path(const struct addr *a, struct err *err)
{
    const char *path = a->un.sun_path;
    struct stat st;
    AUTO_FD int fd = -1;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : err_sys(err, errno, "cannot look at %s", path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, ERR_EXISTS, "%s exists and is no socket", path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(err, errno, "cannot make a socket");
    if (connect(fd, &a->sa, sizeof(a->un)) == 0 || errno != ECONNREFUSED)
        return err_set(err, ERR_EXISTS, "%s is in use by another process", path);
    if (unlink(path) < 0 && errno != ENOENT)
        return err_sys(err, errno, "cannot remove the stale socket %s", path);
    return 0;
}

static int open_unix(struct listener *l, const struct addr *a, mode_t mode, struct err *err)
{
    int rc = clear_path(a, err);

    if (rc < 0)
        return rc;
    rc = uv_pipe_bind(&l->h.pipe, a->un.sun_path);
    if (rc < 0)
        return err_sys(err, -rc, "cannot bind %s", a->un.sun_path);
    /* Nobody can connect between bind and listen, so the mode is in force before the first connection. */
    if (chmod(a->un.sun_path, mode) < 0)
        return err_sys(err, errno, "cannot set the mode of %s", a->un.sun_path);
    l->addr = str_printf("unix:%s", a->un.sun_path);
    return 0;
}

static int open_tcp(struct listener *l, const struct addr *a, const char *text, struct err *err)
{
    int rc = uv_tcp_bind(&l->h.tcp, &a->sa, 0); /* with SO_REUSEADDR */

    return rc < 0 ? err_sys(err, -rc, "cannot bind %s", text) : 0;
}

static int start(struct listener *l, const char *text, struct err *err)
{
    struct sockaddr_storage sa;
    int n = sizeof(sa), rc;

    rc = uv_listen(&l->h.stream, LISTEN_BACKLOG, on_connection);
    if (rc < 0)
        return err_sys(err, -rc, "cannot listen on %s", text);
    if (l->is_unix)
        return 0;
    rc = uv_tcp_getsockname(&l->h.tcp, (struct sockaddr *)&sa, &n);
    if (rc < 0)
        return err_sys(err, -rc, "cannot read the address of %s", text);
    l->addr = addr_text((struct sockaddr *)&sa);
    return 0;
}

int listener_check(const char *addr, struct err *err)
{
    struct addr a;
    return addr_parse(addr, &a, err);
}

int listener_open(struct loop *loop, const char *addr, mode_t unix_mode, void (*on_accept)(void *arg, struct stream *s), void *arg,
                  struct listener **ret, struct err *err)
{
    struct listener *l;
    struct addr a;
    int rc = addr_parse(addr, &a, err);

    if (rc < 0)
        return rc;
    l = NEW(struct listener);
    l->loop = loop;
    l->on_accept = on_accept;
    l->arg = arg;
    l->is_unix = a.is_unix;
    if (a.is_unix)
        BUG_ON(uv_pipe_init(&loop->uv, &l->h.pipe, 0) < 0);
    else
        BUG_ON(uv_tcp_init(&loop->uv, &l->h.tcp) < 0);
    l->h.any.data = l;
    rc = a.is_unix ? open_unix(l, &a, unix_mode, err) : open_tcp(l, &a, addr, err);
    if (rc == 0)
        rc = start(l, addr, err);
    if (rc < 0) {
        (void)listener_close(l);
        return rc;
    }
    *ret = l;
    return 0;
}

const char *listener_addr(const struct listener *l)
{
    return l->addr;
}

static void on_closed(uv_handle_t *h)
{
    struct listener *l = h->data;

    free(l->addr);
    free(l);
}

struct listener *listener_close(struct listener *l)
{
    if (!l)
        return NULL;
    l->closing = true;
    uv_close(&l->h.any, on_closed); /* also removes the path of a unix socket */
    return NULL;
}
