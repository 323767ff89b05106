/* SPDX-License-Identifier: Apache-2.0 */
/* ingress — see ingress.h: the table in memory, and whose turn it is. */
#include "host/reach/ingress.h"

#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "host/reach/ingress_internal.h"

/* HAProxy's account where the agent is root: a number that no distribution gives to anybody. */
enum { NOBODY_ELSE = 65080 };
#define DRAIN_STEP (50 * USEC_MSEC)
#define MEND_AFTER USEC_SEC

struct ingress *ingress_new(const struct ingress_config *config)
{
    struct ingress *in = NEW(struct ingress);
    bool root = geteuid() == 0;
    *in = (struct ingress){.loop = config->loop,
                           .docker = config->docker,
                           .server_id = str_dup(str_from(config->server_id)),
                           .folder = str_dup(str_from(config->folder)),
                           .image = str_dup(str_from(config->image)),
                           .listen = str_dup(str_from(config->listen)),
                           .uid = root ? NOBODY_ELSE : geteuid(),
                           .gid = root ? NOBODY_ELSE : getegid(),
                           .run_fd = -1};
    event_init(&in->turn, in->loop);
    return in;
}

void ingress_networks_by(struct ingress *in, ingress_network_fn *fn, void *arg)
{
    in->make_network = fn;
    in->network_arg = arg;
}

struct ingress *ingress_free(struct ingress *in)
{
    if (!in)
        return NULL;
    event_release(&in->turn);
    routes_release(&in->table);
    if (in->run_fd >= 0)
        (void)close(in->run_fd);
    free(in->server_id);
    free(in->folder);
    free(in->image);
    free(in->listen);
    free(in);
    return NULL;
}

/* --- Turns ---- */

static int take_turn(struct ingress *in, usec_t deadline, struct err *err)
{
    while (in->busy) {
        int rc = event_wait(&in->turn, deadline);
        if (rc < 0)
            return err_set(err, (enum err_code)-rc, "the ingress was busy with another change");
    }
    in->busy = true;
    in->unfetched = false;
    return 0;
}

static void end_turn(struct ingress *in)
{
    in->busy = false;
    event_pulse(&in->turn);
}

bool ingress_unfetched(const struct ingress *in)
{
    return in->unfetched;
}

/* Takes @next; it is the table after 0. */
static int become(struct ingress *in, struct routes next, bool look, usec_t deadline, struct err *err)
{
    int rc = ingress_apply(in, &next, look, deadline, err);
    struct routes *gone = rc == 0 ? &in->table : &next;
    routes_release(gone);
    if (rc == 0)
        in->table = next;
    return rc < 0 ? err_ensure(err, rc) : rc;
}

/* --- Calls ---- */

int ingress_set(struct ingress *in, const struct ingress_service *s, usec_t deadline, struct err *err)
{
    struct route *r = NULL;
    struct routes next = {0};
    int rc = route_new(s, &r, err);
    if (rc < 0)
        return rc;
    rc = take_turn(in, deadline, err);
    if (rc < 0) {
        (void)route_unref(r);
        return rc;
    }
    rc = routes_with(&in->table, r, &next, err);
    if (rc == 0)
        rc = become(in, next, false, deadline, err);
    end_turn(in);
    return rc;
}

int ingress_remove(struct ingress *in, const char *project, const char *service, usec_t deadline, struct err *err)
{
    int rc = take_turn(in, deadline, err);
    if (rc < 0)
        return rc;
    if (routes_find(&in->table, project, service))
        rc = become(in, routes_without(&in->table, project, service), false, deadline, err);
    end_turn(in);
    return rc;
}

int ingress_restore(struct ingress *in, const struct ingress_service *all, size_t n, usec_t deadline, struct err *err)
{
    struct routes next = {0};
    int rc = take_turn(in, deadline, err);
    if (rc < 0)
        return rc;
    if (!all)
        next = routes_without(&in->table, "", "");
    for (size_t i = 0; all && rc == 0 && i < n; i++) {
        struct route *r = NULL;
        struct routes more = {0};
        rc = route_new(&all[i], &r, err);
        if (rc == 0)
            rc = routes_with(&next, r, &more, err);
        if (rc == 0) {
            routes_release(&next);
            next = more;
        }
    }
    if (rc == 0)
        rc = become(in, next, true, deadline, err);
    else
        routes_release(&next);
    end_turn(in);
    return rc;
}

/* Does HAProxy not run at all? Its connections have ended with it then. @ret_again: but the engine is about to start it. */
static bool is_gone(struct ingress *in, bool *ret_again)
{
    struct docker_container c = {0};
    enum seat seat = SEAT_RUNS;
    int rc = ingress_seat(in, &seat, &c, deadline_in(INGRESS_CALL), NULL);
    bool gone = rc == 0 && (seat == SEAT_EMPTY || c.state != DOCKER_STATE_RUNNING);
    *ret_again = gone && seat != SEAT_EMPTY && c.state == DOCKER_STATE_RESTARTING;
    docker_container_release(&c);
    return gone;
}

int ingress_mend(struct ingress *in, usec_t deadline, struct err *err)
{
    bool again = false;
    /* One that has just crashed is the engine's to start, and is not to be ended again for that. */
    for (unsigned i = 0; i < 2; i++) {
        if (in->table.n == 0 || !is_gone(in, &again) || again)
            return 0;
        int rc = i == 0 ? fiber_sleep(MEND_AFTER) : 0;
        if (rc < 0)
            return err_set(err, (enum err_code)-rc, "nobody waits any more for the ingress");
    }
    return ingress_restore(in, NULL, 0, deadline, err);
}

int ingress_drained(struct ingress *in, const char *project, const char *service, const char *server, usec_t limit, unsigned *ret_left,
                    struct err *err)
{
    AUTO_FREE char *backend = str_printf("%s.%s", project, service);
    usec_t end = deadline_in(limit);
    bool again = false;
    *ret_left = 0;
    for (;;) {
        struct err why = ERR_INIT;
        int rc = ingress_load(in, backend, server, ret_left, &why);
        if (rc < 0 ? is_gone(in, &again) : *ret_left == 0) {
            *ret_left = 0;
            return 0;
        }
        if (clock_mono() >= end) {
            if (rc < 0 && err)
                *err = why;
            return rc;
        }
        rc = fiber_sleep(DRAIN_STEP);
        if (rc < 0)
            return err_set(err, (enum err_code)-rc, "nobody waits any more for %s", server);
    }
}

int ingress_owner(const struct ingress *in, const char *hostname, const char **ret_project, const char **ret_service)
{
    const struct route *r = routes_owner(&in->table, hostname);
    if (!r)
        return 1;
    *ret_project = r->project;
    *ret_service = r->service;
    return 0;
}
