/* SPDX-License-Identifier: Apache-2.0 */
/* json_in_known — the well-known types that have a form of their own in JSON; see json_internal.h. */
#include <string.h>

#include "base/mem.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/field_mask.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "rpc/json_internal.h"
#include "rpc/json_text.h"

enum { PATH_MAX_BYTES = 4096, URL_MAX = 1024 };

static int get_time(struct json_reader *r, const char *name, Google__Protobuf__Timestamp *m)
{
    return json_text_time(r->j.value, &m->seconds, &m->nanos) < 0 ? json_in_bad(r, name, "not a time as 2001-02-03T04:05:06Z")
                                                                  : 0;
}

static int get_span(struct json_reader *r, const char *name, Google__Protobuf__Duration *m)
{
    return json_text_span(r->j.value, &m->seconds, &m->nanos) < 0 ? json_in_bad(r, name, "not a duration as 1.5s") : 0;
}

static int get_mask(struct json_reader *r, const char *name, Google__Protobuf__FieldMask *m)
{
    struct str rest = r->j.value;
    size_t n = 1;
    if (rest.n == 0)
        return 0;
    for (size_t i = 0; i < rest.n; i++)
        n += rest.p[i] == ',';
    int rc = json_in_spend(r, n * sizeof(char *));
    if (rc < 0)
        return rc;
    m->paths = mem_zalloc(n, sizeof(char *));
    AUTO_BUF path = BUF_INIT(PATH_MAX_BYTES);
    while (m->n_paths < n) {
        buf_clear(&path);
        if (json_text_path(str_cut(&rest, ','), &path) < 0)
            return json_in_bad(r, name, "not a list of paths as fooBar,baz");
        rc = json_in_spend(r, path.len + 1);
        if (rc < 0)
            return rc;
        m->paths[m->n_paths++] = str_dup(buf_str(&path));
    }
    return 0;
}

static int get_value(struct json_reader *r, enum json_type token, ProtobufCMessage *m, unsigned depth)
{
    static const Google__Protobuf__Value__KindCase of[] = {
        [JSON_NULL] = GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE,     [JSON_BOOL] = GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE,
        [JSON_NUMBER] = GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE, [JSON_STRING] = GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE,
        [JSON_OBJECT] = GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE, [JSON_ARRAY] = GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE};
    Google__Protobuf__Value *v = (void *)m;
    const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(m->descriptor, of[token]);
    char *at = (char *)m + f->offset;
    memset(at, 0, rpc_element_size(f->type));
    int rc = json_in_value(r, f, token, at, depth);
    if (rc == 0)
        v->kind_case = of[token];
    return rc;
}

/* ---- Any ---- */

/* The "@type" of the object whose start was read, wherever it stands in it; *ret is empty if there is none. */
static int find_type(const struct json_reader *r, struct buf *ret, bool *ret_empty)
{
    struct str key, url;
    size_t start = r->j.pos - 1;
    AUTO_JSON j;
    json_init(&j, (struct str){r->j.text.p + start, r->j.text.n - start});
    int rc = json_enter(&j, JSON_OBJECT, r->err);
    if (rc < 0)
        return rc;
    *ret_empty = true;
    while ((rc = json_key(&j, &key, r->err)) > 0) {
        *ret_empty = false;
        if (!str_eq(key, STR("@type"))) {
            rc = json_skip(&j, r->err);
        } else if (ret->len) {
            return err_set(r->err, ERR_INVALID, "@type is given twice");
        } else {
            rc = json_read_str(&j, &url, r->err);
            if (rc == 0 && (url.n == 0 || memchr(url.p, 0, url.n) || buf_append_str(ret, url) < 0))
                return err_set(r->err, ERR_INVALID, "@type is empty, contains NUL or is longer than %d bytes", URL_MAX);
        }
        if (rc < 0)
            return rc;
    }
    return rc;
}

/* {"@type": ..., "value": what the type looks like}; the start of the object was read. */
static int get_boxed(struct json_reader *r, const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret, unsigned depth)
{
    struct str key;
    int rc;
    while ((rc = json_key(&r->j, &key, r->err)) > 0) {
        enum json_type token;
        if (!str_eq(key, STR("value"))) {
            rc = json_skip(&r->j, r->err);
        } else if (*ret) {
            return json_in_bad(r, "value", "given twice");
        } else {
            rc = json_next(&r->j, &token, r->err);
            if (rc == 0)
                rc = json_in_message(r, type, "value", token, ret, depth);
        }
        if (rc < 0)
            return rc;
    }
    return rc < 0 || *ret ? rc : json_in_bad(r, "value", "missing");
}

static int pack_any(struct json_reader *r, Google__Protobuf__Any *any, struct str url, const ProtobufCMessage *content)
{
    size_t n = protobuf_c_message_get_packed_size(content);
    int rc = json_in_spend(r, url.n + 1);
    if (rc == 0)
        rc = json_in_spend(r, n);
    if (rc < 0)
        return rc;
    any->type_url = str_dup(url);
    any->value.data = mem_alloc(n + 1);
    any->value.len = protobuf_c_message_pack(content, any->value.data);
    return 0;
}

static int get_any(struct json_reader *r, const char *name, Google__Protobuf__Any *any, unsigned depth)
{
    AUTO_BUF url = BUF_INIT(URL_MAX);
    bool empty;
    struct str key;
    int rc = find_type(r, &url, &empty);
    if (rc < 0)
        return rc;
    if (empty)
        return json_key(&r->j, &key, r->err);
    const ProtobufCMessageDescriptor *type = rpc_any_find(buf_str(&url));
    if (!type)
        return json_in_bad(r, name, url.len ? "@type is none that is known here" : "@type is missing");
    ProtobufCMessage *content = NULL;
    if (++r->anys > JSON_ANYS_MAX)
        return json_in_bad(r, name, "too many Any in one another");
    if (rpc_meta_of(type)->kind == RPC_KIND_PLAIN) /* "@type" is no field of it and passed over */
        rc = json_in_message(r, type, name, JSON_OBJECT, &content, depth + 1);
    else
        rc = get_boxed(r, type, &content, depth + 1);
    r->anys--;
    if (rc == 0)
        rc = pack_any(r, any, buf_str(&url), content);
    (void)rpc_message_free(content);
    return rc;
}

int json_in_known(struct json_reader *r, enum rpc_kind kind, const char *name, enum json_type token, ProtobufCMessage *m,
                  unsigned depth)
{
    const ProtobufCFieldDescriptor *first = m->descriptor->fields;
    void *any_type = m;
    switch (kind) {
    case RPC_KIND_TIMESTAMP: return token == JSON_STRING ? get_time(r, name, any_type) : json_in_bad(r, name, "not a string");
    case RPC_KIND_DURATION: return token == JSON_STRING ? get_span(r, name, any_type) : json_in_bad(r, name, "not a string");
    case RPC_KIND_FIELD_MASK: return token == JSON_STRING ? get_mask(r, name, any_type) : json_in_bad(r, name, "not a string");
    case RPC_KIND_ANY: return token == JSON_OBJECT ? get_any(r, name, any_type, depth) : json_in_bad(r, name, "not an object");
    case RPC_KIND_STRUCT: return token == JSON_OBJECT ? json_in_map(r, first, m, depth) : json_in_bad(r, name, "not an object");
    case RPC_KIND_LIST_VALUE:
        return token == JSON_ARRAY ? json_in_repeated(r, first, m, depth) : json_in_bad(r, name, "not an array");
    case RPC_KIND_VALUE: return get_value(r, token, m, depth);
    case RPC_KIND_WRAPPER: return json_in_value(r, first, token, (char *)m + first->offset, depth);
    default: return json_in_bad(r, name, "no type that stands alone");
    }
}
