/* SPDX-License-Identifier: Apache-2.0 */
/* json_in — messages from ProtoJSON.  Stricter than its text where it leaves a choice: duplicate keys and two members of one oneof are
 * refused, NUL in strings too (protobuf-c cannot carry it). Unknown keys are passed over, as Connect servers do.
 * Limits: nesting RPC_DEPTH_MAX / 2 (each level of a message may be two of JSON), 8 MiB allocated.  Source: protobuf.dev, ProtoJSON format.
 * Input trust: peer. */
#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "rpc/json_name.h"
#include "rpc/rpc.h"

enum { BUDGET = 8 * 1024 * 1024, COST_ALLOC = 16, FIELDS_MAX = 256, NUMBER_MAX = 64 };

struct reader {
    struct json j;
    size_t budget;
    struct err *err;
};

static int bad(struct reader *r, const ProtobufCFieldDescriptor *f, const char *what)
{
    return err_set(r->err, ERR_INVALID, "field %s: %s", f->name, what);
}

static int spend(struct reader *r, size_t n)
{
    if (n + COST_ALLOC > r->budget)
        return err_set(r->err, ERR_EXHAUSTED, "the message would take more than %d bytes of memory", BUDGET);
    r->budget -= n + COST_ALLOC;
    return 0;
}

/* ---- numbers ---- */

struct decimal {
    bool negative;
    char digits[NUMBER_MAX + 1];
    size_t n;      /* without leading zeros */
    long exponent; /* of ten, behind the last digit */
};

static size_t take_digits(struct str *s, struct decimal *d, bool fraction)
{
    size_t n = 0;
    for (; n < s->n && isdigit((unsigned char)s->p[n]); n++) {
        if (d->n || s->p[n] != '0')
            d->digits[d->n++] = s->p[n];
        if (fraction)
            d->exponent--;
    }
    *s = (struct str){s->p + n, s->n - n};
    return n;
}

/* Digits with optional sign, fraction and exponent; the whole of @s. */
static int parse_decimal(struct str s, struct decimal *d)
{
    *d = (struct decimal){0};
    if (s.n == 0 || s.n > NUMBER_MAX)
        return -ERR_INVALID;
    d->negative = *s.p == '-';
    if (d->negative)
        s = (struct str){s.p + 1, s.n - 1};
    if (s.n > 1 && s.p[0] == '0' && isdigit((unsigned char)s.p[1]))
        return -ERR_INVALID;
    if (take_digits(&s, d, false) == 0)
        return -ERR_INVALID;
    if (s.n && *s.p == '.') {
        s = (struct str){s.p + 1, s.n - 1};
        if (take_digits(&s, d, true) == 0)
            return -ERR_INVALID;
    }
    if (s.n && (*s.p == 'e' || *s.p == 'E')) {
        s = (struct str){s.p + 1, s.n - 1};
        int64_t e;
        if (s.n && *s.p == '+')
            s = (struct str){s.p + 1, s.n - 1};
        if (str_to_i64(s, -100000, 100000, &e) < 0)
            return -ERR_INVALID;
        d->exponent += (long)e;
        s.n = 0;
    }
    while (d->n && d->digits[d->n - 1] == '0') {
        d->n--;
        d->exponent++;
    }
    return s.n ? -ERR_INVALID : 0;
}

/* Magnitude of an integral value. 0, or negative for a fraction or what exceeds 64 bits. */
static int integral(const struct decimal *d, uint64_t *ret)
{
    uint64_t v = 0;
    if (d->n == 0) {
        *ret = 0;
        return 0;
    }
    if (d->exponent < 0 || d->exponent > 20 || (long)d->n + d->exponent > 20)
        return -ERR_RANGE;
    for (size_t i = 0; i < d->n + (size_t)d->exponent; i++)
        if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(i < d->n ? d->digits[i] - '0' : 0), &v))
            return -ERR_RANGE;
    *ret = v;
    return 0;
}

static int get_integer(struct reader *r, const ProtobufCFieldDescriptor *f, uint64_t max, uint64_t max_negative, uint64_t *ret)
{
    struct decimal d;
    uint64_t v;
    if (parse_decimal(r->j.value, &d) < 0)
        return bad(r, f, "not a number");
    if (integral(&d, &v) < 0 || v > (d.negative ? max_negative : max))
        return bad(r, f, "the number is out of range or not whole");
    *ret = d.negative ? 0 - v : v;
    return 0;
}

static int get_double(struct reader *r, const ProtobufCFieldDescriptor *f, enum json_type token, double *ret)
{
    struct decimal d;
    struct str s = r->j.value;
    if (token == JSON_STRING && (str_eq(s, STR("NaN")) || str_eq(s, STR("Infinity")) || str_eq(s, STR("-Infinity")))) {
        *ret = *s.p == 'N' ? (double)NAN : *s.p == 'I' ? (double)INFINITY : -(double)INFINITY;
        return 0;
    }
    char text[NUMBER_MAX + 1];
    if (parse_decimal(s, &d) < 0)
        return bad(r, f, "not a number");
    (void)str_copy(text, sizeof(text), s);
    *ret = strtod(text, NULL);
    if (isinf(*ret) || (f->type == PROTOBUF_C_TYPE_FLOAT && isinf((float)*ret)))
        return bad(r, f, "the number is out of range");
    return 0;
}

/* ---- values: the token of each was read ---- */

static int get_message(struct reader *r, const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret, unsigned depth);

static int get_string(struct reader *r, const ProtobufCFieldDescriptor *f, char **ret)
{
    struct str s = r->j.value;
    if (s.n && memchr(s.p, 0, s.n))
        return bad(r, f, "contains NUL");
    int rc = spend(r, s.n + 1);
    if (rc == 0)
        *ret = str_dup(s);
    return rc;
}

static int get_bytes(struct reader *r, const ProtobufCFieldDescriptor *f, ProtobufCBinaryData *ret)
{
    struct str s = r->j.value;
    size_t room = s.n / 4 * 3 + 3;
    int rc = spend(r, room);
    if (rc < 0)
        return rc;
    AUTO_FREE uint8_t *data = mem_alloc(room);
    if (str_unbase64(s, data, room, &ret->len) < 0) {
        ret->len = 0;
        return bad(r, f, "not base64");
    }
    ret->data = TAKE(data);
    return 0;
}

static int get_enum(struct reader *r, const ProtobufCFieldDescriptor *f, enum json_type token, int *ret)
{
    uint64_t v;
    if (token == JSON_STRING) {
        char name[JSON_NAME_MAX];
        const ProtobufCEnumValue *e = NULL;
        if (r->j.value.n < sizeof(name)) {
            (void)str_copy(name, sizeof(name), r->j.value);
            e = protobuf_c_enum_descriptor_get_value_by_name(f->descriptor, name);
        }
        if (!e)
            return bad(r, f, "no such value");
        *ret = e->value;
        return 0;
    }
    int rc = get_integer(r, f, INT32_MAX, (uint64_t)INT32_MAX + 1, &v);
    if (rc == 0)
        *ret = (int)(int64_t)v;
    return rc;
}

static int get_number(struct reader *r, const ProtobufCFieldDescriptor *f, enum json_type token, void *at)
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

static int get_value(struct reader *r, const ProtobufCFieldDescriptor *f, enum json_type token, void *at, unsigned depth)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_BOOL:
        if (token != JSON_BOOL)
            return bad(r, f, "not true or false");
        *(protobuf_c_boolean *)at = r->j.boolean;
        return 0;
    case PROTOBUF_C_TYPE_STRING: return token == JSON_STRING ? get_string(r, f, at) : bad(r, f, "not a string");
    case PROTOBUF_C_TYPE_BYTES: return token == JSON_STRING ? get_bytes(r, f, at) : bad(r, f, "not a string");
    case PROTOBUF_C_TYPE_MESSAGE:
        return token == JSON_OBJECT ? get_message(r, f->descriptor, at, depth + 1) : bad(r, f, "not an object");
    default: break;
    }
    if (token != JSON_NUMBER && token != JSON_STRING)
        return bad(r, f, "not a number");
    return f->type == PROTOBUF_C_TYPE_ENUM ? get_enum(r, f, token, at) : get_number(r, f, token, at);
}

static int get_repeated(struct reader *r, const ProtobufCFieldDescriptor *f, char *m, unsigned depth)
{
    size_t size = json_element_size(f->type), cap = 0;
    char **items = (char **)(void *)(m + f->offset);
    size_t *n = (size_t *)(void *)(m + f->quantifier_offset);
    int more, rc = 0;
    while (rc == 0 && (more = json_item(&r->j, r->err)) > 0) {
        enum json_type token;
        if (*n == cap) {
            size_t grown = cap ? cap * 2 : 4;
            rc = spend(r, (grown - cap) * size);
            if (rc < 0)
                return rc;
            *items = mem_resize(*items, grown, size);
            cap = grown;
        }
        memset(*items + *n * size, 0, size);
        rc = json_next(&r->j, &token, r->err);
        if (rc == 0 && token == JSON_NULL)
            rc = bad(r, f, "null among the elements");
        if (rc == 0)
            rc = get_value(r, f, token, *items + *n * size, depth);
        if (rc == 0)
            ++*n;
    }
    return rc < 0 ? rc : more;
}

/* ---- messages ---- */

static const ProtobufCFieldDescriptor *find(const ProtobufCMessageDescriptor *type, struct str key)
{
    char name[JSON_NAME_MAX];
    for (unsigned i = 0; i < type->n_fields; i++) {
        json_name(type->fields[i].name, name);
        if (str_eq(key, str_from(name)) || str_eq(key, str_from(type->fields[i].name)))
            return &type->fields[i];
    }
    return NULL;
}

static int get_field(struct reader *r, const ProtobufCFieldDescriptor *f, ProtobufCMessage *m, unsigned depth)
{
    enum json_type token;
    char *at = (char *)m + f->offset, *quantifier = (char *)m + f->quantifier_offset;
    int rc = json_next(&r->j, &token, r->err);
    if (rc < 0 || token == JSON_NULL)
        return rc;
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return token == JSON_ARRAY ? get_repeated(r, f, (char *)m, depth) : bad(r, f, "not an array");
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        uint32_t *which = (uint32_t *)(void *)quantifier;
        if (*which)
            return bad(r, f, "another member of its oneof is set");
        memset(at, 0, json_element_size(f->type));
        rc = get_value(r, f, token, at, depth);
        if (rc == 0)
            *which = f->id;
        return rc;
    }
    rc = get_value(r, f, token, at, depth);
    if (rc == 0 && f->label == PROTOBUF_C_LABEL_OPTIONAL && f->type != PROTOBUF_C_TYPE_MESSAGE &&
        f->type != PROTOBUF_C_TYPE_STRING)
        *(protobuf_c_boolean *)(void *)quantifier = 1;
    return rc;
}

static int fill(struct reader *r, const ProtobufCMessageDescriptor *type, ProtobufCMessage *m, unsigned depth)
{
    uint64_t seen[FIELDS_MAX / 64] = {0};
    struct str key;
    int rc;
    while ((rc = json_key(&r->j, &key, r->err)) > 0) {
        const ProtobufCFieldDescriptor *f = find(type, key);
        if (!f) {
            rc = json_skip(&r->j, r->err);
            if (rc < 0)
                return rc;
            continue;
        }
        size_t i = (size_t)(f - type->fields);
        if (i >= FIELDS_MAX || seen[i / 64] & (1ULL << (i % 64)))
            return bad(r, f, "given twice");
        seen[i / 64] |= 1ULL << (i % 64);
        rc = get_field(r, f, m, depth);
        if (rc < 0)
            return rc;
    }
    return rc;
}

/* The object's start was read. */
static int get_message(struct reader *r, const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret, unsigned depth)
{
    if (depth > RPC_DEPTH_MAX / 2)
        return err_set(r->err, ERR_INVALID, "the message is nested deeper than %d", RPC_DEPTH_MAX / 2);
    int rc = spend(r, type->sizeof_message);
    if (rc < 0)
        return rc;
    ProtobufCMessage *m = mem_alloc(type->sizeof_message);
    type->message_init(m);
    rc = fill(r, type, m, depth);
    if (rc < 0) {
        (void)rpc_message_free(m);
        return rc;
    }
    *ret = m;
    return 0;
}

int rpc_from_json(const ProtobufCMessageDescriptor *type, struct str json, ProtobufCMessage **ret, struct err *err)
{
    if (json.n > RPC_MESSAGE_MAX)
        return err_set(err, ERR_EXHAUSTED, "a message of %zu bytes is over the limit of %d", json.n, RPC_MESSAGE_MAX);
    struct reader r = {.budget = BUDGET, .err = err};
    enum json_type token;
    ProtobufCMessage *m = NULL;
    json_init(&r.j, json);
    int rc = json_next(&r.j, &token, err);
    if (rc == 0)
        rc = token == JSON_OBJECT ? get_message(&r, type, &m, 1) : err_set(err, ERR_INVALID, "a message is a JSON object");
    if (rc == 0)
        rc = json_next(&r.j, &token, err); /* anything behind it is an error of the reader's */
    json_release(&r.j);
    if (rc < 0) {
        (void)rpc_message_free(m);
        return rc;
    }
    *ret = m;
    return 0;
}
