/* SPDX-License-Identifier: Apache-2.0 */
/* inventory — see inventory.h. */
#include "control/servers/inventory.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "rpc/rpc.h"

void inventory_init(struct inventory *inv)
{
    inv->containers = hmap_new(INVENTORY_CONTAINERS_MAX);
    inv->foreign = hmap_new(INVENTORY_CONTAINERS_MAX);
    inv->rings = hmap_new(INVENTORY_CONTAINERS_MAX + 1);
    inv->dropped = 0;
}

static struct hmap *clear_containers(struct hmap *m)
{
    for (struct hmap_entry *e = m ? hmap_first(m) : NULL; e; e = hmap_next(e))
        (void)rpc_message_free(hmap_value(e));
    return hmap_free(m);
}

void inventory_release(struct inventory *inv)
{
    inv->containers = clear_containers(inv->containers);
    inv->foreign = clear_containers(inv->foreign);
    if (inv->rings)
        for (struct hmap_entry *e = hmap_first(inv->rings); e; e = hmap_next(e))
            free(hmap_value(e));
    inv->rings = hmap_free(inv->rings);
}

static void forget(struct inventory *inv, const char *id)
{
    (void)rpc_message_free(hmap_remove(inv->containers, str_from(id)));
    (void)rpc_message_free(hmap_remove(inv->foreign, str_from(id)));
}

static bool is_apart(const Davit__Common__V1__Container *c)
{
    return c->foreign || (c->role && *c->role);
}

static void put_container(struct inventory *inv, const Davit__Common__V1__Container *c)
{
    ProtobufCMessage *copy = NULL;
    struct hmap *to = is_apart(c) ? inv->foreign : inv->containers;
    void *old = NULL;
    if (!c->id || !*c->id || rpc_copy(&c->base, &copy) != 0)
        return;
    if (hmap_get(is_apart(c) ? inv->containers : inv->foreign, str_from(c->id)))
        forget(inv, c->id);
    if (hmap_put(to, str_from(c->id), copy, &old) != 0) {
        inv->dropped++;
        (void)rpc_message_free(copy);
        return;
    }
    (void)rpc_message_free(old);
}

/* A ring outlives its container by nothing: the newest samples of a dead container answer no question. */
static void drop_rings(struct inventory *inv)
{
    struct hmap_entry *e = hmap_first(inv->rings);
    while (e) {
        struct hmap_entry *next = hmap_next(e);
        struct str id = hmap_key(e);
        if (id.n && !hmap_get(inv->containers, id)) {
            void *ring = hmap_value(e);
            (void)hmap_remove(inv->rings, id);
            free(ring);
        }
        e = next;
    }
}

void inventory_containers(struct inventory *inv, const Davit__Link__V1__ContainerStates *m)
{
    if (m->full) {
        clear_containers(inv->containers);
        clear_containers(inv->foreign);
        inv->containers = hmap_new(INVENTORY_CONTAINERS_MAX);
        inv->foreign = hmap_new(INVENTORY_CONTAINERS_MAX);
    }
    for (size_t i = 0; i < m->n_removed_ids; i++)
        forget(inv, m->removed_ids[i]);
    for (size_t i = 0; i < m->n_containers; i++)
        put_container(inv, m->containers[i]);
    drop_rings(inv);
}

static void put_sample(struct inventory *inv, const Davit__Common__V1__Usage *u)
{
    struct str id = str_from(u->container_id);
    struct usage_ring *ring = hmap_get(inv->rings, id);
    if (!ring) {
        /* Only what is known as a container gets memory. */
        if (id.n && !hmap_get(inv->containers, id))
            return;
        ring = NEW(struct usage_ring);
        if (hmap_put(inv->rings, id, ring, NULL) != 0) {
            inv->dropped++;
            free(ring);
            return;
        }
    }
    ring->at[ring->next] = (struct usage){.at_us = u->at_us,
                                          .cpu_usec = u->cpu_usec,
                                          .memory = u->memory_bytes,
                                          .memory_limit = u->memory_limit_bytes,
                                          .disk_read = u->disk_read_bytes,
                                          .disk_write = u->disk_write_bytes,
                                          .net_rx = u->net_rx_bytes,
                                          .net_tx = u->net_tx_bytes,
                                          .disk_total = u->disk_total_bytes,
                                          .disk_free = u->disk_free_bytes,
                                          .pids = u->pids,
                                          .cpu_milli = u->cpu_milli};
    ring->next = (ring->next + 1) % INVENTORY_SAMPLES;
    if (ring->n < INVENTORY_SAMPLES)
        ring->n++;
}

void inventory_usage(struct inventory *inv, const Davit__Link__V1__UsageBatch *m)
{
    for (size_t i = 0; i < m->n_samples; i++)
        put_sample(inv, m->samples[i]);
    inv->batches++;
}

const Davit__Common__V1__Container *inventory_find(const struct inventory *inv, const char *id)
{
    return hmap_get(inv->containers, str_from(id));
}

int inventory_last(const struct inventory *inv, const char *container_id, struct usage *last, struct usage *before)
{
    const struct usage_ring *ring = hmap_get(inv->rings, str_from(container_id));
    if (!ring || !ring->n)
        return 1;
    unsigned at = (ring->next + INVENTORY_SAMPLES - 1) % INVENTORY_SAMPLES;
    *last = ring->at[at];
    *before = ring->n > 1 ? ring->at[(at + INVENTORY_SAMPLES - 1) % INVENTORY_SAMPLES] : *last;
    return 0;
}

uint32_t inventory_running(const struct inventory *inv)
{
    uint32_t n = 0;
    for (struct hmap_entry *e = hmap_first(inv->containers); e; e = hmap_next(e)) {
        const Davit__Common__V1__Container *c = hmap_value(e);
        if (str_eq(str_from(c->state), STR("running")))
            n++;
    }
    return n;
}

uint64_t usage_rate(uint64_t now, uint64_t before, uint64_t now_us, uint64_t before_us)
{
    if (now < before || now_us <= before_us)
        return 0;
    /* Divided before it is multiplied where the product would not fit. */
    uint64_t grown = now - before, span = now_us - before_us;
    return grown < UINT64_MAX / USEC_SEC ? grown * USEC_SEC / span : grown / span * USEC_SEC;
}
