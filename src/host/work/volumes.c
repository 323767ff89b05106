/* SPDX-License-Identifier: Apache-2.0 */
/* volumes — the calls about volumes of the engine: list, and removal of one by its full name. What is in a volume is gone with it, so one that a
 * container has in any state stays, and one that Davit did not make goes only where that is said. */
#include <string.h>

#include "host/work/answer.h"
#include "host/work/calls.h"

enum { NAMES_MAX = 16 };

/* Did this server's Davit make it? */
static bool made_here(const struct work *w, const struct docker_volume *v)
{
    const char *server = docker_map_get(&v->labels, LABEL_SERVER);

    return labels_ours(&v->labels, NULL, NULL) && server && strcmp(server, w->server_id) == 0;
}

static char *label_text(const struct docker_volume *v, const char *name, size_t *room)
{
    const char *value = docker_map_get(&v->labels, name);

    return answer_text(value ? value : "", room);
}

static bool has(const struct docker_summary *c, const char *volume)
{
    for (size_t i = 0; i < c->n_volumes; i++)
        if (strcmp(c->volumes[i], volume) == 0)
            return true;
    return false;
}

static Davit__Common__V1__Volume *volume_new(const struct work *w, const struct docker_volume *v, const struct docker_summaries *containers,
                                             size_t *room)
{
    Davit__Common__V1__Volume *m = NEW(Davit__Common__V1__Volume);

    davit__common__v1__volume__init(m);
    m->name = answer_text(v->name, room);
    m->created_us = engine_time(v->created);
    if (made_here(w, v)) {
        m->project = label_text(v, LABEL_PROJECT, room);
        m->service = label_text(v, LABEL_SERVICE, room);
        m->volume = label_text(v, LABEL_VOLUME, room);
    }
    for (size_t i = 0; i < containers->n; i++)
        if (has(&containers->items[i], v->name))
            answer_add(&m->used_by, &m->n_used_by, NAMES_MAX, containers->items[i].name, room);
    return m;
}

int call_volume_list(struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err)
{
    struct work *w = call_work(c);
    struct docker_summaries containers = {0};
    struct docker_volumes l = {0};
    size_t room = ANSWER_ROOM;

    (void)reason;
    int rc = docker_container_list(w->docker, NULL, 0, &containers, deadline_in(ENGINE_CALL), err);
    if (rc == 0)
        rc = docker_volume_list(w->docker, NULL, &l, deadline_in(ENGINE_CALL), err);
    if (rc == 0) {
        Davit__Link__V1__VolumeList *out = NEW(Davit__Link__V1__VolumeList);
        davit__link__v1__volume_list__init(out);
        out->volumes = mem_zalloc(l.n + 1, sizeof(*out->volumes));
        for (size_t i = 0; i < l.n && room > 0; i++)
            out->volumes[out->n_volumes++] = volume_new(w, &l.items[i], &containers, &room);
        out->truncated = out->n_volumes < l.n || l.incomplete;
        end->volume_list = out;
        end->result_case = DAVIT__LINK__V1__CALL_END__RESULT_VOLUME_LIST;
    }
    docker_volumes_release(&l);
    docker_summaries_release(&containers);
    return rc;
}

static int not_in_use(struct work *w, const char *volume, struct err *err)
{
    struct docker_summaries l = {0};
    AUTO_BUF names = BUF_INIT(ERR_MSG_MAX);
    int rc = docker_container_list(w->docker, NULL, 0, &l, deadline_in(ENGINE_CALL), err);

    for (size_t i = 0; rc == 0 && i < l.n; i++)
        if (has(&l.items[i], volume))
            answer_name(&names, l.items[i].name);
    docker_summaries_release(&l);
    if (rc < 0 || names.len == 0)
        return rc;
    (void)err_set(err, ERR_PRECONDITION, "volume %.200s is in use by %s", volume, buf_cstr(&names));
    err_hint(err, "remove these containers first");
    return -ERR_PRECONDITION;
}

static int find(struct work *w, const char *name, bool *ret_ours, struct err *err)
{
    struct docker_volumes l = {0};
    int rc = docker_volume_list(w->docker, NULL, &l, deadline_in(ENGINE_CALL), err);

    if (rc < 0)
        return rc;
    rc = 1;
    for (size_t i = 0; i < l.n && rc == 1; i++) {
        if (strcmp(l.items[i].name, name) != 0)
            continue;
        *ret_ours = made_here(w, &l.items[i]);
        rc = 0;
    }
    docker_volumes_release(&l);
    return rc == 0 ? 0 : err_set(err, ERR_NOT_FOUND, "there is no volume \"%.200s\" on this server", name);
}

int call_volume_remove(struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err)
{
    const Davit__Link__V1__VolumeRemoveCall *m = call_open_message(c)->volume_remove;
    struct work *w = call_work(c);
    bool mine = false;
    int rc = find(w, m->name, &mine, err);

    if (rc == 0 && !mine && !m->force) {
        *reason = "foreign";
        (void)err_set(err, ERR_PRECONDITION, "volume %.200s was not made by this server's Davit", m->name);
        err_hint(err, "with --force it is removed all the same");
        return -ERR_PRECONDITION;
    }
    if (rc == 0 && (rc = not_in_use(w, m->name, err)) == -ERR_PRECONDITION)
        *reason = "in_use";
    if (rc == 0)
        rc = docker_volume_remove(w->docker, m->name, false, deadline_in(2 * USEC_MINUTE), err);
    if (rc < 0)
        return rc;
    end->outcome = str_dup(rc == DOCKER_UNCHANGED ? STR("already removed") : STR("removed"));
    end->result_case = DAVIT__LINK__V1__CALL_END__RESULT_OUTCOME;
    return 0;
}
