/* SPDX-License-Identifier: Apache-2.0 */
/* json_map — the entries of maps in the order of their keys: protobuf-c keeps a map as a list, in which a key may stand twice. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rpc/json_internal.h"

struct ranked {
    ProtobufCMessage *entry;
    size_t at;
};

int json_map_compare(const ProtobufCFieldDescriptor *f, const ProtobufCMessage *a, const ProtobufCMessage *b)
{
    const ProtobufCMessageDescriptor *type = f->descriptor;
    const ProtobufCFieldDescriptor *key = &type->fields[0];
    const char *p = (const char *)a + key->offset, *q = (const char *)b + key->offset;
    size_t size = rpc_element_size(key->type);
    uint64_t x = 0, y = 0;
    if (key->type == PROTOBUF_C_TYPE_STRING)
        return strcmp(*(char *const *)(const void *)p, *(char *const *)(const void *)q);
    memcpy(&x, p, size);
    memcpy(&y, q, size);
    return (x > y) - (x < y);
}

static int compare(const void *a, const void *b, void *f)
{
    const struct ranked *x = a, *y = b;
    int order = json_map_compare(f, x->entry, y->entry);
    return order ? order : (x->at > y->at) - (x->at < y->at);
}

ProtobufCMessage **json_map_sorted(const ProtobufCFieldDescriptor *f, ProtobufCMessage *const *entries, size_t n)
{
    struct ranked *ranked = mem_zalloc(n, sizeof(*ranked));
    for (size_t i = 0; i < n; i++)
        ranked[i] = (struct ranked){entries[i], i};
    qsort_r(ranked, n, sizeof(*ranked), compare, (void *)(uintptr_t)f);
    ProtobufCMessage **sorted = mem_zalloc(n, sizeof(ProtobufCMessage *));
    for (size_t i = 0; i < n; i++)
        sorted[i] = ranked[i].entry;
    free(ranked);
    return sorted;
}
