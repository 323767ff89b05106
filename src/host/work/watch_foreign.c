/* SPDX-License-Identifier: Apache-2.0 */
/* watch_foreign — see watch_foreign.h. */
#include "host/work/watch_foreign.h"

#include <string.h>

enum { NAME_MAX_BYTES = 255, IMAGE_MAX_BYTES = 128, PORTS_MAX = 8 };

int foreign_exit_code(const char *status)
{
    static const char before[] = "Exited (";
    int64_t code = 0;

    if (strncmp(status, before, sizeof(before) - 1) != 0)
        return 0;
    struct str rest = str_from(status + sizeof(before) - 1);
    return str_to_i64(str_cut(&rest, ')'), INT32_MIN, INT32_MAX, &code) == 0 ? (int)code : 0;
}

static struct seen *seen_from(const struct work *w, const struct docker_summary *c)
{
    struct seen *s = NEW(struct seen);
    const char *role = labels_role(w, &c->labels);

    *s = (struct seen){
        .id = str_dup(str_from(c->id)),
        .name = text_tail(str_from(c->name), NAME_MAX_BYTES),
        .image = text_tail(str_from(c->image), IMAGE_MAX_BYTES),
        .project = str_dup(STR("")),
        .service = str_dup(STR("")),
        .deployment = str_dup(STR("")),
        .state = c->state,
        .health = c->health,
        .exit_code = foreign_exit_code(c->status),
        .ports = mem_zalloc(PORTS_MAX, sizeof(struct docker_binding)),
        .foreign = !*role,
        .role = role,
    };
    for (size_t i = 0; i < c->n_ports && s->n_ports < PORTS_MAX; i++) {
        if (c->ports[i].host_port == 0)
            continue;
        s->ports[s->n_ports] = c->ports[i];
        s->ports[s->n_ports].proto = str_dup(str_from(c->ports[i].proto));
        s->ports[s->n_ports++].host_ip = str_dup(str_from(c->ports[i].host_ip));
    }
    return s;
}

static void forget(struct hmap *foreign, struct seen *s, struct delta *d)
{
    (void)hmap_remove(foreign, str_from(s->id));
    delta_add(&d->removed, &d->n_removed, s->id);
    d->ours = d->ours || !s->foreign;
    seen_free(s);
}

void foreign_give_way(struct hmap *foreign, struct delta *d)
{
    struct hmap_entry *e = hmap_first(foreign);

    if (e)
        forget(foreign, hmap_value(e), d);
}

static void take(const struct work *w, struct hmap *foreign, size_t n_ours, const struct docker_summary *c, struct delta *d)
{
    struct seen *before = hmap_get(foreign, str_from(c->id)), *now;
    void *old = NULL;

    if (!before && n_ours + hmap_count(foreign) >= WORK_CONTAINERS_MAX)
        return;
    now = seen_from(w, c);
    bool same = before && seen_equal(before, now);
    if (hmap_put(foreign, str_from(now->id), now, &old) < 0) {
        seen_free(now);
        return;
    }
    now->listed = true;
    if (!same) {
        delta_add(&d->changed, &d->n_changed, now->id);
        d->ours = d->ours || !now->foreign;
    }
    seen_free(old);
}

void foreign_compare(const struct work *w, struct hmap *foreign, size_t n_ours, const struct docker_summaries *l, struct delta *d)
{
    struct hmap_entry *next;

    for (struct hmap_entry *e = hmap_first(foreign); e; e = hmap_next(e))
        ((struct seen *)hmap_value(e))->listed = false;
    /* What is gone goes first, so that it takes no room from what is there. */
    for (size_t i = 0; i < l->n; i++) {
        struct seen *s = hmap_get(foreign, str_from(l->items[i].id));
        if (s)
            s->listed = true;
    }
    for (struct hmap_entry *e = hmap_first(foreign); e; e = next) {
        struct seen *s = hmap_value(e);
        next = hmap_next(e);
        if (!s->listed)
            forget(foreign, s, d);
    }
    for (size_t i = 0; i < l->n; i++)
        if (*l->items[i].id && !labels_service(w, &l->items[i].labels))
            take(w, foreign, n_ours, &l->items[i], d);
}
