/* SPDX-License-Identifier: Apache-2.0 */
/* json_out — messages as ProtoJSON, walked by their descriptors.  Source: protobuf.dev, ProtoJSON format. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>

#include "base/json.h"
#include "rpc/json_name.h"
#include "rpc/rpc.h"

static void put_double(struct jsonw *w, double v, int least, int most)
{
    char text[40];
    if (isnan(v) || isinf(v)) {
        jsonw_string(w, isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity");
        return;
    }
    for (int digits = least; digits <= most; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, v);
        double back = strtod(text, NULL);
        if (digits == most || (most > 9 ? back == v : (float)back == (float)v))
            break;
    }
    jsonw_raw(w, str_from(text));
}

static void put_quoted(struct jsonw *w, bool negative, uint64_t v)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%s%llu", negative ? "-" : "", (unsigned long long)v);
    jsonw_string(w, text);
}

static void put_i64(struct jsonw *w, int64_t v)
{
    put_quoted(w, v < 0, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

static void put_enum(struct jsonw *w, const ProtobufCEnumDescriptor *type, int v)
{
    const ProtobufCEnumValue *e = protobuf_c_enum_descriptor_get_value(type, v);
    if (e)
        jsonw_string(w, e->name);
    else
        jsonw_i64(w, v);
}

static int put_message(struct jsonw *w, const ProtobufCMessage *m, unsigned depth);

static int put_value(struct jsonw *w, const ProtobufCFieldDescriptor *f, const void *at, unsigned depth)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32: jsonw_i64(w, *(const int32_t *)at); break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32: jsonw_u64(w, *(const uint32_t *)at); break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64: put_i64(w, *(const int64_t *)at); break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: put_quoted(w, false, *(const uint64_t *)at); break;
    case PROTOBUF_C_TYPE_FLOAT: put_double(w, (double)*(const float *)at, 6, 9); break;
    case PROTOBUF_C_TYPE_DOUBLE: put_double(w, *(const double *)at, 15, 17); break;
    case PROTOBUF_C_TYPE_BOOL: jsonw_bool(w, *(const protobuf_c_boolean *)at != 0); break;
    case PROTOBUF_C_TYPE_ENUM: put_enum(w, f->descriptor, *(const int *)at); break;
    case PROTOBUF_C_TYPE_STRING: {
        const char *s = *(char *const *)at;
        jsonw_string(w, s ? s : "");
        break;
    }
    case PROTOBUF_C_TYPE_BYTES: {
        const ProtobufCBinaryData *b = at;
        AUTO_FREE char *text = str_base64(b->data, b->len);
        jsonw_string(w, text);
        break;
    }
    case PROTOBUF_C_TYPE_MESSAGE: return put_message(w, *(ProtobufCMessage *const *)at, depth + 1);
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

size_t json_element_size(ProtobufCType type)
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

void json_name(const char *name, char dst[JSON_NAME_MAX])
{
    size_t n = 0;
    bool up = false;
    for (; *name && n + 1 < JSON_NAME_MAX; name++) {
        if (*name == '_') {
            up = true;
            continue;
        }
        dst[n++] = up ? (char)toupper((unsigned char)*name) : *name;
        up = false;
    }
    dst[n] = 0;
}

static int put_field(struct jsonw *w, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, unsigned depth)
{
    const char *at = (const char *)m + f->offset, *quantifier = (const char *)m + f->quantifier_offset;
    char name[JSON_NAME_MAX];
    size_t n = 1;
    bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;
    if (repeated)
        n = *(const size_t *)(const void *)quantifier;
    else if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        n = *(const uint32_t *)(const void *)quantifier == f->id;
    else if (f->label == PROTOBUF_C_LABEL_NONE || f->type == PROTOBUF_C_TYPE_MESSAGE || f->type == PROTOBUF_C_TYPE_STRING)
        n = !is_zero(f, at);
    else if (f->label == PROTOBUF_C_LABEL_OPTIONAL)
        n = *(const protobuf_c_boolean *)(const void *)quantifier != 0;
    if (n == 0)
        return 0;
    json_name(f->name, name);
    jsonw_key(w, name);
    if (!repeated)
        return put_value(w, f, at, depth);
    const char *items = *(char *const *)(const void *)at;
    int rc = 0;
    jsonw_array(w);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = put_value(w, f, items + i * json_element_size(f->type), depth);
    jsonw_array_end(w);
    return rc;
}

static int put_message(struct jsonw *w, const ProtobufCMessage *m, unsigned depth)
{
    if (!m || depth > RPC_DEPTH_MAX / 2) {
        jsonw_null(w);
        return m ? -ERR_EXHAUSTED : 0;
    }
    int rc = 0;
    jsonw_object(w);
    for (unsigned i = 0; rc == 0 && i < m->descriptor->n_fields; i++)
        rc = put_field(w, m, &m->descriptor->fields[i], depth);
    jsonw_object_end(w);
    return rc;
}

int rpc_to_json(const ProtobufCMessage *message, struct buf *out, struct err *err)
{
    struct jsonw w;
    jsonw_init(&w, out);
    int rc = put_message(&w, message, 1), end = jsonw_end(&w);
    if (rc < 0)
        return err_set(err, ERR_EXHAUSTED, "the message is nested too deep for JSON");
    if (end < 0)
        return err_set(err, ERR_EXHAUSTED, "the message is over %zu bytes in JSON", out->max);
    return 0;
}
