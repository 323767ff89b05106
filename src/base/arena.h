/* SPDX-License-Identifier: Apache-2.0 */
/* arena — memory for the length of one request: many small pieces, one budget, released together.
 * The budget counts what was asked for, each piece rounded up to 16 bytes; past it every call gives NULL and the arena stays
 * usable. That NULL is how a peer's input meets its limit, so each caller has a path for it. Out of memory aborts.
 * Ownership: embedded in the request; arena_release frees every piece.  Thread: any, one at a time. */
#ifndef DAVIT_BASE_ARENA_H
#define DAVIT_BASE_ARENA_H

#include <stddef.h>

#include "base/cleanup.h"
#include "base/str.h"

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks;
    size_t used;
    size_t max;
    char *at; /* free part of the newest shared chunk */
    size_t left;
};

/* An empty arena of at most @max bytes; allocates nothing yet. */
void arena_init(struct arena *a, size_t max);
/* @n zeroed bytes, aligned for any type, valid until arena_release; NULL past the budget. */
void *arena_alloc(struct arena *a, size_t n) MUST_USE;
/* A NUL-terminated copy; NULL past the budget. */
char *arena_strdup(struct arena *a, struct str s) MUST_USE;
/* Frees everything; the arena is empty and usable again with the same budget. */
void arena_release(struct arena *a);

#define AUTO_ARENA CLEANUP(arena_release) struct arena

#endif
