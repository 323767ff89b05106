/* SPDX-License-Identifier: Apache-2.0 */
/* hmap — hash table from byte-string keys to pointers, safe against chosen keys (SipHash-2-4 under a random key).
 * Owns copies of its keys, never its values.  Limits: fixed at creation; a put beyond it fails.
 * Thread: the owner's.  Input trust: keys may come from peers. */
#ifndef DAVIT_BASE_HMAP_H
#define DAVIT_BASE_HMAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/str.h"

struct hmap;

/* @max_items: most entries it will hold. Never NULL (aborts on out of memory). Ends with hmap_free. */
struct hmap *hmap_new(size_t max_items) MUST_USE;
/* Accepts NULL. Values are the caller's business. Returns NULL. */
struct hmap *hmap_free(struct hmap *m);

/* The value, or NULL. */
void *hmap_get(const struct hmap *m, struct str key);
/* Adds or replaces; @value must not be NULL. *ret_old (may be NULL) gets the value replaced, else NULL. 0, or -ERR_EXHAUSTED. */
int hmap_put(struct hmap *m, struct str key, void *value, void **ret_old) MUST_USE;
/* Removes; returns the value, or NULL if absent. */
void *hmap_remove(struct hmap *m, struct str key);
size_t hmap_count(const struct hmap *m);

/* Iteration in order of insertion: `for (struct hmap_entry *e = hmap_first(m); e; e = hmap_next(e))`. The current entry may be
 * removed only after hmap_next was taken. */
struct hmap_entry;
struct hmap_entry *hmap_first(const struct hmap *m);
struct hmap_entry *hmap_next(const struct hmap_entry *e);
struct str hmap_key(const struct hmap_entry *e);
void *hmap_value(const struct hmap_entry *e);

/* SipHash-2-4 of @n bytes under the process key; for tables of other shapes and for stable jitter within one process. */
uint64_t hash_bytes(const void *p, size_t n);
/* SipHash-2-4 under a key of the caller's: for what must hash the same in every process. */
uint64_t hash_siphash(const uint64_t key[2], const void *data, size_t n);

#endif
