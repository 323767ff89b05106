/* SPDX-License-Identifier: Apache-2.0 */
/* json_out — messages as ProtoJSON, walked by their descriptors: fields and maps; the well-known types are in json_out_known.c.
 * Source: protobuf.dev, ProtoJSON format. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "google/protobuf/struct.pb-c.h"
#include "rpc/json_internal.h"
#include "rpc/json_text.h"

enum { QUOTED_MAX = 24 };

static void put_double(struct jsonw *w, double v, bool single)
{
    char text[JSON_TEXT_MAX];
    if (isnan(v) || isinf(v)) {
        jsonw_string(w, isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity");
        return;
    }
    json_text_put_double(v, single, text);
    jsonw_raw(w, str_from(text));
}

static void put_enum(struct jsonw *w, const ProtobufCEnumDescriptor *type, int v)
{
    const ProtobufCEnumValue *e = protobuf_c_enum_descriptor_get_value(type, v);
    if (type == &google__protobuf__null_value__descriptor)
        jsonw_null(w);
    else if (e)
        jsonw_string(w, e->name);
    else
        jsonw_i64(w, v);
}

/* Decimal of any integer type. */
static const char *decimal(ProtobufCType type, const void *at, char dst[QUOTED_MAX])
{
    switch (type) {
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32: (void)snprintf(dst, QUOTED_MAX, "%u", *(const uint32_t *)at); break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64: (void)snprintf(dst, QUOTED_MAX, "%lld", (long long)*(const int64_t *)at); break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: (void)snprintf(dst, QUOTED_MAX, "%llu", (unsigned long long)*(const uint64_t *)at); break;
    default: (void)snprintf(dst, QUOTED_MAX, "%d", *(const int32_t *)at); break;
    }
    return dst;
}

int json_out_value(struct json_writer *w, const ProtobufCFieldDescriptor *f, const void *at, unsigned depth)
{
    char text[QUOTED_MAX];
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: jsonw_string(&w->w, decimal(f->type, at, text)); break;
    case PROTOBUF_C_TYPE_FLOAT: put_double(&w->w, (double)*(const float *)at, true); break;
    case PROTOBUF_C_TYPE_DOUBLE: put_double(&w->w, *(const double *)at, false); break;
    case PROTOBUF_C_TYPE_BOOL: jsonw_bool(&w->w, *(const protobuf_c_boolean *)at != 0); break;
    case PROTOBUF_C_TYPE_ENUM: put_enum(&w->w, f->descriptor, *(const int *)at); break;
    case PROTOBUF_C_TYPE_STRING: jsonw_str(&w->w, str_from(*(char *const *)at)); break;
    case PROTOBUF_C_TYPE_BYTES: {
        const ProtobufCBinaryData *b = at;
        AUTO_FREE char *base64 = str_base64(b->data, b->len);
        jsonw_string(&w->w, base64);
        break;
    }
    case PROTOBUF_C_TYPE_MESSAGE: return json_out_message(w, f->descriptor, *(ProtobufCMessage *const *)at, depth + 1);
    default: jsonw_raw(&w->w, str_from(decimal(f->type, at, text))); break;
    }
    return 0;
}

/* Has a field without presence of its own its zero value? */
static bool is_zero(const ProtobufCFieldDescriptor *f, const void *at)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: return *(const uint64_t *)at == 0;
    case PROTOBUF_C_TYPE_DOUBLE: return *(const double *)at == 0 && !signbit(*(const double *)at);
    case PROTOBUF_C_TYPE_FLOAT: return *(const float *)at == 0 && !signbit(*(const float *)at);
    case PROTOBUF_C_TYPE_BOOL: return *(const protobuf_c_boolean *)at == 0;
    case PROTOBUF_C_TYPE_STRING: return !*(char *const *)at || !**(char *const *)at;
    case PROTOBUF_C_TYPE_BYTES: return ((const ProtobufCBinaryData *)at)->len == 0;
    case PROTOBUF_C_TYPE_MESSAGE: return !*(ProtobufCMessage *const *)at;
    default: return *(const uint32_t *)at == 0;
    }
}

/* ---- maps ---- */

static void put_key(struct jsonw *w, const ProtobufCFieldDescriptor *key, const ProtobufCMessage *entry)
{
    char text[QUOTED_MAX];
    const void *at = (const char *)entry + key->offset;
    if (key->type == PROTOBUF_C_TYPE_STRING)
        jsonw_key_str(w, str_from(*(char *const *)at));
    else if (key->type == PROTOBUF_C_TYPE_BOOL)
        jsonw_key(w, *(const protobuf_c_boolean *)at ? "true" : "false");
    else
        jsonw_key(w, decimal(key->type, at, text));
}

int json_out_map(struct json_writer *w, const ProtobufCFieldDescriptor *f, ProtobufCMessage *const *entries, size_t n,
                 unsigned depth)
{
    const ProtobufCMessageDescriptor *type = f->descriptor;
    AUTO_FREE ProtobufCMessage **sorted = json_map_sorted(f, entries, n);
    int rc = 0;
    jsonw_object(&w->w);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (i + 1 < n && json_map_compare(f, sorted[i], sorted[i + 1]) == 0)
            continue;
        put_key(&w->w, &type->fields[0], sorted[i]);
        rc = json_out_value(w, &type->fields[1], (const char *)sorted[i] + type->fields[1].offset, depth + 1);
    }
    jsonw_object_end(&w->w);
    return rc;
}

/* ---- messages ---- */

static int put_field(struct json_writer *w, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, unsigned depth)
{
    const char *at = (const char *)m + f->offset, *quantifier = (const char *)m + f->quantifier_offset;
    const struct rpc_field_meta *meta = json_field_meta(m->descriptor, f);
    size_t n;
    bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;
    if (repeated)
        n = *(const size_t *)(const void *)quantifier;
    else if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        n = *(const uint32_t *)(const void *)quantifier == f->id;
    else
        n = !is_zero(f, at);
    if (n == 0)
        return 0;
    jsonw_key(&w->w, meta->json_name);
    if (!repeated)
        return json_out_value(w, f, at, depth);
    const char *items = *(char *const *)(const void *)at;
    if (meta->flags & RPC_FIELD_MAP)
        return json_out_map(w, f, (ProtobufCMessage *const *)(const void *)items, n, depth);
    int rc = 0;
    jsonw_array(&w->w);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = json_out_value(w, f, items + i * rpc_element_size(f->type), depth);
    jsonw_array_end(&w->w);
    return rc;
}

int json_out_fields(struct json_writer *w, const ProtobufCMessage *m, unsigned depth)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < m->descriptor->n_fields; i++)
        rc = put_field(w, m, &m->descriptor->fields[i], depth);
    return rc;
}

int json_out_message(struct json_writer *w, const ProtobufCMessageDescriptor *type, const ProtobufCMessage *m, unsigned depth)
{
    enum rpc_kind kind = rpc_meta_of(type)->kind;
    AUTO_FREE ProtobufCMessage *none = NULL;
    if (depth > RPC_DEPTH_MAX) {
        jsonw_null(&w->w);
        return err_set(w->err, ERR_EXHAUSTED, "the message is nested deeper than %d", RPC_DEPTH_MAX);
    }
    if (!m) {
        none = mem_alloc(type->sizeof_message);
        type->message_init(none);
        m = none;
    }
    if (kind != RPC_KIND_PLAIN)
        return json_out_known(w, kind, m, depth);
    jsonw_object(&w->w);
    int rc = json_out_fields(w, m, depth);
    jsonw_object_end(&w->w);
    return rc;
}

int rpc_to_json(const ProtobufCMessage *message, struct buf *out, struct err *err)
{
    struct json_writer w = {.err = err};
    jsonw_init(&w.w, out);
    int rc = json_out_message(&w, message->descriptor, message, 1), end = jsonw_end(&w.w);
    if (rc == 0 && end < 0)
        return err_set(err, ERR_EXHAUSTED, "the message is over %zu bytes or nested too deep in JSON", out->max);
    return rc;
}
