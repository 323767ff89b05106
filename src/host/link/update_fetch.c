/* SPDX-License-Identifier: Apache-2.0 */
/* update_fetch — the download: hashed as it comes in, never longer than was signed, and patient with a server that asks for patience. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/link/link_dial.h"
#include "host/link/update_internal.h"
#include "ident/digest.h"
#include "net/http_client.h"
#include "net/resolve.h"

enum { CHUNK = 64 * 1024, TRIES = 4, ROOTS_MAX = 1024 * 1024 };
#define RETRY_BASE (500 * USEC_MSEC)
#define RETRY_CAP (20 * USEC_SEC)
#define WAIT_DEFAULT (30 * USEC_SEC) /* for a server that is busy and does not say until when */
#define WAIT_MAX (10 * USEC_MINUTE)

/* One download. */
struct fetch {
    struct update *u;
    struct job *job;
    struct http_url url;
    int fd;
    struct digest *digest;
    uint64_t got;
    char *chunk;
    size_t n;          /* bytes of @chunk to be written */
    usec_t busy;       /* the server asked us to wait so long; 0: it did not */
    bool hopeless;     /* trying again cannot help */
    struct err err;    /* of what runs in the lane */
    char hex[DIGEST_HEX_SIZE];
};

/* --- In the lane ---- */

static int open_job(void *arg)
{
    struct fetch *f = arg;
    AUTO_FREE char *path = update_fetch_path(f->u);
    if (unlink(path) < 0 && errno != ENOENT)
        return err_sys(&f->err, errno, "cannot remove %s", path);
    f->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return f->fd < 0 ? err_sys(&f->err, errno, "cannot make %s", path) : 0;
}

static int write_job(void *arg)
{
    struct fetch *f = arg;
    digest_add(f->digest, f->chunk, f->n);
    return fd_write_all(f->fd, f->chunk, f->n, &f->err);
}

static int close_job(void *arg)
{
    struct fetch *f = arg;
    return fsync(f->fd) < 0 ? err_sys(&f->err, errno, "cannot flush the download") : 0;
}

/* What is there already, after a crash: whole, or nothing of it counts. */
static int look_job(void *arg)
{
    struct fetch *f = arg;
    AUTO_FREE char *path = update_fetch_path(f->u);
    AUTO_FD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t n;
    if (fd < 0)
        return 0;
    while ((n = read(fd, f->chunk, CHUNK)) > 0) {
        digest_add(f->digest, f->chunk, (size_t)n);
        f->got += (uint64_t)n;
    }
    digest_hex(f->digest, f->hex);
    return n == 0 && f->got == f->u->file->size && str_eq(str_from(f->hex), str_from(f->u->file->sha256));
}

static int in_lane(struct fetch *f, int (*fn)(void *arg), struct err *err)
{
    f->err = ERR_INIT;
    int rc = lane_call(f->u->lane, fn, f, job_deadline(f->job));
    if (rc < 0 && err && f->err.code != ERR_OK)
        *err = f->err;
    if (rc < 0 && f->err.code != ERR_OK)
        f->hopeless = true; /* our own disk */
    return rc < 0 ? err_ensure(err, rc) : rc;
}

/* --- The other side ---- */

static const struct agent_config *config_of(const struct fetch *f)
{
    return f->u->updater->config.config;
}

static bool is_tunnel(const struct fetch *f)
{
    return str_eq(str_from(config_of(f)->auth_mode), STR("tunnel"));
}

/* By what the other side is known: @roots and what its certificate must say. */
static int judge_by(struct fetch *f, bool own, struct buf *roots, struct tls_config *ret, struct err *err)
{
    CLEANUP(agent_identity_release) struct agent_identity id = {0};
    const char *edge_roots = config_of(f)->tunnel_ca;
    *ret = (struct tls_config){.verify_host = f->url.host, .alpn = "http/1.1"};
    if (own && is_tunnel(f)) { /* the edge, as on the link */
        int rc = edge_roots && *edge_roots ? fd_read_file(edge_roots, roots, err) : 0;
        ret->ca_pem = buf_str(roots);
        return rc;
    }
    int rc = own ? agent_identity_load(config_of(f), &id, err) : 0;
    if (rc < 0 || !own)
        return rc;
    rc = buf_append_str(roots, buf_str(&id.ca_pem));
    ret->ca_pem = buf_str(roots);
    ret->peer_uri = LINK_PEER_URI;
    ret->verify_host = NULL;
    return rc;
}

/* The control plane's own host (@own) shows the certificate that we know its root of, unless something with a public one stands before it. What
 * comes is believed by its signed checksum in any case. */
static int connect_to(struct fetch *f, bool own, struct http_client **ret, struct err *err)
{
    struct loop *loop = f->u->updater->config.loop;
    AUTO_BUF roots = BUF_INIT(ROOTS_MAX);
    struct tls_config config;
    struct tls_ctx *tls = NULL;
    struct proxy *proxy = NULL;
    char addr[NET_ADDR_SIZE];
    int rc = judge_by(f, own, &roots, &config, err);
    if (rc >= 0)
        rc = link_route(loop, f->url.hostport, job_deadline(f->job), addr, sizeof(addr), &proxy, err);
    if (rc == 0)
        rc = tls_ctx_new(&config, &tls, err);
    if (rc == 0) {
        *ret = http_client_new(loop, addr, f->url.host_field, tls);
        if (proxy)
            http_client_set_proxy(*ret, proxy);
    }
    (void)tls_ctx_unref(tls);
    (void)proxy_unref(proxy);
    return rc;
}

static bool is_control_plane(const struct fetch *f)
{
    char host[256];
    unsigned port;
    return net_split_hostport(config_of(f)->grpc_endpoint, host, &port) == 0 && str_eq(str_from(host), str_from(f->url.host));
}

static usec_t retry_after(const struct http_head *h)
{
    const char *text = http_field(h, "retry-after");
    uint64_t seconds = 0;
    if (!text || str_to_u64(str_from(text), UINT32_MAX, &seconds) != 0)
        return WAIT_DEFAULT;
    usec_t wait = seconds * USEC_SEC;
    return wait < USEC_SEC ? USEC_SEC : wait > WAIT_MAX ? WAIT_MAX : wait;
}

static int check_head(struct fetch *f, const struct http_head *h, struct err *err)
{
    uint64_t size = f->u->file->size;
    if (h->status == 429 || h->status == 503) {
        f->busy = retry_after(h);
        return err_set(err, ERR_UNAVAILABLE, "the server asks to come back later (status %d)", h->status);
    }
    if (h->status != 200) {
        f->hopeless = h->status >= 400 && h->status < 500 && h->status != 408;
        return err_set(err, h->status == 404 ? ERR_NOT_FOUND : ERR_UNAVAILABLE, "the server answered with status %d", h->status);
    }
    f->hopeless = h->has_length && h->length != size;
    return f->hopeless ? err_set(err, ERR_INVALID, "the server offers %llu bytes, %llu were signed", (unsigned long long)h->length,
                                 (unsigned long long)size)
                       : 0;
}

static int read_body(struct fetch *f, struct http_exchange *x, struct err *err)
{
    uint64_t size = f->u->file->size;
    unsigned told = 0;
    for (;;) {
        int rc = http_read(x, f->chunk, CHUNK, job_deadline(f->job), &f->n, err);
        if (rc < 0)
            return rc;
        if (f->n == 0)
            break;
        f->got += f->n;
        f->hopeless = f->got > size;
        if (f->hopeless)
            return err_set(err, ERR_EXHAUSTED, "the download is longer than the %llu bytes that were signed", (unsigned long long)size);
        rc = in_lane(f, write_job, err);
        if (rc < 0)
            return rc;
        unsigned percent = (unsigned)(f->got * 100 / size);
        if (percent >= told + 10)
            job_note(f->job, told = percent, "%u %%", percent);
    }
    return f->got == size ? 0 : err_set(err, ERR_UNAVAILABLE, "the download ended after %llu of %llu bytes", (unsigned long long)f->got,
                                        (unsigned long long)size);
}

static int check_sum(struct fetch *f, struct err *err)
{
    digest_hex(f->digest, f->hex);
    if (str_eq(str_from(f->hex), str_from(f->u->file->sha256)))
        return in_lane(f, close_job, err);
    f->hopeless = true;
    return update_reason(f->u, err_set(err, ERR_DATA_LOSS, "what was downloaded has the checksum %s, signed is %s", f->hex, f->u->file->sha256),
                         "update_checksum");
}

static int attempt(struct fetch *f, bool own, struct err *err)
{
    struct http_client *client = NULL;
    struct http_exchange *x = NULL;
    struct http_field accept = {"accept", "*/*"};
    struct http_request req = {.method = "GET", .target = f->url.target, .fields = &accept, .n_fields = 1};
    f->busy = 0;
    f->got = 0;
    f->digest = digest_new();
    int rc = in_lane(f, open_job, err);
    if (rc == 0)
        rc = connect_to(f, own, &client, err);
    if (rc == 0)
        rc = http_request(client, &req, job_deadline(f->job), &x, err);
    if (rc == 0)
        rc = check_head(f, http_head(x), err);
    if (rc == 0)
        rc = read_body(f, x, err);
    (void)http_finish(x);
    (void)http_client_free(client);
    if (rc == 0)
        rc = check_sum(f, err);
    if (f->fd >= 0)
        (void)close(f->fd);
    f->fd = -1;
    f->digest = digest_free(f->digest);
    return rc;
}

/* A server that is busy is no failure: only the step's own time ends that. */
static int fetch(struct fetch *f, struct err *err)
{
    bool own = is_control_plane(f);
    for (unsigned try = 0;; try++) {
        struct err e = ERR_INIT;
        int rc = attempt(f, own, &e);
        if (rc == -(int)ERR_UNAUTHENTICATED && own) {
            own = false;
            e = ERR_INIT;
            rc = attempt(f, own, &e);
        }
        if (rc == 0)
            return 0;
        usec_t wait = f->busy ? f->busy : backoff_wait(try, RETRY_BASE, RETRY_CAP);
        if (f->busy) {
            job_note(f->job, 0, "the server asks to come back in %llu s", (unsigned long long)(wait / USEC_SEC));
            try = 0;
        }
        if (fiber_cancelled() || f->hopeless || rc == -(int)ERR_CANCELLED || (!f->busy && try + 1 >= TRIES) ||
            clock_add(clock_mono(), wait) >= job_deadline(f->job)) {
            *err = e;
            return err_ensure(err, rc);
        }
        if (fiber_sleep(wait) < 0)
            return -(int)ERR_CANCELLED;
    }
}

int step_download(struct job *job, void *ctx, struct err *err)
{
    struct update *u = ctx;
    AUTO_FREE char *chunk = mem_alloc(CHUNK);
    AUTO_FREE struct fetch *f = NEW(struct fetch);
    f->u = u;
    f->job = job;
    f->fd = -1;
    f->chunk = chunk;
    int rc = http_url_parse(u->msg->url, &f->url, err);
    if (rc == 0)
        rc = fetch(f, err);
    return update_reason(u, rc, "update_download");
}

int probe_download(struct job *job, void *ctx, struct err *err)
{
    AUTO_FREE char *chunk = mem_alloc(CHUNK);
    AUTO_FREE struct fetch *f = NEW(struct fetch);
    f->u = ctx;
    f->job = job;
    f->fd = -1;
    f->chunk = chunk;
    f->digest = digest_new();
    int rc = in_lane(f, look_job, err);
    f->digest = digest_free(f->digest);
    return rc;
}
