/* SPDX-License-Identifier: Apache-2.0 */
/* json_internal — what the files of the JSON transcoder share: json_in.c and json_out.c (fields, maps), json_in_known.c and
 * json_out_known.c (well-known types), json_map.c.  Not included outside of src/rpc.  Thread: any, one at a time. */
#ifndef DAVIT_RPC_JSON_INTERNAL_H
#define DAVIT_RPC_JSON_INTERNAL_H

#include "base/json.h"
#include "rpc/rpc.h"
#include "rpc/schema.h"

enum { JSON_ANYS_MAX = 4 }; /* an Any in an Any: each level holds its own content */

/* ---- in ---- */
struct json_reader {
    struct json j;
    unsigned anys; /* that we are in */
    size_t budget; /* bytes that may still be allocated */
    struct err *err;
};

/* Fails with -ERR_INVALID: "field @name: @what". */
int json_in_bad(struct json_reader *r, const char *name, const char *what);
/* Takes @n bytes off the budget. 0 or -ERR_EXHAUSTED. */
int json_in_spend(struct json_reader *r, size_t n) MUST_USE;
/* One message of any kind whose first token was read; @name: the field, for failures. */
int json_in_message(struct json_reader *r, const ProtobufCMessageDescriptor *type, const char *name, enum json_type token,
                    ProtobufCMessage **ret, unsigned depth) MUST_USE;
/* The fields of @m from an object whose start was read. */
int json_in_fields(struct json_reader *r, ProtobufCMessage *m, unsigned depth) MUST_USE;
/* A singular value of @f (token read) into the memory of its type. */
int json_in_value(struct json_reader *r, const ProtobufCFieldDescriptor *f, enum json_type token, void *at,
                  unsigned depth) MUST_USE;
/* The elements of a repeated field, the entries of a map: the start of the array or object was read. */
int json_in_repeated(struct json_reader *r, const ProtobufCFieldDescriptor *f, ProtobufCMessage *m, unsigned depth) MUST_USE;
int json_in_map(struct json_reader *r, const ProtobufCFieldDescriptor *f, ProtobufCMessage *m, unsigned depth) MUST_USE;
/* A well-known message that has a form of its own. */
int json_in_known(struct json_reader *r, enum rpc_kind kind, const char *name, enum json_type token, ProtobufCMessage *m,
                  unsigned depth) MUST_USE;

/* ---- out ---- */
struct json_writer {
    struct jsonw w;
    unsigned anys;
    struct err *err;
};

/* Any message; NULL is one of @type without content. */
int json_out_message(struct json_writer *w, const ProtobufCMessageDescriptor *type, const ProtobufCMessage *m,
                     unsigned depth) MUST_USE;
/* Keys and values of @m into an open object. */
int json_out_fields(struct json_writer *w, const ProtobufCMessage *m, unsigned depth) MUST_USE;
int json_out_value(struct json_writer *w, const ProtobufCFieldDescriptor *f, const void *at, unsigned depth) MUST_USE;
int json_out_known(struct json_writer *w, enum rpc_kind kind, const ProtobufCMessage *m, unsigned depth) MUST_USE;
/* The entries of map field @f as an object; of equal keys the last one, as every reader of the wire form has it. */
int json_out_map(struct json_writer *w, const ProtobufCFieldDescriptor *f, ProtobufCMessage *const *entries, size_t n,
                 unsigned depth) MUST_USE;

/* ---- both ---- */
/* Fresh memory with @entries sorted by key, equal keys in their order; the caller frees it. */
ProtobufCMessage **json_map_sorted(const ProtobufCFieldDescriptor *f, ProtobufCMessage *const *entries, size_t n) MUST_USE;
/* Order of the keys of two entries. */
int json_map_compare(const ProtobufCFieldDescriptor *f, const ProtobufCMessage *a, const ProtobufCMessage *b);

/* Side table of @f, a field of @type. */
static inline const struct rpc_field_meta *json_field_meta(const ProtobufCMessageDescriptor *type,
                                                           const ProtobufCFieldDescriptor *f)
{
    return &rpc_meta_of(type)->fields[f - type->fields];
}
/* Is JSON's null a value of @f? Of google.protobuf.Value and NullValue it is. */
bool json_takes_null(const ProtobufCFieldDescriptor *f);

#endif
