/* SPDX-License-Identifier: Apache-2.0 */
/* box_watch — what the engine says about the containers of sandboxes: its event stream tells which to look at, a list at each new stream and now and
 * then finds what events lost. Whoever started a container, the engine itself after a reboot or a restart policy: it gets its session. */
#include "host/contain/contain_internal.h"

#include <string.h>

#include "base/log.h"

#define RESYNC     (30 * USEC_SEC)
#define RETRY_BASE (200 * USEC_MSEC)
#define RETRY_CAP  (10 * USEC_SEC)
#define FILTER     LABEL_PURPOSE "=sandbox"
#define ENGINE_FILE "engine"

enum { ENGINE_ID_MAX = 256 };

static bool is_ours(const struct contain *k, const struct docker_map *labels)
{
    const char *managed = docker_map_get(labels, LABEL_MANAGED), *server = docker_map_get(labels, LABEL_SERVER);
    const char *id = docker_map_get(labels, LABEL_SANDBOX), *purpose = docker_map_get(labels, LABEL_PURPOSE);
    const char *service = docker_map_get(labels, LABEL_SERVICE);

    /* A service's image may bring the labels of a sandbox. */
    if ((service && *service) || !purpose || strcmp(purpose, "sandbox") != 0)
        return false;
    return managed && strcmp(managed, "true") == 0 && server && strcmp(server, k->w->server_id) == 0 && id && str_is_label(str_from(id));
}

static bool runs(const struct box *b)
{
    return b->engine == DOCKER_STATE_RUNNING;
}

/* A new life of its container. */
static void begin_life(struct box *b, usec_t started)
{
    b->engine_started = started;
    b->ready = b->failed = b->again = false;
    b->started = 0;
    b->exit_code = 0;
    b->oom_killed = false;
    b->step[0] = '\0';
    b->step_index = b->step_total = 0;
    box_state(b, STATE(STARTING), "", NULL);
}

static void note_network(struct box *b, const struct docker_container *c)
{
    b->ip[0] = b->network[0] = '\0';
    for (size_t i = 0; i < c->n_networks; i++) {
        if (!*c->networks[i].ipv4)
            continue;
        (void)str_copy(b->ip, sizeof(b->ip), str_from(c->networks[i].ipv4));
        (void)str_copy(b->network, sizeof(b->network), str_from(c->networks[i].network));
        return;
    }
}

static void take(struct box *b, const struct docker_container *c)
{
    usec_t started = engine_time(c->started);
    bool ran = runs(b);

    b->listed = true;
    b->engine = c->state;
    b->created = engine_time(c->created);
    note_network(b, c);
    if (runs(b) && (!ran || started != b->engine_started))
        begin_life(b, started);
    if (!runs(b) && (ran || b->state == STATE(CREATING)) && started != 0) {
        b->exit_code = c->exit_code;
        b->oom_killed = c->oom_killed;
        b->session = false;
        box_state(b, STATE(STOPPED), b->failed ? b->reason : "", b->failed ? b->message : c->error);
    }
    if (runs(b))
        keeper_start(b);
}

/* Waits: whether @id is, or becomes, the container of @b: another one does not as long as its own is there. */
static int claim(struct box *b, const char *id, struct err *err)
{
    const char *before = *b->container ? b->container : b->kept;
    struct docker_container own = {0};

    if (*before && strcmp(before, id) != 0) {
        int rc = docker_container_inspect(b->k->w->docker, before, &own, deadline_in(ENGINE_CALL), NULL);
        docker_container_release(&own);
        if (rc == 0)
            log_event(LOG_WARN, "a container says that it is a sandbox that has another", "sandbox", b->id, "container", id, NULL);
        if (rc != -ERR_NOT_FOUND)
            return err_set(err, ERR_NOT_FOUND, "the sandbox has another container");
    }
    return b->gone ? err_set(err, ERR_NOT_FOUND, "the sandbox is gone") : box_set_container(b, id, err);
}

/* Looks at the container @name. */
static int look(struct contain *k, const char *name, struct err *err)
{
    struct docker_container c = {0};
    int rc = docker_container_inspect(k->w->docker, name, &c, deadline_in(ENGINE_CALL), err);

    if (rc == 0 && is_ours(k, &c.labels)) {
        struct box *b = box_get(k, docker_map_get(&c.labels, LABEL_SANDBOX));
        if (b) {
            (void)box_ref(b);
            rc = claim(b, c.id, err);
            if (rc == 0 && !b->gone)
                take(b, &c);
            box_unref(b);
        }
    }
    docker_container_release(&c);
    return rc;
}

int box_look(struct box *b, struct err *err)
{
    return look(b->k, b->container, err);
}

/* It is gone, and not by a command of ours: what was kept of it goes too. */
static void forget(struct box *b)
{
    struct err err = ERR_INIT;

    (void)box_ref(b);
    if (box_forget(b, &err) < 0)
        log_err(LOG_WARN, &err, "what was kept of a sandbox that is gone stays on disk", "sandbox", b->id, NULL);
    b->state = STATE(REMOVED);
    box_tell(b);
    box_drop(b);
    box_unref(b);
}

/* One that a command makes has no container yet, or no steps behind it. */
static bool is_busy(const struct contain *k, const struct box *b)
{
    struct command *c;

    list_each (c, &k->w->commands, struct command, node)
        if (!*c->project && strcmp(c->service, b->id) == 0)
            return true;
    return false;
}

static struct box *find_lost(struct contain *k)
{
    for (struct hmap_entry *e = hmap_first(k->boxes); e; e = hmap_next(e)) {
        struct box *b = hmap_value(e);
        if (!b->listed && !is_busy(k, b))
            return b;
    }
    return NULL;
}

/* Waits: is it the engine that what is kept is about? 1, 0, or negative. With nothing lost it is from now on. */
static int same_engine(struct contain *k, struct err *err)
{
    AUTO_BUF kept = BUF_INIT(ENGINE_ID_MAX);
    struct docker_info info = {0};
    struct err unread = ERR_INIT;
    bool same = false;
    int rc = docker_info_get(k->w->docker, &info, deadline_in(ENGINE_CALL), err);

    if (rc == 0) {
        int found = contain_read(k, ENGINE_FILE, &kept, &unread);
        same = found == 0 && strcmp(buf_cstr(&kept), info.id) == 0;
        if (!same && (found == -ERR_NOT_FOUND || !find_lost(k))) {
            rc = contain_write(k, ENGINE_FILE, info.id, strlen(info.id), err);
            same = true;
        }
    }
    docker_info_release(&info);
    return rc < 0 ? rc : same;
}

/* Waits. What another engine does not list may be where it was: it stays until somebody removes it, and nobody is told that it is gone. */
static int sweep(struct contain *k, struct err *err)
{
    struct box *lost = find_lost(k);
    int rc = lost || !k->engine_known ? same_engine(k, err) : 1;

    if (rc < 0)
        return rc;
    k->engine_known = rc > 0;
    k->watched = k->watched && k->engine_known;
    if (!k->engine_known && !k->engine_other)
        log_event(LOG_WARN, "this is not the engine that sandboxes were made in: what is known of them is kept until they are removed", NULL);
    k->engine_other = !k->engine_known;
    while (k->engine_known && (lost = find_lost(k)) != NULL)
        forget(lost);
    return 0;
}

static int resync(struct contain *k, struct err *err)
{
    AUTO_FREE char *server = str_printf(LABEL_SERVER "=%s", k->w->server_id);
    const char *labels[] = {FILTER, server};
    struct docker_summaries l = {0};

    /* Before the list: one that is made from here on is seen by whoever makes it. */
    for (struct hmap_entry *e = hmap_first(k->boxes); e; e = hmap_next(e))
        ((struct box *)hmap_value(e))->listed = false;
    int rc = docker_container_list(k->w->docker, labels, ARRAY_LEN(labels), &l, deadline_in(ENGINE_CALL), err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < l.n && rc >= 0; i++) {
        rc = look(k, l.items[i].id, err);
        if (rc == -ERR_NOT_FOUND)
            rc = 0;
    }
    docker_summaries_release(&l);
    return rc < 0 ? rc : sweep(k, err);
}

/* Sandboxes that run already may have something to ask. */
static void listen_again(struct contain *k)
{
    struct docker_networks l = {0};
    struct err err = ERR_INIT;
    char at[64];
    int rc = hmap_count(k->boxes) == 0 || contact_roots(k->contact).n == 0
                 ? 1
                 : docker_network_list(k->w->docker, LABEL_PURPOSE "=sandbox", &l, deadline_in(ENGINE_CALL), &err);

    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        const struct docker_network *n = &l.items[i];
        if (!*n->gateway || (strcmp(n->name, CONTAIN_NET) != 0 && strcmp(n->name, CONTAIN_OPEN) != 0))
            continue;
        rc = place_in(k, n->name, n->subnet, n->gateway, at, deadline_in(ENGINE_CALL), &err);
        if (rc == 0)
            rc = relay_listen(k, at, &err);
    }
    for (size_t i = 0; rc == 0 && i < l.n; i++)
        if (strcmp(l.items[i].name, CONTAIN_NET) == 0)
            fence_raise(k, l.items[i].id, l.items[i].gateway);
    docker_networks_release(&l);
    k->listens = rc == 0;
    if (rc < 0)
        log_err(LOG_WARN, &err, "sandboxes cannot register", NULL);
}

/* --- The count ---- */

static int count(struct contain *k, uint32_t *ret, struct err *err)
{
    AUTO_FREE char *server = str_printf(LABEL_SERVER "=%s", k->w->server_id);
    const char *labels[] = {LABEL_MANAGED "=true", FILTER, server};
    struct docker_summaries l = {0};
    int rc = docker_container_list(k->w->docker, labels, ARRAY_LEN(labels), &l, deadline_in(ENGINE_CALL), err);

    *ret = 0;
    for (size_t i = 0; rc == 0 && i < l.n; i++)
        *ret += l.items[i].state == DOCKER_STATE_RUNNING || l.items[i].state == DOCKER_STATE_PAUSED || l.items[i].state == DOCKER_STATE_RESTARTING;
    docker_summaries_release(&l);
    return rc;
}

static void count_main(void *arg)
{
    struct contain *k = arg;
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__SandboxCounted answer = DAVIT__LINK__V1__SANDBOX_COUNTED__INIT;
    Davit__Common__V1__Failure failure = DAVIT__COMMON__V1__FAILURE__INIT;
    struct err err = ERR_INIT;

    answer.request_id = k->count_id;
    if (count(k, &answer.running, &err) < 0) {
        failure.code = (uint32_t)err.code;
        failure.message = err.msg;
        answer.failure = &failure;
    } else if (answer.running != k->count_known && k->watched) {
        boxes_tell(k);
    }
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_SANDBOX_COUNTED;
    m.sandbox_counted = &answer;
    work_send(k->w, &m);
    k->counting = false;
}

void box_count(struct contain *k, const Davit__Link__V1__SandboxCount *m)
{
    k->count_id = m->request_id;
    k->count_known = m->known;
    if (!k->counting)
        k->counting = work_spawn(k->w, "sandbox-count", count_main, k) != NULL;
}

static int on_event(void *arg, const struct docker_event *e)
{
    struct contain *k = arg;
    struct err err = ERR_INIT;
    const char *id = docker_map_get(e->attributes, LABEL_SANDBOX);
    struct box *b = id ? box_find(k, id) : NULL;

    if (strcmp(e->action, "destroy") == 0 && b && strcmp(b->container, e->id) == 0 && !is_busy(k, b)) {
        forget(b);
        return 0;
    }
    if (is_ours(k, e->attributes) && look(k, e->id, &err) < 0 && err.code != ERR_NOT_FOUND)
        return -(int)err.code;
    return fiber_cancelled() ? -ERR_CANCELLED : 0;
}

static void watch_main(void *arg)
{
    struct contain *k = arg;
    unsigned failed = 0;

    while (!fiber_cancelled()) {
        struct err err = ERR_INIT;
        uint64_t now = clock_real() * 1000;
        int rc = resync(k, &err);
        if (rc == 0 && !k->watched && k->engine_known) {
            k->watched = true;
            boxes_tell(k);
        }
        if (rc == 0)
            place_join(k);
        if (rc == 0 && !k->listens)
            listen_again(k);
        else if (rc == 0)
            fence_keep(k);
        contact_refresh(k);
        /* Its end is the time for the next list. */
        if (rc == 0)
            rc = docker_events(k->w->docker, FILTER, now, on_event, k, deadline_in(RESYNC), &err);
        failed = rc == 0 || rc == -ERR_DEADLINE ? 0 : failed + 1;
        if (failed)
            k->engine_known = false; /* another may come in its place */
        if (failed && !fiber_cancelled())
            (void)fiber_sleep(backoff_wait(failed < 8 ? failed : 8, RETRY_BASE, RETRY_CAP));
    }
}

void box_watch_start(struct contain *k)
{
    BUG_ON(!work_spawn(k->w, "sandbox-watch", watch_main, k));
}
