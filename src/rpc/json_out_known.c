/* SPDX-License-Identifier: Apache-2.0 */
/* json_out_known — the well-known types that have a form of their own in JSON; see json_internal.h. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/field_mask.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "rpc/json_internal.h"
#include "rpc/json_text.h"

/* Fails, and leaves a value behind so that the text stays well-formed. */
static int bad(struct json_writer *w, const char *what)
{
    jsonw_null(&w->w);
    return err_set(w->err, ERR_INVALID, "%s", what);
}

static int put_time(struct json_writer *w, const Google__Protobuf__Timestamp *m)
{
    char text[JSON_TEXT_MAX];
    if (json_text_put_time(m->seconds, m->nanos, text) < 0)
        return bad(w, "a time outside of the years 1 to 9999");
    jsonw_string(&w->w, text);
    return 0;
}

static int put_span(struct json_writer *w, const Google__Protobuf__Duration *m)
{
    char text[JSON_TEXT_MAX];
    if (json_text_put_span(m->seconds, m->nanos, text) < 0)
        return bad(w, "a duration of more than ten thousand years, or of two signs");
    jsonw_string(&w->w, text);
    return 0;
}

static int put_mask(struct json_writer *w, const Google__Protobuf__FieldMask *m)
{
    AUTO_BUF text = BUF_INIT(w->w.out->max);
    for (size_t i = 0; i < m->n_paths; i++) {
        int rc = i ? buf_append_byte(&text, ',') : 0;
        if (rc == 0)
            rc = json_text_put_path(str_from(m->paths[i]), &text);
        if (rc < 0)
            return bad(w, "a field mask with a path that JSON cannot tell");
    }
    jsonw_str(&w->w, buf_str(&text));
    return 0;
}

static int put_value(struct json_writer *w, const ProtobufCMessage *m, unsigned depth)
{
    const Google__Protobuf__Value *v = (const void *)m;
    if (v->kind_case == GOOGLE__PROTOBUF__VALUE__KIND__NOT_SET)
        return bad(w, "a value of no kind");
    if (v->kind_case == GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE && (isnan(v->number_value) || isinf(v->number_value)))
        return bad(w, "a value that is no number of JSON");
    const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(m->descriptor, v->kind_case);
    return json_out_value(w, f, (const char *)m + f->offset, depth);
}

static int put_any(struct json_writer *w, const Google__Protobuf__Any *any, unsigned depth)
{
    struct str url = str_from(any->type_url);
    const ProtobufCMessageDescriptor *type = rpc_any_find(url);
    ProtobufCMessage *content = NULL;
    if (url.n == 0 && any->value.len == 0) {
        jsonw_object(&w->w);
        jsonw_object_end(&w->w);
        return 0;
    }
    if (!type)
        return bad(w, "an Any of a type that is not known here");
    if (w->anys == JSON_ANYS_MAX)
        return bad(w, "too many Any in one another");
    int rc = rpc_unpack(type, (struct str){(const char *)any->value.data, any->value.len}, &content, w->err);
    if (rc < 0) {
        jsonw_null(&w->w);
        return rc;
    }
    w->anys++;
    jsonw_object(&w->w);
    jsonw_key(&w->w, "@type");
    jsonw_str(&w->w, url);
    if (rpc_meta_of(type)->kind == RPC_KIND_PLAIN) {
        rc = depth < RPC_DEPTH_MAX ? json_out_fields(w, content, depth + 1)
                                   : err_set(w->err, ERR_EXHAUSTED, "the message is nested deeper than %d", RPC_DEPTH_MAX);
    } else {
        jsonw_key(&w->w, "value");
        rc = json_out_message(w, type, content, depth + 1);
    }
    jsonw_object_end(&w->w);
    w->anys--;
    (void)rpc_message_free(content);
    return rc;
}

static int put_list(struct json_writer *w, const ProtobufCMessage *m, unsigned depth)
{
    const Google__Protobuf__ListValue *list = (const void *)m;
    int rc = 0;
    jsonw_array(&w->w);
    for (size_t i = 0; rc == 0 && i < list->n_values; i++)
        rc = json_out_message(w, &google__protobuf__value__descriptor, &list->values[i]->base, depth + 1);
    jsonw_array_end(&w->w);
    return rc;
}

int json_out_known(struct json_writer *w, enum rpc_kind kind, const ProtobufCMessage *m, unsigned depth)
{
    const ProtobufCFieldDescriptor *first = m->descriptor->fields;
    const void *any_type = m;
    switch (kind) {
    case RPC_KIND_TIMESTAMP: return put_time(w, any_type);
    case RPC_KIND_DURATION: return put_span(w, any_type);
    case RPC_KIND_FIELD_MASK: return put_mask(w, any_type);
    case RPC_KIND_ANY: return put_any(w, any_type, depth);
    case RPC_KIND_STRUCT: {
        const Google__Protobuf__Struct *s = any_type;
        return json_out_map(w, first, (ProtobufCMessage *const *)(void *)s->fields, s->n_fields, depth);
    }
    case RPC_KIND_LIST_VALUE: return put_list(w, m, depth);
    case RPC_KIND_VALUE: return put_value(w, m, depth);
    case RPC_KIND_WRAPPER: return json_out_value(w, first, (const char *)m + first->offset, depth);
    default: return bad(w, "no type that stands alone");
    }
}
