/* SPDX-License-Identifier: Apache-2.0 */
/* mem — memory for sizes that are ours to choose or already limited: out of memory aborts, so no caller has a path for it.
 * What a peer may size comes from an arena or a buf, which have budgets.  Thread: any.  Freed with free(3). */
#ifndef DAVIT_BASE_MEM_H
#define DAVIT_BASE_MEM_H

#include <stddef.h>

#include "base/cleanup.h"

/* @n bytes (at least one), content undefined. Never NULL. */
void *mem_alloc(size_t n) MUST_USE;
/* @count * @size zeroed bytes; overflow of the product aborts too. Never NULL. */
void *mem_zalloc(size_t count, size_t size) MUST_USE;
/* As realloc(3) for @count * @size bytes; @p may be NULL. Never NULL. */
void *mem_resize(void *p, size_t count, size_t size) MUST_USE;

#define NEW(type) ((type *)mem_zalloc(1, sizeof(type)))

#endif
