/* SPDX-License-Identifier: Apache-2.0 */
/* containers — start, stop, restart and removal of one container by its exact name or full id, also of one that Davit did not make. Volumes stay.
 * Containers of services have verbs of their own, and what Davit runs for itself is in nobody's way: both only by force. */
#include <string.h>

#include "host/work/calls.h"

enum { STOP_SECONDS = 10, STOP_SECONDS_MAX = 300 };

char *containers_service(const struct work *w, const struct docker_container *k)
{
    if (!labels_service(w, &k->labels))
        return NULL;
    const char *project = docker_map_get(&k->labels, LABEL_PROJECT), *service = docker_map_get(&k->labels, LABEL_SERVICE);
    return !project || strcmp(project, "default") == 0 ? str_dup(str_from(service)) : str_printf("%.64s/%.64s", project, service);
}

/* The engine also takes the beginning of an id: that is no name. */
static int find(struct work *w, const char *name, struct docker_container *ret, struct err *err)
{
    int rc = docker_container_inspect(w->docker, name, ret, deadline_in(ENGINE_CALL), err);

    if (rc == 0 && strcmp(ret->name, name) != 0 && strcmp(ret->id, name) != 0) {
        docker_container_release(ret);
        rc = -ERR_NOT_FOUND;
    }
    if (rc == -ERR_NOT_FOUND) {
        (void)err_set(err, ERR_NOT_FOUND, "there is no container \"%.200s\" on this server", name);
        err_hint(err, "a container is named in full: davit container ls --all");
    }
    return rc;
}

static int may(const struct work *w, const struct docker_container *k, const Davit__Link__V1__ContainerCall *m, const char **reason, struct err *err)
{
    bool remove = m->action == DAVIT__LINK__V1__CONTAINER_CALL__ACTION__ACTION_REMOVE;
    bool running = k->state == DOCKER_STATE_RUNNING || k->state == DOCKER_STATE_PAUSED || k->state == DOCKER_STATE_RESTARTING;

    if (m->force)
        return 0;
    if (*labels_role(w, &k->labels)) {
        *reason = "infrastructure";
        (void)err_set(err, ERR_PRECONDITION, "container %.200s is Davit's own %s", k->name, labels_role(w, &k->labels));
        bool sandbox = strcmp(labels_role(w, &k->labels), "sandbox") == 0;
        err_hint(err, "%s; with --force it is done all the same", sandbox ? "davit sandbox is for those" : "services would not be reached meanwhile");
        return -ERR_PRECONDITION;
    }
    if (labels_service(w, &k->labels)) {
        *reason = "service";
        (void)err_set(err, ERR_PRECONDITION, "container %.200s is of service %.64s of project %.64s", k->name,
                      docker_map_get(&k->labels, LABEL_SERVICE), docker_map_get(&k->labels, LABEL_PROJECT));
        err_hint(err, "davit start, stop, restart and rm are for services; with --force it is done all the same");
        return -ERR_PRECONDITION;
    }
    if (remove && running) {
        *reason = "running";
        (void)err_set(err, ERR_PRECONDITION, "container %.200s is running", k->name);
        err_hint(err, "stop it first, or remove it with --force");
        return -ERR_PRECONDITION;
    }
    return 0;
}

/* *ret: what was done, for people. */
static int act(struct work *w, const struct docker_container *k, const Davit__Link__V1__ContainerCall *m, const char **ret, struct err *err)
{
    unsigned stop = m->stop_timeout_s ? m->stop_timeout_s : STOP_SECONDS;
    int rc;

    if (stop > STOP_SECONDS_MAX)
        stop = STOP_SECONDS_MAX;
    usec_t stopped = deadline_in(stop * USEC_SEC + ENGINE_CALL);
    switch (m->action) {
    case DAVIT__LINK__V1__CONTAINER_CALL__ACTION__ACTION_START:
        rc = docker_container_start(w->docker, k->id, deadline_in(2 * USEC_MINUTE), err);
        *ret = rc == DOCKER_UNCHANGED ? "already running" : "started";
        return rc;
    case DAVIT__LINK__V1__CONTAINER_CALL__ACTION__ACTION_STOP:
        rc = docker_container_stop(w->docker, k->id, stop, stopped, err);
        *ret = rc == DOCKER_UNCHANGED ? "already stopped" : "stopped";
        return rc;
    case DAVIT__LINK__V1__CONTAINER_CALL__ACTION__ACTION_RESTART:
        *ret = "restarted";
        return docker_container_restart(w->docker, k->id, stop, clock_add(stopped, USEC_MINUTE), err);
    case DAVIT__LINK__V1__CONTAINER_CALL__ACTION__ACTION_REMOVE:
        rc = docker_container_remove(w->docker, k->id, m->force, false, deadline_in(2 * USEC_MINUTE), err);
        *ret = rc == DOCKER_UNCHANGED ? "already removed" : "removed";
        return rc;
    default: return err_set(err, ERR_UNIMPLEMENTED, "this agent does not know action %d", (int)m->action);
    }
}

/* Who stops a container of a service by force should not think that it lasts. */
static char *tell(const struct work *w, const struct docker_container *k, const Davit__Link__V1__ContainerCall *m, const char *done)
{
    AUTO_FREE char *service = m->action == DAVIT__LINK__V1__CONTAINER_CALL__ACTION__ACTION_STOP ? containers_service(w, k) : NULL;
    return service && strcmp(done, "stopped") == 0 ? str_printf("stopped; its agent starts it again; davit stop %s lasts", service)
                                                   : str_dup(str_from(done));
}

int call_container(struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err)
{
    const Davit__Link__V1__ContainerCall *m = call_open_message(c)->container;
    struct work *w = call_work(c);
    struct docker_container k = {0};
    const char *done = "";
    int rc = find(w, m->container, &k, err);

    if (rc == 0)
        rc = may(w, &k, m, reason, err);
    if (rc == 0)
        rc = act(w, &k, m, &done, err);
    if (rc >= 0)
        end->outcome = tell(w, &k, m, done);
    docker_container_release(&k);
    if (rc < 0)
        return rc;
    end->result_case = DAVIT__LINK__V1__CALL_END__RESULT_OUTCOME;
    return 0;
}
