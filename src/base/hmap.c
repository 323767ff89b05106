/* SPDX-License-Identifier: Apache-2.0 */
/* hmap — the wrapper around uthash with SipHash-2-4 (Aumasson and Bernstein, 2012) as its hash, see hmap.h. */
#include "base/hmap.h"

#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

/* uthash keeps 32 bits of the hash; its own default (Jenkins) has known collisions. */
#define HASH_FUNCTION(keyptr, keylen, hashv) ((hashv) = (unsigned)hash_bytes((keyptr), (keylen)))
#define uthash_malloc(size) mem_alloc(size)
#include <uthash.h>

struct hmap_entry {
    UT_hash_handle hh;
    void *value;
    size_t n;
    char key[];
};

struct hmap {
    struct hmap_entry *head;
    size_t max;
};

static uint64_t sip_key[2];
static pthread_once_t sip_once = PTHREAD_ONCE_INIT;

static void sip_seed(void)
{
    rng_bytes(sip_key, sizeof(sip_key));
}

static inline uint64_t rotl(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

static inline uint64_t load_le(const unsigned char *p, size_t n)
{
    uint64_t x = 0;

    for (size_t i = 0; i < n; i++)
        x |= (uint64_t)p[i] << (8 * i);
    return x;
}

uint64_t hash_siphash(const uint64_t key[2], const void *data, size_t n)
{
    const unsigned char *p = data;
    size_t left = n;
    uint64_t v[4] = {
        key[0] ^ 0x736f6d6570736575u,
        key[1] ^ 0x646f72616e646f6du,
        key[0] ^ 0x6c7967656e657261u,
        key[1] ^ 0x7465646279746573u,
    };

    for (; left >= 8; left -= 8, p += 8) {
        uint64_t m = load_le(p, 8);
        v[3] ^= m;
        sip_round(v);
        sip_round(v);
        v[0] ^= m;
    }
    uint64_t last = (uint64_t)n << 56 | load_le(p, left);
    v[3] ^= last;
    sip_round(v);
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t hash_bytes(const void *p, size_t n)
{
    (void)pthread_once(&sip_once, sip_seed);
    return hash_siphash(sip_key, p, n);
}

struct hmap *hmap_new(size_t max_items)
{
    struct hmap *m = NEW(struct hmap);

    m->max = max_items;
    return m;
}

struct hmap *hmap_free(struct hmap *m)
{
    struct hmap_entry *e, *next;

    if (m == NULL)
        return NULL;
    HASH_ITER(hh, m->head, e, next)
    {
        HASH_DEL(m->head, e);
        free(e);
    }
    free(m);
    return NULL;
}

static struct hmap_entry *find(const struct hmap *m, struct str key)
{
    struct hmap_entry *e = NULL;
    const char *p = key.p != NULL ? key.p : "";

    if (key.n > UINT_MAX)
        return NULL;
    HASH_FIND(hh, m->head, p, key.n, e);
    return e;
}

void *hmap_get(const struct hmap *m, struct str key)
{
    struct hmap_entry *e = find(m, key);

    return e != NULL ? e->value : NULL;
}

int hmap_put(struct hmap *m, struct str key, void *value, void **ret_old)
{
    struct hmap_entry *e = find(m, key);

    BUG_ON(value == NULL);
    if (ret_old != NULL)
        *ret_old = e != NULL ? e->value : NULL;
    if (e != NULL) {
        e->value = value;
        return 0;
    }
    if (hmap_count(m) >= m->max || key.n > UINT_MAX)
        return -(int)ERR_EXHAUSTED;
    e = mem_alloc(sizeof(*e) + key.n);
    *e = (struct hmap_entry){.value = value, .n = key.n};
    if (key.n > 0)
        memcpy(e->key, key.p, key.n);
    HASH_ADD(hh, m->head, key, e->n, e);
    return 0;
}

void *hmap_remove(struct hmap *m, struct str key)
{
    struct hmap_entry *e = find(m, key);
    void *value;

    if (e == NULL)
        return NULL;
    value = e->value;
    HASH_DEL(m->head, e);
    free(e);
    return value;
}

size_t hmap_count(const struct hmap *m)
{
    return HASH_COUNT(m->head);
}

struct hmap_entry *hmap_first(const struct hmap *m)
{
    return m->head;
}

struct hmap_entry *hmap_next(const struct hmap_entry *e)
{
    return e->hh.next;
}

struct str hmap_key(const struct hmap_entry *e)
{
    return (struct str){e->key, e->n};
}

void *hmap_value(const struct hmap_entry *e)
{
    return e->value;
}
