/* SPDX-License-Identifier: Apache-2.0 */
/* seal — envelopes for secrets at rest: AES-256-GCM under a key that lies in a file of its own, outside of the database.
 *   envelope  00 44 53 01 | key id, 8 bytes | nonce, 12 random bytes | ciphertext | tag, 16 bytes
 *   bound to  the 12 bytes before the nonce and the place where it is kept ("deployments.spec/<id>"): moved to another row it does not open
 *   key file  one line "davit-master-key-1 <64 hex digits>" per key, 0600; the first seals, all open. To change the key, put a new line first.
 * The first byte, 00, begins no message in protobuf's wire form, so what was written before there were envelopes is told apart.
 * Random nonces: fewer than 2^32 envelopes per key.
 * Ownership: seal_free wipes.  Thread: any, several at once: a set of keys never changes.  Input trust: the file is ours; an envelope may
 * come from anybody who can write to the database, so nothing of it is used before the tag held.
 * Limits: SEAL_KEYS_MAX keys, places of SEAL_PLACE_MAX bytes, content of SEAL_CONTENT_MAX bytes. */
#ifndef DAVIT_IDENT_SEAL_H
#define DAVIT_IDENT_SEAL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/secret.h"
#include "base/str.h"

struct seal;

enum { SEAL_KEYS_MAX = 16, SEAL_OVERHEAD = 40, SEAL_PLACE_MAX = 255, SEAL_CONTENT_MAX = 64 * 1024 * 1024, SEAL_ID_SIZE = 17 };

/* Makes the new file @path (0600, on disk when this returns) with one fresh key. -ERR_EXISTS. Blocks. */
int seal_make(const char *path, struct err *err) MUST_USE;
/* Reads a key file. -ERR_NOT_FOUND; -ERR_DENIED when others than its owner may read it; -ERR_INVALID, with the line, for one that is no key file.
 * *ret is the caller's. Blocks. */
int seal_load(const char *path, struct seal **ret, struct err *err) MUST_USE;
/* Wipes and frees; accepts NULL; returns NULL. */
struct seal *seal_free(struct seal *seal);

/* The id of the key that seals: 16 hex digits, no secret. */
void seal_id(const struct seal *seal, char dst[SEAL_ID_SIZE]);
/* Is the key of this id among them? */
bool seal_has(const struct seal *seal, struct str id);

/* Is this an envelope (and not what was written before there were any)? Says nothing about whether it opens. */
bool seal_is(struct str bytes);
/* Is it one of the key that seals now? */
bool seal_is_current(const struct seal *seal, struct str bytes);
/* Appends the envelope of @content for @place to @out. -ERR_EXHAUSTED when it does not fit, -ERR_RANGE past the limits. */
int seal_close(const struct seal *seal, const char *place, struct str content, struct buf *out, struct err *err) MUST_USE;
/* What is in it; the caller ends *ret. -ERR_DATA_LOSS, with advice, for anything that @seal did not close for this @place: no envelope, another
 * key, another place, a changed bit. */
int seal_open(const struct seal *seal, const char *place, struct str envelope, struct secret **ret, struct err *err) MUST_USE;

static inline void cleanup_seal(struct seal **seal)
{
    (void)seal_free(*seal);
}
#define AUTO_SEAL CLEANUP(cleanup_seal) struct seal *

#endif
