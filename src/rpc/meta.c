/* SPDX-License-Identifier: Apache-2.0 */
/* meta — see meta.h, and the part on metadata of rpc.h. */
#include "rpc/meta.h"

#include <string.h>

#include "base/mem.h"

enum { FIELD_COST = 32 }; /* RFC 9113 6.5.2 */

/* ---- what came ---- */

void rpc_meta_release(struct rpc_meta *m)
{
    buf_release(&m->store);
}

const char *rpc_meta_get(const struct rpc_meta *m, const char *name, size_t i)
{
    struct h2_field f;
    size_t at = 0;
    while (h2_fields_next(&m->store, &at, &f))
        if (strcmp(f.name, name) == 0 && i-- == 0)
            return f.value;
    return NULL;
}

static int append_bytes(struct str text, struct buf *out)
{
    void *dst = buf_reserve(out, text.n / 4 * 3 + 3);
    size_t n;
    if (!dst)
        return -ERR_EXHAUSTED;
    int rc = str_unbase64(text, dst, text.n / 4 * 3 + 3, &n);
    if (rc == 0)
        buf_commit(out, n);
    return rc;
}

int rpc_meta_bin(const struct rpc_meta *m, const char *name, size_t i, struct buf *out)
{
    const char *value;
    for (size_t k = 0; (value = rpc_meta_get(m, name, k)) != NULL; k++) {
        struct str rest = str_from(value);
        do {
            struct str part = str_trim(str_cut(&rest, ','));
            if (i-- == 0)
                return append_bytes(part, out);
        } while (rest.n);
    }
    return 1;
}

/* ---- what goes ---- */

void meta_out_init(struct meta_out *m, size_t max)
{
    *m = (struct meta_out){.store = BUF_INIT(max), .max = max};
}

void meta_out_release(struct meta_out *m)
{
    buf_release(&m->store);
    m->n = m->size = 0;
}

/* What HTTP, gRPC and Connect use themselves. */
static bool reserved(struct str name)
{
    static const char *const names[] = {"accept",
                                        "accept-encoding",
                                        "authority",
                                        "connection",
                                        "content-encoding",
                                        "content-length",
                                        "content-type",
                                        "date",
                                        "host",
                                        "keep-alive",
                                        "proxy-connection",
                                        "te",
                                        "trailer",
                                        "transfer-encoding",
                                        "upgrade",
                                        "user-agent",
                                        "davit-hint"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (str_eq(name, str_from(names[i])))
            return true;
    return str_starts(name, STR("grpc-")) || str_starts(name, STR("connect-")) || str_starts(name, STR("trailer-"));
}

static bool name_fits(struct str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (!strchr("0123456789abcdefghijklmnopqrstuvwxyz_.-", name.p[i]) || !name.p[i])
            return false;
    return name.n > 0 && !reserved(name);
}

static bool value_fits(struct str value)
{
    for (size_t i = 0; i < value.n; i++)
        if ((unsigned char)value.p[i] < 0x20 || (unsigned char)value.p[i] > 0x7e)
            return false;
    return str_trim(value).n == value.n;
}

static int add(struct meta_out *m, struct str name, struct str value)
{
    size_t cost = name.n + value.n + FIELD_COST;
    if (m->n == RPC_META_FIELDS_MAX || m->size + cost > m->max)
        return -ERR_EXHAUSTED;
    int rc = h2_fields_add(&m->store, name, value);
    if (rc < 0)
        return rc;
    m->n++;
    m->size += cost;
    return 0;
}

char *meta_base64(struct str bytes)
{
    char *text = str_base64(bytes.p, bytes.n);
    text[strcspn(text, "=")] = 0;
    return text;
}

int meta_add(struct meta_out *m, const char *name, struct str value)
{
    struct str key = str_from(name);
    if (!name_fits(key))
        return -ERR_INVALID;
    if (!str_ends(key, STR("-bin")))
        return value_fits(value) ? add(m, key, value) : -ERR_INVALID;
    if (value.n > m->max)
        return -ERR_EXHAUSTED;
    AUTO_FREE char *text = meta_base64(value);
    return add(m, key, str_from(text));
}

size_t meta_fields(const struct meta_out *m, struct h2_field *fields, size_t n)
{
    size_t at = 0;
    while (h2_fields_next(&m->store, &at, &fields[n]))
        n++;
    return n;
}
