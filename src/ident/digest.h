/* SPDX-License-Identifier: Apache-2.0 */
/* digest — SHA-256 of bytes that come piece by piece.
 * Ownership: digest_new .. digest_free.  Thread: any, one at a time. */
#ifndef DAVIT_IDENT_DIGEST_H
#define DAVIT_IDENT_DIGEST_H

#include <stddef.h>

#include "base/cleanup.h"

enum { DIGEST_HEX_SIZE = 65 };

struct digest;

/* Never NULL. */
struct digest *digest_new(void) MUST_USE;
void digest_add(struct digest *d, const void *p, size_t n);
/* Lower-case hex of everything so far, NUL-terminated. Once; nothing is added afterwards. */
void digest_hex(struct digest *d, char ret[DIGEST_HEX_SIZE]);
/* Accepts NULL. Returns NULL. */
struct digest *digest_free(struct digest *d);

static inline void digest_cleanup(struct digest **d)
{
    *d = digest_free(*d);
}
#define AUTO_DIGEST CLEANUP(digest_cleanup) struct digest *

#endif
