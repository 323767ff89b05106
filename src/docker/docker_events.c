/* SPDX-License-Identifier: Apache-2.0 */
/* docker_events — what happens to containers, as it happens. */
#include <string.h>

#include "docker/docker_internal.h"

struct raw_event {
    struct docker_event e;
    struct docker_map attributes;
};

#define F(member, key, kind)                                                                                                     \
    {                                                                                                                            \
        .name = key, .type = DOCKER_F_##kind, .offset = offsetof(struct raw_event, member)                                       \
    }
static const struct docker_field actor_fields[] = {F(e.id, "ID", STR), F(attributes, "Attributes", MAP), {0}};
static const struct docker_field event_fields[] = {
    F(e.type, "Type", STR),
    F(e.action, "Action", STR),
    F(e.time_ns, "timeNano", U64),
    {.name = "Actor", .type = DOCKER_F_OBJECT, .sub = actor_fields},
    {0},
};
#undef F

struct watch {
    docker_event_fn *fn;
    void *arg;
};

static int on_record(void *arg, struct str json, struct err *err)
{
    struct watch *w = arg;
    struct docker_pool *pool = docker_pool_new();
    struct raw_event raw = {.attributes = {0}};
    int rc = docker_read_object(json, event_fields, &raw, pool, err);
    /* Every health check is three events of exec: they would drown the rest. */
    if (rc == 0 && strncmp(raw.e.action, "exec_", 5) != 0) {
        raw.e.attributes = &raw.attributes;
        rc = w->fn(w->arg, &raw.e);
        if (rc < 0)
            err_set(err, (enum err_code) - rc, "events given up");
    }
    docker_pool_free(pool);
    return rc;
}

static int read_events(struct http_exchange *x, struct watch *w, usec_t deadline, struct err *err)
{
    struct docker_records records = {0};
    char piece[4096];
    size_t n = 0;
    int rc;
    do {
        rc = http_read(x, piece, sizeof(piece), deadline, &n, err);
        if (rc == 0 && n == 0)
            rc = err_set(err, ERR_UNAVAILABLE, "the Docker Engine ended its stream of events");
        if (rc == 0)
            rc = docker_records_feed(&records, (struct str){piece, n}, on_record, w, err);
    } while (rc == 0);
    buf_release(&records.pending);
    return rc;
}

int docker_events(struct docker *d, const char *label, uint64_t since_ns, docker_event_fn *fn, void *arg, usec_t deadline,
                  struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    const unsigned long long s = 1000000000;
    int rc = buf_append_cstr(&path, "/events?");
    if (rc == 0 && since_ns)
        rc = buf_printf(&path, "since=%llu.%09llu&", since_ns / s, since_ns % s);
    if (rc == 0)
        rc = docker_write_filters(&path, &label, 1, "container");
    if (rc < 0)
        return err_set(err, ERR_INVALID, "label too long");
    struct http_exchange *x = NULL;
    struct http_request req = {.method = "GET", .target = buf_cstr(&path)};
    rc = docker_request(d, &req, deadline, &x, err);
    if (rc < 0)
        return rc;
    struct watch w = {fn, arg};
    rc = docker_status(x, deadline, err);
    if (rc == 0)
        rc = read_events(x, &w, deadline, err);
    http_finish(x);
    return docker_note(d, rc);
}
