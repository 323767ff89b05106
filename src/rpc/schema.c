/* SPDX-License-Identifier: Apache-2.0 */
/* schema — see schema.h. */
#include "rpc/schema.h"

#include <string.h>

#include "base/err.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/empty.pb-c.h"
#include "google/protobuf/field_mask.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"

static const ProtobufCMessageDescriptor *const well_known[] = {
    &google__protobuf__any__descriptor,          &google__protobuf__duration__descriptor,
    &google__protobuf__empty__descriptor,        &google__protobuf__field_mask__descriptor,
    &google__protobuf__struct__descriptor,       &google__protobuf__value__descriptor,
    &google__protobuf__list_value__descriptor,   &google__protobuf__timestamp__descriptor,
    &google__protobuf__double_value__descriptor, &google__protobuf__float_value__descriptor,
    &google__protobuf__int64_value__descriptor,  &google__protobuf__uint64_value__descriptor,
    &google__protobuf__int32_value__descriptor,  &google__protobuf__uint32_value__descriptor,
    &google__protobuf__bool_value__descriptor,   &google__protobuf__string_value__descriptor,
    &google__protobuf__bytes_value__descriptor,  NULL};

static const ProtobufCMessageDescriptor *const *any_lists[RPC_ANY_LISTS_MAX] = {well_known};

const struct rpc_message_meta *rpc_meta_of(const ProtobufCMessageDescriptor *type)
{
    const struct rpc_message_meta *meta = type->reserved1;
    BUG_ON(!meta || meta->n_fields != type->n_fields);
    return meta;
}

const ProtobufCFieldDescriptor *rpc_field_named(const ProtobufCMessageDescriptor *type, struct str key)
{
    const struct rpc_message_meta *meta = rpc_meta_of(type);
    size_t low = 0, high = meta->n_names;
    while (low < high) {
        size_t mid = (low + high) / 2;
        const struct rpc_field_name *at = &meta->names[mid];
        size_t n = strlen(at->name), both = n < key.n ? n : key.n; /* the key may contain NUL */
        int order = both ? memcmp(at->name, key.p, both) : 0;
        if (order == 0 && n == key.n)
            return &type->fields[at->field];
        if (order == 0)
            order = n < key.n ? -1 : 1;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

size_t rpc_element_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return 8;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE: return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES: return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_BOOL: return sizeof(protobuf_c_boolean);
    default: return 4;
    }
}

void rpc_any_types(const ProtobufCMessageDescriptor *const *types)
{
    size_t i = 0;
    while (i < RPC_ANY_LISTS_MAX && any_lists[i] && any_lists[i] != types)
        i++;
    BUG_ON(i == RPC_ANY_LISTS_MAX);
    any_lists[i] = types;
}

const ProtobufCMessageDescriptor *rpc_any_find(struct str url)
{
    const char *slash = url.n ? memrchr(url.p, '/', url.n) : NULL;
    if (!slash)
        return NULL;
    struct str name = {slash + 1, url.n - (size_t)(slash + 1 - url.p)};
    for (size_t i = 0; i < RPC_ANY_LISTS_MAX && any_lists[i]; i++)
        for (const ProtobufCMessageDescriptor *const *t = any_lists[i]; *t; t++)
            if (str_eq(name, str_from((*t)->name)))
                return *t;
    return NULL;
}
