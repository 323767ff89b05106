/* SPDX-License-Identifier: Apache-2.0 */
/* images — the calls about images of the engine: list, pull with the progress of each layer, comparison with the registry, removal.
 * One that a container has is never removed. */
#include <string.h>

#include "host/link/policy.h"
#include "host/work/answer.h"
#include "host/work/calls.h"

enum { LAYERS_MAX = 128, NAMES_MAX = 16 };
#define LAYER_EVERY (500 * USEC_MSEC) /* a layer's progress */
#define ANY_EVERY   (50 * USEC_MSEC)  /* that of all; ends of layers are told in any case */
#define PULL_TIME   (2 * USEC_HOUR)

/* --- List ---------------------------------------------------------------------------------------------------------------------------- */

static void fill_image(Davit__Common__V1__Image *m, const struct docker_image_summary *s, const struct docker_summaries *containers,
                       size_t *room)
{
    m->id = answer_text(s->id, room);
    m->bytes = s->size;
    m->created_us = s->created > 0 ? (uint64_t)s->created * USEC_SEC : 0;
    m->tags = answer_list(s->repo_tags, s->n_repo_tags, NAMES_MAX, &m->n_tags, room);
    m->digests = answer_list(s->repo_digests, s->n_repo_digests, NAMES_MAX, &m->n_digests, room);
    for (size_t i = 0; i < containers->n; i++)
        if (strcmp(containers->items[i].image_id, s->id) == 0)
            answer_add(&m->used_by, &m->n_used_by, NAMES_MAX, containers->items[i].name, room);
}

int call_image_list(struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err)
{
    struct work *w = call_work(c);
    struct docker_summaries containers = {0};
    struct docker_images l = {0};
    size_t room = ANSWER_ROOM;

    (void)reason;
    int rc = docker_container_list(w->docker, NULL, 0, &containers, deadline_in(ENGINE_CALL), err);
    if (rc == 0)
        rc = docker_image_list(w->docker, &l, deadline_in(ENGINE_CALL), err);
    if (rc == 0) {
        Davit__Link__V1__ImageList *out = NEW(Davit__Link__V1__ImageList);
        davit__link__v1__image_list__init(out);
        out->images = mem_zalloc(l.n + 1, sizeof(*out->images));
        for (size_t i = 0; i < l.n && room > 0; i++) {
            Davit__Common__V1__Image *m = NEW(Davit__Common__V1__Image);
            davit__common__v1__image__init(m);
            fill_image(m, &l.items[i], &containers, &room);
            out->images[out->n_images++] = m;
        }
        out->truncated = out->n_images < l.n;
        end->image_list = out;
        end->result_case = DAVIT__LINK__V1__CALL_END__RESULT_IMAGE_LIST;
    }
    docker_images_release(&l);
    docker_summaries_release(&containers);
    return rc;
}

/* --- Pull ---------------------------------------------------------------------------------------------------------------------------- */

struct layer {
    char id[16];
    usec_t told;
    bool done;
};

struct pulling {
    struct call *call;
    struct layer layers[LAYERS_MAX];
    size_t n;
    usec_t told;
};

static struct layer *layer_of(struct pulling *p, const char *id)
{
    for (size_t i = 0; i < p->n; i++)
        if (strncmp(p->layers[i].id, id, sizeof(p->layers[i].id) - 1) == 0)
            return &p->layers[i];
    if (p->n == LAYERS_MAX)
        return NULL;
    (void)str_copy(p->layers[p->n].id, sizeof(p->layers[0].id), str_from(id));
    return &p->layers[p->n++];
}

static void tell_layer(struct pulling *p, const struct layer *l, const struct docker_progress *pr)
{
    Davit__Common__V1__StepProgress m = DAVIT__COMMON__V1__STEP_PROGRESS__INIT;
    AUTO_FREE char *status = text_tail(str_from(pr->status), 64);
    bool sized = pr->total > 0 && pr->total < UINT64_MAX / 1024;
    uint64_t current = pr->current < pr->total ? pr->current : pr->total;
    AUTO_FREE char *message = sized ? str_printf("%s, %.1f of %.1f MB", status, (double)current / 1e6, (double)pr->total / 1e6)
                                    : str_printf("%s", status);
    AUTO_FREE char *id = text_tail(str_from(l->id), sizeof(l->id));

    m.step = id;
    m.state = l->done ? DAVIT__COMMON__V1__STEP_STATE__STEP_STATE_DONE : DAVIT__COMMON__V1__STEP_STATE__STEP_STATE_RUNNING;
    m.message = message;
    m.percent = l->done ? 100 : sized ? (uint32_t)(current * 100 / pr->total) : 0;
    m.index = (uint32_t)(l - p->layers) + 1;
    m.total = (uint32_t)p->n;
    call_progress(p->call, &m);
}

static int on_progress(void *arg, const struct docker_progress *pr)
{
    struct pulling *p = arg;
    usec_t now = clock_mono();

    if (fiber_cancelled())
        return -ERR_CANCELLED;
    if (!*pr->layer || str_starts(str_from(pr->status), STR("Pulling from")))
        return 0;
    struct layer *l = layer_of(p, pr->layer);
    if (!l || l->done)
        return 0;
    l->done = strcmp(pr->status, "Pull complete") == 0 || strcmp(pr->status, "Already exists") == 0;
    if (!l->done && l->told && (now < l->told + LAYER_EVERY || now < p->told + ANY_EVERY))
        return 0;
    l->told = p->told = now;
    tell_layer(p, l, pr);
    return 0;
}

static int may_pull(const struct work *w, const char *image, const char **reason, struct err *err)
{
    const struct policy_ask ask = {.image = image};

    return policy_check(w->policy, &ask, reason, err);
}

static const struct docker_auth *auth_from(const Davit__Common__V1__RegistryAuth *a, struct docker_auth *ret)
{
    if (!a)
        return NULL;
    *ret = (struct docker_auth){a->server, a->username, a->password};
    return ret;
}

static int take_slot(struct work *w, usec_t deadline, struct err *err)
{
    while (w->pulls >= WORK_PULLS_MAX) {
        int rc = event_wait(&w->pull_ended, deadline);
        if (rc == -ERR_DEADLINE)
            return err_set(err, ERR_DEADLINE, "other pulls did not end in time");
        if (rc < 0)
            return rc;
    }
    w->pulls++;
    return 0;
}

int call_image_pull(struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err)
{
    const Davit__Link__V1__ImagePullCall *m = call_open_message(c)->image_pull;
    struct work *w = call_work(c);
    usec_t deadline = deadline_in(PULL_TIME);
    char digest[DOCKER_DIGEST_SIZE];
    struct docker_auth auth;
    int rc = may_pull(w, m->image, reason, err);

    if (rc == 0)
        rc = take_slot(w, deadline, err);
    if (rc < 0)
        return rc;
    struct pulling *p = NEW(struct pulling);
    p->call = c;
    rc = docker_pull(w->docker, m->image, auth_from(m->registry_auth, &auth), on_progress, p, digest, deadline, err);
    free(p);
    w->pulls--;
    event_pulse(&w->pull_ended);
    if (rc < 0) {
        *reason = image_pull_reason(w, err);
        return rc;
    }
    end->image_digest = str_dup(str_from(digest));
    end->result_case = DAVIT__LINK__V1__CALL_END__RESULT_IMAGE_DIGEST;
    return 0;
}

/* --- Check --------------------------------------------------------------------------------------------------------------------------- */

const char *image_digest_from(const struct docker_image *m, const char *ref, const char *want)
{
    AUTO_FREE char *repository = NULL;
    const char *found = "";

    if (policy_image_name(ref, &repository, NULL) < 0)
        return "";
    for (size_t i = 0; i < m->n_repo_digests; i++) {
        const char *at = strchr(m->repo_digests[i], '@');
        AUTO_FREE char *name = NULL;
        if (!at || policy_image_name(m->repo_digests[i], &name, NULL) < 0 || strcmp(name, repository) != 0)
            continue;
        found = at + 1;
        if (strcmp(found, want) == 0)
            break;
    }
    return found;
}

int call_image_check(struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err)
{
    const Davit__Link__V1__ImageCheckCall *m = call_open_message(c)->image_check;
    struct work *w = call_work(c);
    struct docker_image image = {0};
    char remote[DOCKER_DIGEST_SIZE];
    struct docker_auth auth;
    size_t room = ANSWER_ROOM;
    int rc = may_pull(w, m->image, reason, err);

    if (rc < 0)
        return rc;
    rc = docker_image_remote(w->docker, m->image, auth_from(m->registry_auth, &auth), remote, deadline_in(USEC_MINUTE), err);
    if (rc < 0) {
        *reason = image_pull_reason(w, err);
        return rc;
    }
    rc = docker_image_inspect(w->docker, m->image, &image, deadline_in(ENGINE_CALL), err);
    if (rc < 0 && rc != -ERR_NOT_FOUND)
        return rc;
    Davit__Common__V1__ImageCheck *out = NEW(Davit__Common__V1__ImageCheck);
    davit__common__v1__image_check__init(out);
    out->local_digest = answer_text(rc == 0 ? image_digest_from(&image, m->image, remote) : "", &room);
    out->remote_digest = answer_text(remote, &room);
    out->differs = strcmp(out->local_digest, out->remote_digest) != 0;
    docker_image_release(&image);
    end->image_check = out;
    end->result_case = DAVIT__LINK__V1__CALL_END__RESULT_IMAGE_CHECK;
    return 0;
}

/* --- Remove -------------------------------------------------------------------------------------------------------------------------- */

static int not_in_use(struct work *w, const struct docker_image *m, const char *ref, struct err *err)
{
    struct docker_summaries l = {0};
    AUTO_BUF names = BUF_INIT(ERR_MSG_MAX);
    int rc = docker_container_list(w->docker, NULL, 0, &l, deadline_in(ENGINE_CALL), err);

    for (size_t i = 0; rc == 0 && i < l.n; i++)
        if (strcmp(l.items[i].image_id, m->id) == 0)
            answer_name(&names, l.items[i].name);
    docker_summaries_release(&l);
    if (rc < 0 || names.len == 0)
        return rc;
    (void)err_set(err, ERR_PRECONDITION, "image %.200s is in use by %s", ref, buf_cstr(&names));
    err_hint(err, "remove these containers first");
    return -ERR_PRECONDITION;
}

int call_image_remove(struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err)
{
    const char *ref = call_open_message(c)->image_remove->image;
    struct work *w = call_work(c);
    struct docker_image m = {0};
    int rc = docker_image_inspect(w->docker, ref, &m, deadline_in(ENGINE_CALL), err);

    if (rc == 0 && (rc = not_in_use(w, &m, ref, err)) == -ERR_PRECONDITION)
        *reason = "in_use";
    docker_image_release(&m);
    if (rc == 0)
        rc = docker_image_remove(w->docker, ref, false, deadline_in(2 * USEC_MINUTE), err);
    if (rc < 0)
        return rc;
    end->outcome = str_dup(STR("removed"));
    end->result_case = DAVIT__LINK__V1__CALL_END__RESULT_OUTCOME;
    return 0;
}
