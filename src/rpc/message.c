/* SPDX-License-Identifier: Apache-2.0 */
/* message — protobuf-c behind a guard: protobuf-c 1.4 limits neither nesting nor memory, checks no UTF-8 and cuts strings at NUL, so every
 * message from outside is walked once by its descriptor before it is unpacked.  Source: protobuf.dev, encoding. */
#include <string.h>

#include "base/mem.h"
#include "rpc/rpc_internal.h"
#include "rpc/schema.h"

enum {
    BUDGET = 8 * 1024 * 1024, /* what unpacking may allocate */
    COST_ALLOC = 16,          /* of malloc, per piece */
    COST_MEMBER = 48,         /* protobuf-c's own note of each field while it parses */
    MERGES_MAX = 64           /* of a sub-message that comes in parts: each makes protobuf-c copy what it has */
};

struct scan {
    size_t budget;
    unsigned merges;
    struct err *err;
};

struct cursor {
    const uint8_t *p, *end;
};

static int take_varint(struct cursor *c, uint64_t *ret)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (c->p == c->end)
            return -ERR_INVALID;
        uint8_t b = *c->p++;
        if (shift == 63 && b > 1)
            return -ERR_INVALID;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *ret = v;
            return 0;
        }
    }
    return -ERR_INVALID;
}

static int spend(struct scan *s, size_t n)
{
    if (n > s->budget)
        return err_set(s->err, ERR_EXHAUSTED, "the message would take more than %d bytes of memory", BUDGET);
    s->budget -= n;
    return 0;
}

static bool is_varint(ProtobufCType type)
{
    return type == PROTOBUF_C_TYPE_INT32 || type == PROTOBUF_C_TYPE_SINT32 || type == PROTOBUF_C_TYPE_UINT32 ||
           type == PROTOBUF_C_TYPE_INT64 || type == PROTOBUF_C_TYPE_SINT64 || type == PROTOBUF_C_TYPE_UINT64 ||
           type == PROTOBUF_C_TYPE_BOOL || type == PROTOBUF_C_TYPE_ENUM;
}

static int scan_message(struct scan *s, const ProtobufCMessageDescriptor *type, struct cursor c, unsigned depth);

/* A length-delimited value of a packed field: each element must be whole; protobuf-c allocates by count. */
static int scan_packed(struct scan *s, const ProtobufCFieldDescriptor *f, struct cursor c)
{
    size_t size = rpc_element_size(f->type), n = (size_t)(c.end - c.p);
    if (!is_varint(f->type)) {
        if (n % size)
            return err_set(s->err, ERR_INVALID, "field %s: a packed value is cut off", f->name);
        return spend(s, n);
    }
    uint64_t v;
    while (c.p < c.end) {
        if (take_varint(&c, &v) < 0)
            return err_set(s->err, ERR_INVALID, "field %s: a packed value is malformed", f->name);
        int rc = spend(s, size);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int scan_bytes(struct scan *s, const ProtobufCFieldDescriptor *f, struct cursor c, unsigned depth)
{
    size_t n = (size_t)(c.end - c.p);
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING: {
        struct str text = {(const char *)c.p, n};
        if (!str_is_utf8(text))
            return err_set(s->err, ERR_INVALID, "field %s: not UTF-8", f->name);
        if (n && memchr(text.p, 0, n))
            return err_set(s->err, ERR_INVALID, "field %s: contains NUL", f->name);
        return spend(s, n + 1 + COST_ALLOC);
    }
    case PROTOBUF_C_TYPE_BYTES: return spend(s, n + COST_ALLOC);
    case PROTOBUF_C_TYPE_MESSAGE: return scan_message(s, f->descriptor, c, depth + 1);
    default:
        if (f->label != PROTOBUF_C_LABEL_REPEATED)
            return err_set(s->err, ERR_INVALID, "field %s: wrong wire type", f->name);
        return scan_packed(s, f, c);
    }
}

/* Moves @c behind one value of @wire and gives its bytes. */
static int take_value(struct cursor *c, unsigned wire, struct cursor *ret)
{
    uint64_t n;
    ret->p = c->p;
    switch (wire) {
    case 0:
        if (take_varint(c, &n) < 0)
            return -ERR_INVALID;
        ret->end = c->p;
        return 0;
    case 1: n = 8; break;
    case 5: n = 4; break;
    case 2:
        if (take_varint(c, &n) < 0)
            return -ERR_INVALID;
        ret->p = c->p;
        break;
    default: return -ERR_INVALID; /* groups */
    }
    if (n > (uint64_t)(c->end - c->p))
        return -ERR_INVALID;
    c->p += n;
    ret->end = c->p;
    return 0;
}

static unsigned wire_of(ProtobufCType type)
{
    if (is_varint(type))
        return 0;
    if (type == PROTOBUF_C_TYPE_STRING || type == PROTOBUF_C_TYPE_BYTES || type == PROTOBUF_C_TYPE_MESSAGE)
        return 2;
    return rpc_element_size(type) == 8 ? 1 : 5;
}

/* Notes a sub-message of a field that has room for one. */
static int scan_part(struct scan *s, const ProtobufCMessageDescriptor *type, const ProtobufCFieldDescriptor *f, uint64_t *seen)
{
    size_t i = (size_t)(f - type->fields) % RPC_FIELDS_MAX;
    if ((seen[i / 64] & 1ULL << (i % 64)) && ++s->merges > MERGES_MAX)
        return err_set(s->err, ERR_EXHAUSTED, "field %s: in too many parts", f->name);
    seen[i / 64] |= 1ULL << (i % 64);
    return 0;
}

static int scan_field(struct scan *s, const ProtobufCMessageDescriptor *type, struct cursor *c, uint64_t *seen, unsigned depth)
{
    uint64_t tag;
    struct cursor value;
    if (take_varint(c, &tag) < 0 || tag >> 3 == 0 || tag > UINT32_MAX || take_value(c, (unsigned)(tag & 7), &value) < 0)
        return err_set(s->err, ERR_INVALID, "%s: malformed", type->name);
    unsigned wire = (unsigned)(tag & 7);
    const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3));
    int rc = spend(s, COST_MEMBER);
    if (rc < 0)
        return rc;
    if (!f)
        return spend(s, sizeof(ProtobufCMessageUnknownField) + (size_t)(value.end - value.p) + 2 * (size_t)COST_ALLOC);
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        rc = spend(s, rpc_element_size(f->type));
        if (rc < 0)
            return rc;
    } else if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
        rc = scan_part(s, type, f, seen);
        if (rc < 0)
            return rc;
    }
    if (wire == 2)
        return scan_bytes(s, f, value, depth);
    if (wire != wire_of(f->type))
        return err_set(s->err, ERR_INVALID, "field %s: wrong wire type", f->name);
    return 0;
}

static int scan_message(struct scan *s, const ProtobufCMessageDescriptor *type, struct cursor c, unsigned depth)
{
    if (depth > RPC_DEPTH_MAX)
        return err_set(s->err, ERR_INVALID, "the message is nested deeper than %d", RPC_DEPTH_MAX);
    uint64_t seen[RPC_FIELDS_MAX / 64] = {0};
    int rc = spend(s, type->sizeof_message + COST_ALLOC);
    while (rc == 0 && c.p < c.end)
        rc = scan_field(s, type, &c, seen, depth);
    return rc;
}

int message_unpack(const ProtobufCMessageDescriptor *type, struct str bytes, ProtobufCMessage **ret, size_t *ret_cost,
                   struct err *err)
{
    if (bytes.n > RPC_MESSAGE_MAX)
        return err_set(err, ERR_EXHAUSTED, "a message of %zu bytes is over the limit of %d", bytes.n, RPC_MESSAGE_MAX);
    const uint8_t *p = bytes.n ? (const uint8_t *)bytes.p : (const uint8_t *)"";
    struct scan s = {.budget = BUDGET, .err = err};
    int rc = scan_message(&s, type, (struct cursor){p, p + bytes.n}, 1);
    if (rc < 0)
        return rc;
    ProtobufCMessage *m = protobuf_c_message_unpack(type, NULL, bytes.n, p);
    if (!m)
        return err_set(err, ERR_INVALID, "%s: does not parse", type->name);
    *ret = m;
    *ret_cost = BUDGET - s.budget;
    return 0;
}

int rpc_unpack(const ProtobufCMessageDescriptor *type, struct str bytes, ProtobufCMessage **ret, struct err *err)
{
    size_t cost;
    return message_unpack(type, bytes, ret, &cost, err);
}

int rpc_pack(const ProtobufCMessage *message, struct buf *out)
{
    size_t n = protobuf_c_message_get_packed_size(message);
    uint8_t *p = buf_reserve(out, n);
    if (!p)
        return -ERR_EXHAUSTED;
    (void)protobuf_c_message_pack(message, p);
    buf_commit(out, n);
    return 0;
}

int rpc_copy(const ProtobufCMessage *message, ProtobufCMessage **ret)
{
    size_t n = protobuf_c_message_get_packed_size(message);
    AUTO_FREE uint8_t *bytes = mem_alloc(n + 1);
    (void)protobuf_c_message_pack(message, bytes);
    *ret = protobuf_c_message_unpack(message->descriptor, NULL, n, bytes);
    return *ret ? 0 : -ERR_EXHAUSTED;
}

void *rpc_message_free(void *message)
{
    if (message)
        protobuf_c_message_free_unpacked(message, NULL);
    return NULL;
}
