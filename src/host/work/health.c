/* SPDX-License-Identifier: Apache-2.0 */
/* health — is the new container fit to take over?  The container's own address is asked (HTTP, TCP), or the engine (HEALTHCHECK), or only
 * time (none).  Before the grace time is over failures do not count; a container that ends does, at once. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "host/work/deploy.h"
#include "loop/stream.h"
#include "net/http_client.h"
#include "spec/spec.h"

#define GRACE_POLL (250 * USEC_MSEC)

static int fail(struct health *h, const char *reason)
{
    h->d->reason = NULL;
    return deploy_reason(h->d, -ERR_PRECONDITION, reason);
}

/* "8080/tcp" -> 8080; 0 for what is not TCP. */
static uint16_t tcp_port(const char *text)
{
    struct str s = str_from(text);
    struct str digits = str_cut(&s, '/');
    uint64_t v = 0;

    if ((s.n > 0 && !str_eq(s, STR("tcp"))) || str_to_u64(digits, 65535, &v) < 0)
        return 0;
    return (uint16_t)v;
}

int deploy_port(struct deploy *d, uint32_t wanted, const char *what, uint16_t *ret, usec_t deadline, struct err *err)
{
    uint16_t port = (uint16_t)wanted;
    int rc = port == 0 ? deploy_image(d, deadline, err) : 0;

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < d->image.n_ports && port == 0; i++)
        port = tcp_port(d->image.ports[i]);
    for (size_t i = 0; i < d->spec->n_ports && port == 0; i++)
        if (strcmp(d->spec->ports[i]->protocol, "udp") != 0)
            port = (uint16_t)d->spec->ports[i]->container_port;
    *ret = port;
    if (port != 0)
        return 0;
    (void)err_set(err, ERR_INVALID, "the %s has no port, and the image exposes none", what);
    err_hint(err, "set the %s's port", what);
    return deploy_reason(d, -ERR_INVALID, "invalid");
}

static const char *address_of(const struct health *h, const struct docker_container *c)
{
    for (size_t i = 0; i < c->n_networks; i++)
        if (strcmp(c->networks[i].network, h->d->network) == 0)
            return c->networks[i].ipv4;
    return "";
}

/* Which failure it was: nobody listens, nobody answers in time, or something broke off. */
static const char *connect_reason(const struct err *err)
{
    return err->code == ERR_DEADLINE || err->sys == ETIMEDOUT ? "health_timeout" : "health_refused";
}

static int try_tcp(struct health *h, const char *addr, struct err *err)
{
    struct stream *s = NULL;
    int rc = stream_dial(h->d->w->loop, addr, deadline_in(h->timeout), &s, err);

    if (rc < 0) {
        h->why = connect_reason(err);
        return rc;
    }
    stream_close(s);
    return 0;
}

static int try_http(struct health *h, const char *addr, struct err *err)
{
    static const struct http_field fields[] = {{"user-agent", "davit-agent"}, {"accept", "*/*"}};
    const struct http_request req = {.method = "GET", .target = h->path, .fields = fields, .n_fields = ARRAY_LEN(fields)};
    struct http_client *client = http_client_new(h->d->w->loop, addr, addr, NULL);
    struct http_exchange *x = NULL;
    int rc = http_request(client, &req, deadline_in(h->timeout), &x, err);

    if (rc < 0) {
        h->why = err->code == ERR_INVALID ? "health_bad_status" : connect_reason(err);
    } else {
        int status = http_head(x)->status;
        if (status < 200 || status > 399) {
            h->why = "health_bad_status";
            rc = err_set(err, ERR_PRECONDITION, "GET %s answered %d", h->path, status);
        }
    }
    http_finish(x);
    http_client_free(client);
    return rc;
}

/* Did it end? A container that the engine restarts again and again has ended as well. */
static int check_runs(struct health *h, const struct docker_container *c, struct err *err)
{
    if (h->first) {
        /* What it did before this command is not held against it. */
        bool before = (h->d->ran >> (h->replica - 1) & 1) || !deploy_made(h->d, &c->labels, "create");
        h->restarts = before ? c->restart_count : 0;
        h->first = false;
    }
    if (c->state == DOCKER_STATE_RUNNING && c->restart_count <= h->restarts)
        return 0;
    if (c->state == DOCKER_STATE_RUNNING || (c->state == DOCKER_STATE_RESTARTING && c->exit_code == 0))
        (void)err_set(err, ERR_PRECONDITION, "the container ended and was restarted %u time%s", c->restart_count,
                      c->restart_count == 1 ? "" : "s");
    else if (c->oom_killed)
        (void)err_set(err, ERR_PRECONDITION, "the container ran out of memory and was killed (exit status %d)", c->exit_code);
    else
        (void)err_set(err, ERR_PRECONDITION, "the container ended with exit status %d", c->exit_code);
    if (c->oom_killed)
        err_hint(err, "raise the service's memory limit");
    return fail(h, "exited");
}

/* One look by the engine's own check. 1 healthy, 0 not yet. */
static int check_engine(struct health *h, const struct docker_container *c, struct err *err)
{
    switch (c->health) {
    case DOCKER_HEALTH_HEALTHY: return 1;
    case DOCKER_HEALTH_UNHEALTHY: {
        if (clock_mono() < h->grace_end) {
            job_note(h->job, 0, "not yet: the image's own check says unhealthy");
            return 0;
        }
        AUTO_FREE char *text = text_tail(str_from(c->health_log), 200);
        for (char *p = text; *p; p++)
            if (*p == '\n')
                *p = ' ';
        (void)err_set(err, ERR_PRECONDITION, "the image's own check says unhealthy: %s", text);
        return fail(h, "unhealthy");
    }
    case DOCKER_HEALTH_NONE:
        (void)err_set(err, ERR_PRECONDITION, "the container has no HEALTHCHECK of its own");
        return fail(h, "invalid");
    case DOCKER_HEALTH_STARTING: break;
    }
    job_note(h->job, 0, "starting");
    return 0;
}

/* One attempt over the network. 1 healthy, 0 not yet, negative: it has failed for good. */
static int check_network(struct health *h, const struct docker_container *c, struct err *err)
{
    struct err why = ERR_INIT;
    char addr[STREAM_ADDR_SIZE];
    const char *ip = address_of(h, c);
    int rc;

    if (!*ip) {
        h->why = "health_refused";
        rc = err_set(&why, ERR_UNAVAILABLE, "the container has no address yet");
    } else {
        (void)snprintf(addr, sizeof(addr), "%s:%u", ip, h->port);
        rc = h->kind == DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_HTTP ? try_http(h, addr, &why) : try_tcp(h, addr, &why);
    }
    if (fiber_cancelled())
        return -ERR_CANCELLED;
    if (rc == 0)
        return 1;
    if (clock_mono() < h->grace_end) {
        job_note(h->job, 0, "not yet: %s", why.msg);
        return 0;
    }
    h->failures++;
    job_note(h->job, 0, "attempt %u of %u: %s", h->failures, h->retries, why.msg);
    if (h->failures < h->retries)
        return 0;
    *err = why;
    err->code = ERR_PRECONDITION;
    (void)err_wrap(err, "the service did not become healthy");
    return fail(h, h->why);
}

static bool is_network(const struct health *h)
{
    return h->kind == DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_HTTP || h->kind == DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_TCP;
}

static int look(struct health *h, struct err *err)
{
    struct docker_container c = {0};
    AUTO_FREE char *name = deploy_name(h->d, h->replica);
    int rc = deploy_inspect(h->d, h->replica, &c, job_deadline(h->job), err);

    if (rc > 0)
        return err_set(err, ERR_ABORTED, "container %s was removed while it was being deployed", name);
    if (rc < 0)
        return rc;
    (void)str_copy(h->id, sizeof(h->id), str_from(c.id));
    h->started = engine_time(c.started);
    rc = check_runs(h, &c, err);
    if (rc == 0 && h->kind == DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_NONE)
        rc = clock_mono() >= h->grace_end;
    else if (rc == 0 && h->kind == DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_DOCKER)
        rc = check_engine(h, &c, err);
    else if (rc == 0 && clock_mono() >= h->due)
        rc = check_network(h, &c, err);
    docker_container_release(&c);
    return rc;
}

/* Until the next look. What happens to any container meanwhile ends the wait, for it may be this one that has ended; an attempt over the network
 * is made only when it is due. */
static int pause_until_next(struct health *h)
{
    usec_t now = clock_mono();
    usec_t wait = now < h->grace_end && h->interval > GRACE_POLL ? GRACE_POLL : h->interval;
    usec_t next = clock_add(now, wait > h->d->pause ? wait : h->d->pause);

    if (is_network(h) && now >= h->due)
        h->due = next;
    if (is_network(h))
        next = h->due;
    if (h->kind == DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_NONE && next > h->grace_end)
        next = h->grace_end;
    if (h->kind == DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_DOCKER)
        next = clock_add(now, USEC_SEC);
    int rc = watch_wait(h->d->w, next);
    if (rc == 0)
        return fiber_sleep(20 * USEC_MSEC); /* events come in groups */
    return rc == -ERR_DEADLINE ? 0 : rc;
}

void health_setup(struct health *h, struct deploy *d, struct job *job, usec_t now)
{
    const Davit__Common__V1__HealthCheck *c = d->spec->health;

    *h = (struct health){.d = d, .job = job, .kind = deploy_health(d), .path = SPEC_HEALTH_PATH, .first = true};
    h->interval = (c && c->interval_ms ? c->interval_ms : SPEC_INTERVAL_MS) * USEC_MSEC;
    h->timeout = (c && c->timeout_ms ? c->timeout_ms : SPEC_TIMEOUT_MS) * USEC_MSEC;
    h->retries = c && c->retries ? c->retries : SPEC_RETRIES;
    usec_t grace = (h->kind == DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_NONE ? SPEC_SETTLE_MS : SPEC_GRACE_MS) * USEC_MSEC;
    if (c && c->grace_ms)
        grace = c->grace_ms * USEC_MSEC;
    if (c && *c->path)
        h->path = c->path;
    h->grace_end = clock_add(now, grace);
}

/* Until it is healthy: 0; or has failed for good. */
static int wait_verdict(struct health *h, struct err *err)
{
    int rc = 0;

    while (rc == 0) {
        rc = look(h, err);
        if (rc != 0)
            break;
        if (clock_mono() >= job_deadline(h->job)) {
            rc = err_set(err, ERR_DEADLINE, "the service did not become healthy in time");
            return fail(h, "health_timeout");
        }
        rc = pause_until_next(h);
    }
    return rc < 0 ? rc : 0;
}

static void keep_log(struct deploy *d, unsigned replica)
{
    if (fiber_cancelled() || d->detail)
        return;
    AUTO_FREE char *name = deploy_name(d, replica);
    d->detail = log_tail(d->w, name, deadline_in(10 * USEC_SEC));
}

/* The replicas one after the other: they are of one kind, and while the first is looked at the others get ready as well. */
static int wait_each(struct deploy *d, struct job *job, unsigned first, unsigned last, struct err *err)
{
    struct health h;
    usec_t now = clock_mono();
    int rc = deploy_image(d, job_deadline(job), err);

    for (unsigned i = first; rc >= 0 && i <= last; i++) {
        if (d->scales && (d->ran >> (i - 1) & 1))
            continue;
        health_setup(&h, d, job, now);
        h.replica = i;
        if (is_network(&h))
            rc = deploy_port(d, d->spec->health->port, "health check", &h.port, job_deadline(job), err);
        if (rc >= 0)
            rc = wait_verdict(&h, err);
        if (rc < 0)
            keep_log(d, i);
        else
            routes_judged(d, i, h.id, h.started);
        if (rc >= 0 && last > first)
            job_note(job, i * 100 / last, "%u of %u healthy", i - first + 1, last - first + 1);
    }
    return rc;
}

int health_wait(struct deploy *d, struct job *job, unsigned replica, struct err *err)
{
    return wait_each(d, job, replica, replica, err);
}

/* Those that were healthy first may have ended while the last ones were waited for. */
static int still_run(struct deploy *d, struct job *job, struct err *err)
{
    int rc = 0;

    for (unsigned i = 1; rc == 0 && i < d->replicas; i++) {
        struct docker_container c = {0};
        rc = deploy_inspect(d, i, &c, job_deadline(job), err);
        if (rc > 0 || (rc == 0 && c.state != DOCKER_STATE_RUNNING)) {
            rc = err_set(err, ERR_PRECONDITION, "container %u of %u has ended again", i, d->replicas);
            (void)deploy_reason(d, rc, "exited");
            keep_log(d, i);
        }
        docker_container_release(&c);
    }
    return rc;
}

int step_health(struct job *job, void *ctx, struct err *err)
{
    struct deploy *d = ctx;
    int rc = deploy_count(d, job_deadline(job), err);

    if (rc >= 0)
        rc = wait_each(d, job, 1, d->replicas, err);
    return rc >= 0 ? still_run(d, job, err) : rc;
}
