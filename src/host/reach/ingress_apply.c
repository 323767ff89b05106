/* SPDX-License-Identifier: Apache-2.0 */
/* ingress_apply — from what HAProxy serves to what it shall serve, by the gentlest way that leads there: nothing, the runtime API, a reload, a start.
 * On disk stands at each moment a configuration that HAProxy has accepted, so that whatever ends and begins again begins with a good one. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "host/reach/ingress_internal.h"

/* What HAProxy's master is told while it begins anew is lost. */
#define RELOAD_AGAIN (3 * USEC_SEC)
#define POLL_STEP    (20 * USEC_MSEC)

/* One change. */
struct change {
    struct ingress *in;
    const struct routes *next;
    usec_t deadline;
    char generation[ROUTES_GENERATION_SIZE];
    struct docker_container seat;
    bool runs;
    struct buf before; /* the configuration that counted */
};

static usec_t earlier(usec_t a, usec_t b)
{
    return a < b ? a : b;
}

/* --- Loading ---- */

/* Until HAProxy has loaded @generation. @reload: it runs and must be told to. */
static int load(struct ingress *in, const char *generation, bool reload, usec_t deadline, struct err *err)
{
    usec_t end = earlier(deadline, deadline_in(INGRESS_LOAD)), again = 0;
    char loaded[ROUTES_GENERATION_SIZE];
    for (;;) {
        if (reload && clock_mono() >= again) {
            ingress_reload(in);
            again = deadline_in(RELOAD_AGAIN);
        }
        if (ingress_loaded(in, loaded, NULL) == 0 && strcmp(loaded, generation) == 0)
            return 0;
        if (clock_mono() >= end) {
            (void)err_set(err, ERR_PRECONDITION, "HAProxy did not load its configuration in time");
            ingress_last_words(in, INGRESS_CONTAINER, err);
            return -(int)ERR_PRECONDITION;
        }
        int rc = fiber_sleep(POLL_STEP);
        if (rc < 0)
            return rc;
    }
}

/* HAProxy goes back to what it served. */
static void roll_back(struct change *c)
{
    struct ingress *in = c->in;
    char generation[ROUTES_GENERATION_SIZE];
    usec_t deadline = deadline_in(INGRESS_CALL);
    in->generation[0] = '\0';
    if (c->before.len == 0 || routes_generation(buf_str(&c->before), generation) < 0 ||
        ingress_files_write(in, buf_str(&c->before), deadline, NULL) < 0)
        return;
    if (c->runs && load(in, generation, true, deadline, NULL) == 0)
        (void)str_copy(in->generation, sizeof(in->generation), str_from(generation));
}

/* --- Ways ---- */

/* Proposed, and accepted by HAProxy itself. */
static int propose(struct change *c, struct err *err)
{
    struct ingress *in = c->in;
    AUTO_BUF config = BUF_INIT(ROUTES_TEXT_MAX);
    AUTO_BUF map = BUF_INIT(ROUTES_TEXT_MAX);
    uint64_t now = clock_real();
    in->last_generation = now > in->last_generation ? now : in->last_generation + 1;
    (void)snprintf(c->generation, sizeof(c->generation), "%llx", (unsigned long long)in->last_generation);
    int rc = routes_config(c->next, c->generation, &config, err);
    if (rc == 0)
        rc = routes_map(c->next, &map, err);
    if (rc == 0)
        rc = ingress_files_propose(in, c->generation, buf_str(&config), buf_str(&map), c->deadline, err);
    if (rc == 0)
        rc = ingress_image(in, c->deadline, err);
    return rc < 0 ? rc : ingress_check(in, c->runs, c->deadline, err);
}

static int begin(struct change *c, struct err *err)
{
    struct ingress *in = c->in;
    int rc = c->runs ? 0 : ingress_remove_container(in, c->deadline, err);
    if (rc == 0)
        rc = c->runs ? ingress_join(in, &c->seat, c->next, c->deadline, err) : ingress_start(in, c->next, c->deadline, err);
    if (rc == 0)
        rc = load(in, c->generation, c->runs, c->deadline, err);
    if (rc < 0 && !c->runs)
        (void)ingress_remove_container(in, deadline_in(INGRESS_CALL), NULL);
    return rc;
}

/* A reload, or a start. */
static int anew(struct change *c, struct err *err)
{
    struct ingress *in = c->in;
    /* What was read already is what HAProxy accepted; on disk may stand by now what it could not be brought to. */
    int rc = c->before.len > 0 ? 0 : ingress_files_read(in, &c->before, c->deadline, err);
    if (rc == 0)
        rc = propose(c, err);
    if (rc < 0)
        return rc;
    rc = ingress_files_accept(in, c->deadline, err);
    if (rc == 0)
        rc = begin(c, err);
    if (rc < 0) {
        roll_back(c);
        return rc;
    }
    (void)str_copy(in->generation, sizeof(in->generation), str_from(c->generation));
    /* Workers that end go on with requests of their connections: they learn of what has changed. */
    for (size_t i = 0; i < c->next->n; i++) {
        const struct route *r = c->next->items[i];
        if (c->runs && routes_find(&in->table, r->project, r->service) != r)
            ingress_sync_old(in, r);
    }
    (void)ingress_files_tidy(in, c->generation, c->deadline, NULL); /* a map too many at worst */
    return 0;
}

/* The text of @next with the generation that is loaded, into @out. */
static int same_text(struct change *c, const char *generation, struct buf *out, bool *ret_same, struct err *err)
{
    int rc = routes_config(c->next, generation, out, err);
    if (rc == 0 && c->before.len == 0)
        rc = ingress_files_read(c->in, &c->before, c->deadline, err);
    *ret_same = rc == 0 && str_eq(buf_str(out), buf_str(&c->before));
    return rc;
}

/* Does HAProxy serve @next already? */
static bool is_served(struct change *c, const char *generation)
{
    AUTO_BUF text = BUF_INIT(ROUTES_TEXT_MAX);
    bool same = false;
    if (same_text(c, generation, &text, &same, NULL) < 0 || !same)
        return false;
    for (size_t i = 0; i < c->next->n; i++)
        if (ingress_verify(c->in, c->next->items[i], NULL) < 0)
            return false;
    return true;
}

/* Nothing but servers is different: on disk first, then in HAProxy. */
static int change_servers(struct change *c, struct err *err)
{
    struct ingress *in = c->in;
    AUTO_BUF text = BUF_INIT(ROUTES_TEXT_MAX);
    bool same = false;
    int rc = same_text(c, in->generation, &text, &same, err);
    if (rc == 0 && !same)
        rc = ingress_files_write(in, buf_str(&text), c->deadline, err);
    for (size_t i = 0; rc == 0 && i < c->next->n; i++)
        if (c->next->items[i] != in->table.items[i])
            rc = ingress_sync(in, c->next->items[i], err);
    return rc;
}

/* --- The whole ---- */

static int bring(struct change *c, bool look, struct err *err)
{
    struct ingress *in = c->in;
    enum seat seat = SEAT_EMPTY;
    char loaded[ROUTES_GENERATION_SIZE] = "";
    int rc = ingress_files_prepare(in, c->deadline, err);
    if (rc == 0)
        rc = ingress_seat(in, &seat, &c->seat, c->deadline, err);
    if (rc < 0)
        return rc;
    c->runs = seat == SEAT_RUNS;
    bool known = c->runs && ingress_loaded(in, loaded, NULL) == 0;
    if (known && (look || !*in->generation) && is_served(c, loaded)) {
        (void)str_copy(in->generation, sizeof(in->generation), str_from(loaded));
        return ingress_join(in, &c->seat, c->next, c->deadline, err);
    }
    if (known && !look && strcmp(loaded, in->generation) == 0 && routes_same_shape(&in->table, c->next) && change_servers(c, NULL) == 0)
        return 0;
    return fiber_cancelled() ? err_set(err, ERR_CANCELLED, "cancelled") : anew(c, err);
}

static int take_away(struct ingress *in, usec_t deadline, struct err *err)
{
    int rc = ingress_remove_container(in, deadline, err);
    in->generation[0] = '\0';
    if (rc == 0)
        rc = ingress_remove_network(in, deadline, err);
    if (rc == 0)
        rc = ingress_files_tidy(in, NULL, deadline, err);
    return rc;
}

int ingress_apply(struct ingress *in, const struct routes *next, bool look, usec_t deadline, struct err *err)
{
    if (next->n == 0)
        return take_away(in, deadline, err);
    struct change c = {.in = in, .next = next, .deadline = deadline, .before = BUF_INIT(ROUTES_TEXT_MAX)};
    int rc = bring(&c, look, err);
    /* It serves @next: a network too many is no reason to say otherwise, and is left with the next change. */
    if (rc == 0)
        (void)ingress_leave(in, next, deadline, NULL);
    buf_release(&c.before);
    docker_container_release(&c.seat);
    return rc;
}
