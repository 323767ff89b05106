/* SPDX-License-Identifier: Apache-2.0 */
/* meta — own metadata of calls on its way out: which fields may be sent, how bytes become text, and how much of it there may be.
 * Sources: grpc/grpc doc/PROTOCOL-HTTP2.md (custom metadata), connectrpc.com protocol.  Thread: any. */
#ifndef DAVIT_RPC_META_H
#define DAVIT_RPC_META_H

#include "net/h2.h"
#include "rpc/rpc.h"

/* Fields that wait to be sent, as h2_fields_add has them. Embedded in its owner. */
struct meta_out {
    struct buf store;
    size_t n, size, max; /* fields, what they count for and may count for */
};

/* @max: what they may count for. */
void meta_out_init(struct meta_out *m, size_t max);
void meta_out_release(struct meta_out *m);
/* Appends one field: 0, -ERR_INVALID, -ERR_EXHAUSTED. */
int meta_add(struct meta_out *m, const char *name, struct str value) MUST_USE;
/* Base64 without padding, as values of -bin fields and details have it; freed by the caller. */
char *meta_base64(struct str bytes) MUST_USE;
/* Puts the fields behind the @n of @fields (RPC_META_FIELDS_MAX more must fit); returns how many there are now. Borrowed from @m. */
size_t meta_fields(const struct meta_out *m, struct h2_field *fields, size_t n);

#endif
