/* SPDX-License-Identifier: Apache-2.0 */
/* docker_logs — a container's log, read at the pace of its taker. */
#include "docker/docker_internal.h"
#include "docker/docker_log_reader.h"

#include "base/mem.h"

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

static int read_log(struct http_exchange *x, struct docker_log_reader *r, usec_t deadline, struct err *err)
{
    AUTO_FREE char *piece = mem_alloc(DOCKER_READ_SIZE);
    for (;;) {
        size_t n = 0;
        int rc = http_read(x, piece, DOCKER_READ_SIZE, deadline, &n, err);
        if (rc == 0 && n == 0)
            return docker_log_reader_end(r, err);
        if (rc == 0)
            rc = docker_log_reader_feed(r, (struct str){piece, n}, err);
        if (rc != 0)
            return rc;
    }
}

int docker_logs(struct docker *d, const char *id, const struct docker_log_options *options, docker_log_fn *fn, void *arg, usec_t deadline,
                struct err *err)
{
    /* Only the container's description tells whether its stream has frames: engines before 1.42 send the same content type for both. */
    struct docker_container c = {0};
    int rc = docker_container_inspect(d, id, &c, deadline, err);
    if (rc < 0)
        return rc;
    bool tty = c.tty;
    docker_container_release(&c);
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    rc = write_path(&path, id, options, err);
    if (rc < 0)
        return rc;
    struct http_exchange *x = NULL;
    struct http_request req = {.method = "GET", .target = buf_cstr(&path)};
    rc = docker_request(d, &req, deadline, &x, err);
    if (rc < 0)
        return rc;
    struct docker_log_reader r;
    docker_log_reader_init(&r, tty, fn, arg);
    rc = docker_status(x, deadline, err);
    if (rc == 0)
        rc = read_log(x, &r, deadline, err);
    docker_log_reader_release(&r);
    http_finish(x);
    return docker_note(d, rc);
}
