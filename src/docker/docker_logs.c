/* SPDX-License-Identifier: Apache-2.0 */
/* docker_logs — a container's log, read at the pace of its taker.
 * When a container ends, Docker 20.10 closes the streams that follow its log without the last lines (seen: those of the last milliseconds, and
 * always one without a line end).  So a followed log that ended is read once more from the last stamps on, and what was not there yet is
 * given. */
#include "base/clock.h"
#include "base/mem.h"
#include "docker/docker_internal.h"
#include "docker/docker_log_reader.h"

/* Stamps ascend within a stream only: the other one's copy may be late by so much. */
#define STREAM_SKEW_NS 10000000000ULL

/* What was given of a stream: the stamp of its last entry, and how many had it. */
struct given {
    uint64_t last_ns;
    unsigned n;
    unsigned passed; /* of them, in the second reading */
};

struct tracker {
    docker_log_fn *fn;
    void *arg;
    struct given streams[2];
    bool again; /* second reading */
};

static int on_entry(void *arg, const struct docker_log *e)
{
    struct tracker *t = arg;
    struct given *g = &t->streams[e->is_stderr];
    if (t->again && e->time_ns < g->last_ns)
        return 0;
    if (t->again && e->time_ns == g->last_ns && g->passed < g->n) {
        g->passed++;
        return 0;
    }
    if (!t->again && e->time_ns != g->last_ns)
        *g = (struct given){.last_ns = e->time_ns};
    g->n++;
    return t->fn(t->arg, e);
}

static int write_path(struct buf *path, const char *id, const struct docker_log_options *o, struct err *err)
{
    int rc = docker_path(path, "/containers/", id, "/logs?timestamps=1", err);
    if (rc < 0)
        return rc;
    const unsigned long long s = 1000000000;
    rc = buf_printf(path, "&follow=%d&stdout=%d&stderr=%d", o->follow, !o->no_stdout, !o->no_stderr);
    if (rc == 0 && o->since_ns)
        rc = buf_printf(path, "&since=%llu.%09llu", o->since_ns / s, o->since_ns % s);
    if (rc == 0 && o->until_ns)
        rc = buf_printf(path, "&until=%llu.%09llu", o->until_ns / s, o->until_ns % s);
    if (rc == 0 && o->tail >= 0)
        rc = buf_printf(path, "&tail=%lld", (long long)o->tail);
    return rc < 0 ? err_set(err, ERR_INVALID, "name too long") : 0;
}

/* @last: the reading ends with the stream; else what is open then comes again. */
static int read_log(struct http_exchange *x, struct docker_log_reader *r, bool last, usec_t deadline, struct err *err)
{
    AUTO_FREE char *piece = mem_alloc(DOCKER_READ_SIZE);
    for (;;) {
        size_t n = 0;
        int rc = http_read(x, piece, DOCKER_READ_SIZE, deadline, &n, err);
        if (rc == 0 && n == 0)
            return last ? docker_log_reader_end(r, err) : 0;
        if (rc == 0)
            rc = docker_log_reader_feed(r, (struct str){piece, n}, err);
        if (rc != 0)
            return rc;
    }
}

static int read_once(struct docker *d, const char *id, const struct docker_log_options *o, bool tty, struct tracker *t,
                     usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    int rc = write_path(&path, id, o, err);
    if (rc < 0)
        return rc;
    struct http_exchange *x = NULL;
    struct http_request req = {.method = "GET", .target = buf_cstr(&path)};
    rc = docker_request(d, &req, deadline, &x, err);
    if (rc < 0)
        return rc;
    struct docker_log_reader r;
    docker_log_reader_init(&r, tty, on_entry, t);
    rc = docker_status(x, deadline, err);
    if (rc == 0)
        rc = read_log(x, &r, !o->follow, deadline, err);
    docker_log_reader_release(&r);
    http_finish(x);
    return docker_note(d, rc);
}

/* From where to read once more, and what counts as given of a stream that gave nothing. */
static uint64_t read_again_from(struct tracker *t, const struct docker_log_options *o, uint64_t started_ns)
{
    uint64_t first = UINT64_MAX, last = 0;
    for (size_t i = 0; i < ARRAY_LEN(t->streams); i++) {
        struct given *g = &t->streams[i];
        if (g->last_ns == 0)
            g->last_ns = o->tail >= 0 ? started_ns : o->since_ns;
        first = g->last_ns < first ? g->last_ns : first;
        last = g->last_ns > last ? g->last_ns : last;
    }
    uint64_t floor = last > STREAM_SKEW_NS ? last - STREAM_SKEW_NS : 0;
    return first > floor ? first : floor;
}

int docker_logs(struct docker *d, const char *id, const struct docker_log_options *options, docker_log_fn *fn, void *arg,
                usec_t deadline, struct err *err)
{
    /* Only the container's description tells whether its stream has frames: engines before 1.42 send the same content type for both. */
    struct docker_container c = {0};
    int rc = docker_container_inspect(d, id, &c, deadline, err);
    if (rc < 0)
        return rc;
    bool tty = c.tty;
    docker_container_release(&c);
    struct tracker t = {.fn = fn, .arg = arg};
    uint64_t started_ns = clock_real() * 1000;
    rc = read_once(d, id, options, tty, &t, deadline, err);
    if (rc != 0 || !options->follow)
        return rc;
    struct docker_log_options rest = *options;
    rest.follow = false;
    rest.tail = -1;
    rest.since_ns = read_again_from(&t, options, started_ns);
    t.again = true;
    rc = read_once(d, id, &rest, tty, &t, deadline, err);
    bool removed = rc == -(int)ERR_NOT_FOUND || rc == -(int)ERR_PRECONDITION; /* as soon as it ended */
    return removed ? 0 : rc;
}
