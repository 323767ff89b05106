/* SPDX-License-Identifier: Apache-2.0 */
/* schema — what protobuf-c's descriptors do not say of a message, made by protoc-gen-davit beside them: JSON names, maps, presence, oneofs,
 * the well-known types. The plugin lays its address into `reserved1` of the message's descriptor, which protobuf-c 1.x leaves alone; so it is
 * there for every message of proto/ and for nothing else.  Static data.  Thread: any. */
#ifndef DAVIT_RPC_SCHEMA_H
#define DAVIT_RPC_SCHEMA_H

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

#include "base/str.h"

/* How a message looks in JSON. */
enum rpc_kind {
    RPC_KIND_PLAIN,     /* an object of its fields; Empty too */
    RPC_KIND_MAP_ENTRY, /* one key and value of an object */
    RPC_KIND_ANY,
    RPC_KIND_TIMESTAMP,
    RPC_KIND_DURATION,
    RPC_KIND_FIELD_MASK,
    RPC_KIND_STRUCT,
    RPC_KIND_VALUE,
    RPC_KIND_LIST_VALUE,
    RPC_KIND_WRAPPER
};

enum {
    RPC_FIELD_OPTIONAL = 1, /* proto3 optional: in C a oneof of one member, `_name_case` */
    RPC_FIELD_MAP = 2       /* repeated entries of key (1) and value (2) */
};
enum { RPC_FIELDS_MAX = 256 }; /* of one message; the plugin refuses more */

struct rpc_field_meta {
    const char *json_name;
    const char *oneof; /* its name, or NULL */
    uint8_t flags;
};
struct rpc_field_name {
    const char *name;
    uint16_t field; /* index into the descriptor's fields */
};
struct rpc_message_meta {
    enum rpc_kind kind;
    uint16_t n_fields, n_names;
    const struct rpc_field_meta *fields; /* as in the descriptor: by number */
    const struct rpc_field_name *names;  /* JSON names and own names, sorted by bytes */
};

/* Of a type that our plugin made; any other is a bug (aborts). */
const struct rpc_message_meta *rpc_meta_of(const ProtobufCMessageDescriptor *type);
/* The field that JSON calls @key (either spelling), or NULL. */
const ProtobufCFieldDescriptor *rpc_field_named(const ProtobufCMessageDescriptor *type, struct str key);
/* Bytes of one element of a repeated field in memory. */
size_t rpc_element_size(ProtobufCType type);

/* Which messages an Any may carry besides the well-known ones: called at start, @types is static and NULL-terminated, at most
 * RPC_ANY_LISTS_MAX calls.  Thread: loop. */
enum { RPC_ANY_LISTS_MAX = 8 };
void rpc_any_types(const ProtobufCMessageDescriptor *const *types);
/* The type of "type.googleapis.com/pkg.Message" (whatever stands before the last slash), or NULL. */
const ProtobufCMessageDescriptor *rpc_any_find(struct str url);

#endif
