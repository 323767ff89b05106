/* SPDX-License-Identifier: Apache-2.0 */
/* json_in — messages from ProtoJSON: fields and maps; the well-known types are in json_in_known.c.  Stricter than its text where it leaves a
 * choice: duplicate keys and two members of one oneof are refused, NUL in strings too (protobuf-c cannot carry it). Unknown keys are passed
 * over, as Connect servers do.
 * Limits: messages nested RPC_DEPTH_MAX, text nested JSON_DEPTH_MAX, numbers JSON_TEXT_MAX, 8 MiB allocated.
 * Source: protobuf.dev, ProtoJSON format.  Input trust: peer. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "google/protobuf/struct.pb-c.h"
#include "rpc/json_internal.h"
#include "rpc/json_text.h"
#include "rpc/rpc_internal.h"

enum { BUDGET = 8 * 1024 * 1024, COST_ALLOC = 16, ENUM_NAME_MAX = 256 };

int json_in_bad(struct json_reader *r, const char *name, const char *what)
{
    return err_set(r->err, ERR_INVALID, "field %s: %s", name, what);
}

int json_in_spend(struct json_reader *r, size_t n)
{
    if (n + COST_ALLOC > r->budget)
        return err_set(r->err, ERR_EXHAUSTED, "the message would take more than %d bytes of memory", BUDGET);
    r->budget -= n + COST_ALLOC;
    return 0;
}

bool json_takes_null(const ProtobufCFieldDescriptor *f)
{
    return f->descriptor == &google__protobuf__null_value__descriptor || f->descriptor == &google__protobuf__value__descriptor;
}

/* ---- values: the token of each was read ---- */

static int get_integer(struct json_reader *r, const ProtobufCFieldDescriptor *f, uint64_t max, uint64_t max_negative,
                       uint64_t *ret)
{
    int rc = json_text_integer(r->j.value, max, max_negative, ret);
    return rc == 0 ? 0 : json_in_bad(r, f->name, rc == -ERR_INVALID ? "not a number" : "the number is out of range or not whole");
}

static int get_double(struct json_reader *r, const ProtobufCFieldDescriptor *f, enum json_type token, double *ret)
{
    struct str s = r->j.value;
    if (token == JSON_STRING && (str_eq(s, STR("NaN")) || str_eq(s, STR("Infinity")) || str_eq(s, STR("-Infinity")))) {
        *ret = *s.p == 'N' ? (double)NAN : *s.p == 'I' ? (double)INFINITY : -(double)INFINITY;
        return 0;
    }
    int rc = json_text_double(s, f->type == PROTOBUF_C_TYPE_FLOAT, ret);
    return rc == 0 ? 0 : json_in_bad(r, f->name, rc == -ERR_INVALID ? "not a number" : "the number is out of range");
}

static int get_string(struct json_reader *r, const ProtobufCFieldDescriptor *f, char **ret)
{
    struct str s = r->j.value;
    if (s.n && memchr(s.p, 0, s.n))
        return json_in_bad(r, f->name, "contains NUL");
    int rc = json_in_spend(r, s.n + 1);
    if (rc == 0)
        *ret = str_dup(s);
    return rc;
}

static int get_bytes(struct json_reader *r, const ProtobufCFieldDescriptor *f, ProtobufCBinaryData *ret)
{
    struct str s = r->j.value;
    size_t room = s.n / 4 * 3 + 3;
    int rc = json_in_spend(r, room);
    if (rc < 0)
        return rc;
    AUTO_FREE uint8_t *data = mem_alloc(room);
    if (str_unbase64(s, data, room, &ret->len) < 0) {
        ret->len = 0;
        return json_in_bad(r, f->name, "not base64");
    }
    ret->data = TAKE(data);
    return 0;
}

static int get_enum(struct json_reader *r, const ProtobufCFieldDescriptor *f, enum json_type token, int *ret)
{
    uint64_t v;
    if (token == JSON_STRING) {
        char name[ENUM_NAME_MAX];
        const ProtobufCEnumValue *e = NULL;
        if (r->j.value.n && r->j.value.n < sizeof(name) && !memchr(r->j.value.p, 0, r->j.value.n)) {
            (void)str_copy(name, sizeof(name), r->j.value);
            e = protobuf_c_enum_descriptor_get_value_by_name(f->descriptor, name);
        }
        if (!e)
            return json_in_bad(r, f->name, "no such value");
        *ret = e->value;
        return 0;
    }
    int rc = get_integer(r, f, INT32_MAX, (uint64_t)INT32_MAX + 1, &v);
    if (rc == 0)
        *ret = (int)(int64_t)v;
    return rc;
}

static int get_number(struct json_reader *r, const ProtobufCFieldDescriptor *f, enum json_type token, void *at)
{
    uint64_t v = 0;
    double d;
    int rc;
    switch (f->type) {
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        rc = get_integer(r, f, UINT32_MAX, 0, &v);
        *(uint32_t *)at = (uint32_t)v;
        return rc;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64: return get_integer(r, f, INT64_MAX, (uint64_t)INT64_MAX + 1, at);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: return get_integer(r, f, UINT64_MAX, 0, at);
    case PROTOBUF_C_TYPE_FLOAT:
        rc = get_double(r, f, token, &d);
        if (rc == 0)
            *(float *)at = (float)d;
        return rc;
    case PROTOBUF_C_TYPE_DOUBLE: return get_double(r, f, token, at);
    default:
        rc = get_integer(r, f, INT32_MAX, (uint64_t)INT32_MAX + 1, &v);
        *(int32_t *)at = (int32_t)(int64_t)v;
        return rc;
    }
}

int json_in_value(struct json_reader *r, const ProtobufCFieldDescriptor *f, enum json_type token, void *at, unsigned depth)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_BOOL:
        if (token != JSON_BOOL)
            return json_in_bad(r, f->name, "not true or false");
        *(protobuf_c_boolean *)at = r->j.boolean;
        return 0;
    case PROTOBUF_C_TYPE_STRING: return token == JSON_STRING ? get_string(r, f, at) : json_in_bad(r, f->name, "not a string");
    case PROTOBUF_C_TYPE_BYTES: return token == JSON_STRING ? get_bytes(r, f, at) : json_in_bad(r, f->name, "not a string");
    case PROTOBUF_C_TYPE_MESSAGE: return json_in_message(r, f->descriptor, f->name, token, at, depth + 1);
    default: break;
    }
    if (token == JSON_NULL && json_takes_null(f)) {
        *(int *)at = 0;
        return 0;
    }
    if (token != JSON_NUMBER && token != JSON_STRING)
        return json_in_bad(r, f->name, "not a number");
    return f->type == PROTOBUF_C_TYPE_ENUM ? get_enum(r, f, token, at) : get_number(r, f, token, at);
}

/* ---- several ---- */

/* Room for one more element behind @n, zeroed. */
static int make_room(struct json_reader *r, char **items, size_t n, size_t *cap, size_t size)
{
    if (n == *cap) {
        size_t grown = *cap ? *cap * 2 : 4;
        int rc = json_in_spend(r, (grown - *cap) * size);
        if (rc < 0)
            return rc;
        *items = mem_resize(*items, grown, size);
        *cap = grown;
    }
    memset(*items + n * size, 0, size);
    return 0;
}

int json_in_repeated(struct json_reader *r, const ProtobufCFieldDescriptor *f, ProtobufCMessage *m, unsigned depth)
{
    size_t size = rpc_element_size(f->type), cap = 0;
    char **items = (char **)(void *)((char *)m + f->offset);
    size_t *n = (size_t *)(void *)((char *)m + f->quantifier_offset);
    int more = 0, rc = 0;
    while (rc == 0 && (more = json_item(&r->j, r->err)) > 0) {
        enum json_type token;
        rc = make_room(r, items, *n, &cap, size);
        if (rc == 0)
            rc = json_next(&r->j, &token, r->err);
        if (rc == 0 && token == JSON_NULL && !json_takes_null(f))
            rc = json_in_bad(r, f->name, "null among the elements");
        if (rc == 0)
            rc = json_in_value(r, f, token, *items + *n * size, depth);
        if (rc == 0)
            ++*n;
    }
    return rc < 0 ? rc : more;
}

/* A map's key is text in JSON whatever its type. */
static int get_key(struct json_reader *r, const ProtobufCFieldDescriptor *f, void *at)
{
    if (f->type == PROTOBUF_C_TYPE_STRING)
        return get_string(r, f, at);
    if (f->type != PROTOBUF_C_TYPE_BOOL)
        return get_number(r, f, JSON_STRING, at);
    *(protobuf_c_boolean *)at = str_eq(r->j.value, STR("true"));
    return *(protobuf_c_boolean *)at || str_eq(r->j.value, STR("false"))
               ? 0
               : json_in_bad(r, f->name, "a key that is not true or false");
}

/* One entry; its key was read. */
static int get_entry(struct json_reader *r, const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret, unsigned depth)
{
    const ProtobufCFieldDescriptor *key = &type->fields[0], *value = &type->fields[1];
    enum json_type token;
    int rc = json_in_spend(r, type->sizeof_message);
    if (rc < 0)
        return rc;
    ProtobufCMessage *m = mem_alloc(type->sizeof_message);
    type->message_init(m);
    rc = get_key(r, key, (char *)m + key->offset);
    if (rc == 0)
        rc = json_next(&r->j, &token, r->err);
    if (rc == 0 && token == JSON_NULL && !json_takes_null(value))
        rc = json_in_bad(r, value->name, "null as the value of a map");
    if (rc == 0)
        rc = json_in_value(r, value, token, (char *)m + value->offset, depth);
    if (rc < 0) {
        (void)rpc_message_free(m);
        return rc;
    }
    *ret = m;
    return 0;
}

static int check_keys(struct json_reader *r, const ProtobufCFieldDescriptor *f, ProtobufCMessage *const *entries, size_t n)
{
    if (n < 2)
        return 0;
    AUTO_FREE ProtobufCMessage **sorted = json_map_sorted(f, entries, n);
    for (size_t i = 1; i < n; i++)
        if (json_map_compare(f, sorted[i - 1], sorted[i]) == 0)
            return json_in_bad(r, f->name, "a key is given twice");
    return 0;
}

int json_in_map(struct json_reader *r, const ProtobufCFieldDescriptor *f, ProtobufCMessage *m, unsigned depth)
{
    char **items = (char **)(void *)((char *)m + f->offset);
    size_t *n = (size_t *)(void *)((char *)m + f->quantifier_offset), cap = 0, size = sizeof(ProtobufCMessage *);
    struct str key;
    int more = 0, rc = 0;
    if (depth >= RPC_DEPTH_MAX)
        return err_set(r->err, ERR_INVALID, "the message is nested deeper than %d", RPC_DEPTH_MAX);
    while (rc == 0 && (more = json_key(&r->j, &key, r->err)) > 0) {
        rc = make_room(r, items, *n, &cap, size);
        if (rc == 0)
            rc = get_entry(r, f->descriptor, (void *)(*items + *n * size), depth + 1);
        if (rc == 0)
            ++*n;
    }
    if (rc < 0 || more < 0)
        return rc < 0 ? rc : more;
    return check_keys(r, f, (ProtobufCMessage *const *)(void *)*items, *n);
}

/* ---- messages ---- */

static int get_oneof(struct json_reader *r, const ProtobufCFieldDescriptor *f, ProtobufCMessage *m, enum json_type token,
                     unsigned depth)
{
    uint32_t *which = (uint32_t *)(void *)((char *)m + f->quantifier_offset);
    char *at = (char *)m + f->offset;
    if (*which) {
        const char *oneof = json_field_meta(m->descriptor, f)->oneof;
        return err_set(r->err, ERR_INVALID, "field %s: another member of %s is set", f->name, oneof ? oneof : "its oneof");
    }
    memset(at, 0, rpc_element_size(f->type));
    int rc = json_in_value(r, f, token, at, depth);
    if (rc == 0)
        *which = f->id;
    return rc;
}

static int get_field(struct json_reader *r, const ProtobufCFieldDescriptor *f, ProtobufCMessage *m, unsigned depth)
{
    enum json_type token;
    char *at = (char *)m + f->offset;
    int rc = json_next(&r->j, &token, r->err);
    bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;
    if (rc < 0 || (token == JSON_NULL && (repeated || !json_takes_null(f))))
        return rc;
    if (json_field_meta(m->descriptor, f)->flags & RPC_FIELD_MAP)
        return token == JSON_OBJECT ? json_in_map(r, f, m, depth) : json_in_bad(r, f->name, "not an object");
    if (repeated)
        return token == JSON_ARRAY ? json_in_repeated(r, f, m, depth) : json_in_bad(r, f->name, "not an array");
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return get_oneof(r, f, m, token, depth);
    return json_in_value(r, f, token, at, depth);
}

int json_in_fields(struct json_reader *r, ProtobufCMessage *m, unsigned depth)
{
    uint64_t seen[RPC_FIELDS_MAX / 64] = {0};
    struct str key;
    int rc;
    while ((rc = json_key(&r->j, &key, r->err)) > 0) {
        const ProtobufCFieldDescriptor *f = rpc_field_named(m->descriptor, key);
        if (!f) {
            rc = json_skip(&r->j, r->err);
            if (rc < 0)
                return rc;
            continue;
        }
        size_t i = (size_t)(f - m->descriptor->fields);
        if (seen[i / 64] & (1ULL << (i % 64)))
            return json_in_bad(r, f->name, "given twice");
        seen[i / 64] |= 1ULL << (i % 64);
        rc = get_field(r, f, m, depth);
        if (rc < 0)
            return rc;
    }
    return rc;
}

int json_in_message(struct json_reader *r, const ProtobufCMessageDescriptor *type, const char *name, enum json_type token,
                    ProtobufCMessage **ret, unsigned depth)
{
    enum rpc_kind kind = rpc_meta_of(type)->kind;
    if (depth > RPC_DEPTH_MAX)
        return err_set(r->err, ERR_INVALID, "the message is nested deeper than %d", RPC_DEPTH_MAX);
    if (kind == RPC_KIND_PLAIN && token != JSON_OBJECT)
        return json_in_bad(r, name, "not an object");
    int rc = json_in_spend(r, type->sizeof_message);
    if (rc < 0)
        return rc;
    ProtobufCMessage *m = mem_alloc(type->sizeof_message);
    type->message_init(m);
    rc = kind == RPC_KIND_PLAIN ? json_in_fields(r, m, depth) : json_in_known(r, kind, name, token, m, depth);
    if (rc < 0) {
        (void)rpc_message_free(m);
        return rc;
    }
    *ret = m;
    return 0;
}

int message_from_json(const ProtobufCMessageDescriptor *type, struct str json, ProtobufCMessage **ret, size_t *ret_cost,
                      struct err *err)
{
    if (json.n > RPC_MESSAGE_MAX)
        return err_set(err, ERR_EXHAUSTED, "a message of %zu bytes is over the limit of %d", json.n, RPC_MESSAGE_MAX);
    struct json_reader r = {.budget = BUDGET, .err = err};
    enum json_type token;
    ProtobufCMessage *m = NULL;
    json_init(&r.j, json);
    int rc = json_next(&r.j, &token, err);
    if (rc == 0)
        rc = json_in_message(&r, type, type->short_name, token, &m, 1);
    if (rc == 0)
        rc = json_next(&r.j, &token, err); /* anything behind it is an error of the reader's */
    json_release(&r.j);
    if (rc < 0) {
        (void)rpc_message_free(m);
        return rc;
    }
    *ret = m;
    *ret_cost = BUDGET - r.budget;
    return 0;
}

int rpc_from_json(const ProtobufCMessageDescriptor *type, struct str json, ProtobufCMessage **ret, struct err *err)
{
    size_t cost;
    return message_from_json(type, json, ret, &cost, err);
}
