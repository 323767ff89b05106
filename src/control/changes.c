/* SPDX-License-Identifier: Apache-2.0 */
/* changes — see changes.h. */
#include "control/changes.h"

static void on_tick(void *arg)
{
    struct changes *ch = arg;
    struct change_watcher *w;
    ch->ticked = clock_mono();
    list_each(w, &ch->watchers, struct change_watcher, node)
        w->turn(w);
}

void changes_init(struct changes *ch, struct loop *loop)
{
    ch->loop = loop;
    list_init(&ch->servers);
    list_init(&ch->sampled);
    list_init(&ch->sandboxes);
    list_init(&ch->watchers);
    timer_init(&ch->tick, loop, on_tick, ch);
}

void changes_release(struct changes *ch)
{
    timer_stop(&ch->tick);
}

void changes_pulse(struct changes *ch)
{
    if (list_empty(&ch->watchers) || timer_armed(&ch->tick))
        return;
    timer_set_at(&ch->tick, ch->ticked ? ch->ticked + CHANGES_EVERY : clock_mono());
}

void changes_put(struct changes *ch, struct list *list, struct change *c)
{
    c->seq = ++ch->seq;
    if (list_linked(&c->node))
        list_remove(&c->node);
    list_push(list, &c->node);
    changes_pulse(ch);
}

void changes_work(struct changes *ch, bool deployments)
{
    ch->work = ++ch->seq;
    if (deployments)
        ch->deployments = ch->seq;
    changes_pulse(ch);
}

struct gone *changes_gone(struct changes *ch, struct gone_ring *ring)
{
    struct gone *g = &ring->at[ring->n++ % CHANGES_GONE_MAX];
    if (ring->n > CHANGES_GONE_MAX)
        ring->lost = g->seq;
    *g = (struct gone){.seq = ++ch->seq};
    changes_pulse(ch);
    return g;
}

const struct gone *changes_gone_next(const struct gone_ring *ring, uint64_t told)
{
    uint64_t first = ring->n > CHANGES_GONE_MAX ? ring->n - CHANGES_GONE_MAX : 0;
    uint64_t i = ring->n;
    while (i > first && ring->at[(i - 1) % CHANGES_GONE_MAX].seq > told)
        i--;
    return i < ring->n ? &ring->at[i % CHANGES_GONE_MAX] : NULL;
}

struct change *changes_first(struct list *list, uint64_t told)
{
    struct list *n = list;
    if (!told)
        return list_first(list, struct change, node);
    while (n->prev != list && list_entry(n->prev, struct change, node)->seq > told)
        n = n->prev;
    return n == list ? NULL : list_entry(n, struct change, node);
}

struct change *changes_next(struct list *list, struct change *c)
{
    return c->node.next == list ? NULL : list_entry(c->node.next, struct change, node);
}

void changes_watch(struct changes *ch, struct change_watcher *w)
{
    list_init(&w->node);
    list_push(&ch->watchers, &w->node);
}

void changes_unwatch(struct change_watcher *w)
{
    list_remove(&w->node);
}
