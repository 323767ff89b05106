/* SPDX-License-Identifier: Apache-2.0 */
/* watch_kept — see watch_kept.h. */
#include "control/watch/watch_kept.h"

#include "base/mem.h"
#include "control/lists.h"
#include "control/servers/status.h"

enum { YIELD_EVERY = 256, RSS_STEP = 256 * 1024, WIRE_MAX = 64 * 1024 * 1024 };
/* Between two readings; and how long the overview stands although nothing changed, for it tells our memory as well. */
#define READ_EVERY     (250 * USEC_MSEC)
#define RETRY_EVERY    (2 * USEC_SEC)
#define OVERVIEW_EVERY (10 * USEC_SEC)

static void service_free(struct service_kept *s)
{
    list_remove(&s->changed.node);
    (void)rpc_message_free(s->m);
    free(s);
}

static void drop_services(struct kept *k)
{
    if (!k->services)
        return;
    for (struct hmap_entry *e = hmap_first(k->services); e; e = hmap_next(e))
        service_free(hmap_value(e));
    k->services = hmap_free(k->services);
    k->services_read = false;
}

static void drop_overview(struct kept *k)
{
    (void)rpc_message_free(k->overview);
    k->overview = NULL;
}

static void note_gone(struct kept *k, const Davit__Control__V1__Service *m)
{
    struct gone *g = changes_gone(&k->c->changes, &k->gone);
    (void)str_copy(g->id, sizeof(g->id), str_from(m->server_id));
    (void)str_copy(g->project, sizeof(g->project), str_from(m->project));
    (void)str_copy(g->name, sizeof(g->name), str_from(m->name));
}

static uint64_t hash_of(const Davit__Control__V1__Service *m)
{
    AUTO_BUF wire = BUF_INIT(WIRE_MAX);
    return rpc_pack(&m->base, &wire) == 0 ? hash_bytes(wire.data, wire.len) : 0;
}

/* Takes @m over. */
static void keep(struct kept *k, Davit__Control__V1__Service *m)
{
    AUTO_FREE char *key = str_printf("%s/%s", m->project, m->name);
    struct service_kept *s = hmap_get(k->services, str_from(key));
    uint64_t hash = hash_of(m);
    if (!s) {
        s = NEW(struct service_kept);
        list_init(&s->changed.node);
        if (hmap_put(k->services, str_from(key), s, NULL) != 0) {
            (void)rpc_message_free(m);
            free(s);
            return;
        }
    } else if (s->hash == hash) {
        s->round = k->round;
        (void)rpc_message_free(m);
        return;
    } else if (!str_eq(str_from(s->m->server_id), str_from(m->server_id))) {
        note_gone(k, s->m); /* who looks at the other server only */
    }
    (void)rpc_message_free(s->m);
    s->m = m;
    s->hash = hash;
    s->round = k->round;
    changes_put(&k->c->changes, &k->order, &s->changed);
}

static void sweep(struct kept *k)
{
    struct hmap_entry *e = hmap_first(k->services);
    while (e) {
        struct hmap_entry *next = hmap_next(e);
        struct service_kept *s = hmap_value(e);
        if (s->round != k->round) {
            note_gone(k, s->m);
            (void)hmap_remove(k->services, hmap_key(e));
            service_free(s);
        }
        e = next;
    }
}

static int read_services(struct kept *k, struct err *err)
{
    Davit__Control__V1__ListServicesResponse *m = NULL;
    uint64_t at = k->c->changes.work;
    int rc = lists_read_services(k->c, NULL, NULL, &m, err);
    if (rc < 0)
        return rc;
    if (!k->services)
        k->services = hmap_new(LISTS_SERVICES_MAX);
    k->round++;
    size_t n = m->n_services;
    m->n_services = 0;
    for (size_t i = 0; i < n; i++) {
        keep(k, m->services[i]);
        if (i % YIELD_EVERY == YIELD_EVERY - 1)
            (void)fiber_yield(); /* nobody cancels this fiber */
    }
    (void)rpc_message_free(m);
    sweep(k);
    k->services_at = at;
    k->services_read = true;
    changes_pulse(&k->c->changes); /* somebody may wait for them although nothing changed */
    return 0;
}

/* Of all but our memory, which is another at every look. */
static uint64_t hash_of_overview(Davit__Control__V1__GetStatusResponse *m)
{
    AUTO_BUF wire = BUF_INIT(WIRE_MAX);
    uint64_t rss = m->rss_bytes;
    m->rss_bytes = 0;
    uint64_t hash = rpc_pack(&m->base, &wire) == 0 ? hash_bytes(wire.data, wire.len) : 0;
    m->rss_bytes = rss;
    return hash;
}

static bool same(const struct kept *k, const Davit__Control__V1__GetStatusResponse *m, uint64_t hash)
{
    uint64_t before = k->overview ? k->overview->rss_bytes : 0;
    uint64_t moved = before > m->rss_bytes ? before - m->rss_bytes : m->rss_bytes - before;
    return k->overview && hash == k->overview_hash && moved < RSS_STEP;
}

static int read_overview(struct kept *k, struct err *err)
{
    Davit__Control__V1__GetStatusResponse m;
    ProtobufCMessage *copy = NULL;
    uint64_t at = k->c->changes.work;
    int rc = status_read(k->c, &m, err);
    if (rc < 0)
        return rc;
    k->overview_at = at;
    k->overview_read = clock_mono();
    uint64_t hash = hash_of_overview(&m);
    if (same(k, &m, hash))
        return 0;
    rc = rpc_copy(&m.base, &copy);
    if (rc < 0)
        return err_ensure(err, rc);
    drop_overview(k);
    k->overview = (Davit__Control__V1__GetStatusResponse *)copy;
    k->overview_hash = hash;
    k->overview_seq = ++k->c->changes.seq;
    changes_pulse(&k->c->changes);
    return 0;
}

static bool services_old(const struct kept *k)
{
    return k->users[KEPT_SERVICES] && (!k->services_read || k->services_at < k->c->changes.work);
}

static bool overview_old(const struct kept *k)
{
    bool old = !k->overview || k->overview_at < k->c->changes.work || clock_mono() >= k->overview_read + OVERVIEW_EVERY;
    return k->users[KEPT_OVERVIEW] && old;
}

static void reading(void *arg)
{
    struct kept *k = arg;
    struct control *c = k->c;
    int rc = 0;
    while (rc != -(int)ERR_CANCELLED && !c->stopping && (k->users[KEPT_SERVICES] || k->users[KEPT_OVERVIEW])) {
        struct err err = ERR_INIT;
        event_reset(&k->news);
        if (!k->users[KEPT_SERVICES])
            drop_services(k);
        rc = services_old(k) ? read_services(k, &err) : 0;
        if (rc == 0 && overview_old(k))
            rc = read_overview(k, &err);
        k->failure = err;
        if (rc < 0)
            changes_pulse(&c->changes);
        if (fiber_sleep(rc < 0 ? RETRY_EVERY : READ_EVERY) < 0)
            break;
        if (rc == 0 && !services_old(k) && !overview_old(k) && event_wait(&k->news, deadline_in(OVERVIEW_EVERY)) == -(int)ERR_CANCELLED)
            break;
    }
    drop_services(k);
    drop_overview(k);
    changes_unwatch(&k->watcher);
    k->running = false;
    control_fiber_end(c);
}

static void on_change(struct change_watcher *w)
{
    struct kept *k = CONTAINER_OF(w, struct kept, watcher);
    if (services_old(k) || overview_old(k))
        event_signal(&k->news);
}

struct kept *kept_new(struct control *c)
{
    struct kept *k = NEW(struct kept);
    k->c = c;
    k->watcher.turn = on_change;
    list_init(&k->watcher.node);
    list_init(&k->order);
    event_init(&k->news, c->loop);
    return k;
}

struct kept *kept_free(struct kept *k)
{
    if (!k)
        return NULL;
    drop_services(k);
    drop_overview(k);
    event_release(&k->news);
    free(k);
    return NULL;
}

void kept_stopping(struct kept *k)
{
    event_signal(&k->news);
}

int kept_hold(struct kept *k, enum kept_what what)
{
    k->users[what]++;
    event_signal(&k->news);
    if (k->running)
        return 0;
    int rc = control_fiber(k->c, "watch-kept", reading, k);
    if (rc < 0) {
        k->users[what]--;
        return rc;
    }
    k->running = true;
    k->failure = ERR_INIT;
    changes_watch(&k->c->changes, &k->watcher);
    return 0;
}

void kept_let(struct kept *k, enum kept_what what)
{
    k->users[what]--;
    event_signal(&k->news);
}

int kept_services(const struct kept *k, struct err *err)
{
    if (k->services_read)
        return 0;
    if (k->failure.code == ERR_OK)
        return 1;
    *err = k->failure;
    return -(int)k->failure.code;
}

const Davit__Control__V1__GetStatusResponse *kept_overview(const struct kept *k, uint64_t *ret_seq)
{
    *ret_seq = k->overview_seq;
    return k->overview;
}
