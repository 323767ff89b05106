/* SPDX-License-Identifier: Apache-2.0 */
/* docker_json — the memory of results, and the engine's JSON read into structs by tables.
 * A member of an unexpected type reads as empty: engines and their forks differ in nulls and numbers, never in what we need. */
#include <string.h>

#include "base/mem.h"
#include "docker/docker_internal.h"

/* --- Memory -------------------------------------------------------------------------------------------------------------------------- */

enum { CHUNK_SIZE = 4096 };

struct chunk {
    struct chunk *next;
    size_t used, size;
    _Alignas(16) char data[];
};

struct docker_pool {
    struct chunk *chunks;
};

struct docker_pool *docker_pool_new(void)
{
    return NEW(struct docker_pool);
}

struct docker_pool *docker_pool_free(struct docker_pool *p)
{
    if (!p)
        return NULL;
    for (struct chunk *c = p->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(p);
    return NULL;
}

void *docker_pool_alloc(struct docker_pool *p, size_t n)
{
    n = (n + 15) & ~(size_t)15;
    if (!p->chunks || p->chunks->size - p->chunks->used < n) {
        size_t size = n > CHUNK_SIZE ? n : CHUNK_SIZE;
        struct chunk *c = mem_zalloc(1, sizeof(*c) + size);
        c->size = size;
        c->next = p->chunks;
        p->chunks = c;
    }
    void *at = p->chunks->data + p->chunks->used;
    p->chunks->used += n;
    return at;
}

const char *docker_pool_str(struct docker_pool *p, struct str s)
{
    char *at = docker_pool_alloc(p, s.n + 1);
    if (s.n)
        memcpy(at, s.p, s.n);
    return at;
}

void *docker_pool_grow(struct docker_pool *p, void *items, size_t n, size_t size)
{
    if (n && (n < 4 || (n & (n - 1))))
        return items;
    void *grown = docker_pool_alloc(p, (n ? 2 * n : 4) * size);
    if (n)
        memcpy(grown, items, n * size);
    return grown;
}

const char *docker_map_get(const struct docker_map *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++) {
        if (strcmp(m->items[i].name, name) == 0)
            return m->items[i].value;
    }
    return NULL;
}

/* --- Reading ------------------------------------------------------------------------------------------------------------------------- */

static bool is_container(struct str json, char open)
{
    return json.n && json.p[0] == open;
}

int docker_read_array(struct str json, docker_value_fn *fn, void *obj, struct docker_pool *pool, struct err *err)
{
    if (!is_container(json, '['))
        return 0;
    AUTO_JSON j;
    json_init(&j, json);
    int rc = json_enter(&j, JSON_ARRAY, err);
    while (rc == 0 && (rc = json_item(&j, err)) == 1) {
        struct str item;
        rc = json_read_raw(&j, &item, err);
        if (rc == 0)
            rc = fn(item, obj, pool, err);
    }
    return rc;
}

int docker_read_members(struct str json, docker_member_fn *fn, void *obj, struct docker_pool *pool, struct err *err)
{
    if (!is_container(json, '{'))
        return 0;
    AUTO_JSON j;
    json_init(&j, json);
    AUTO_BUF name = BUF_INIT(DOCKER_REPLY_MAX);
    struct str key, value;
    int rc = json_enter(&j, JSON_OBJECT, err);
    while (rc == 0 && (rc = json_key(&j, &key, err)) == 1) {
        buf_clear(&name);
        rc = buf_append_str(&name, key);
        if (rc == 0)
            rc = json_read_raw(&j, &value, err);
        if (rc == 0)
            rc = fn(buf_str(&name), value, obj, pool, err);
    }
    return rc;
}

const char *docker_json_string(struct str json, struct docker_pool *pool)
{
    if (!is_container(json, '"'))
        return "";
    AUTO_JSON j;
    json_init(&j, json);
    struct str value;
    return json_read_str(&j, &value, NULL) == 0 ? docker_pool_str(pool, value) : "";
}

struct strs {
    const char **items;
    size_t n;
};

static int add_string(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    (void)err;
    struct strs *s = obj;
    s->items = docker_pool_grow(pool, s->items, s->n, sizeof(*s->items));
    s->items[s->n++] = docker_json_string(json, pool);
    return 0;
}

static int add_key(struct str key, struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    (void)json;
    (void)err;
    struct strs *s = obj;
    s->items = docker_pool_grow(pool, s->items, s->n, sizeof(*s->items));
    s->items[s->n++] = docker_pool_str(pool, key);
    return 0;
}

static int add_pair(struct str key, struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    (void)err;
    struct docker_map *m = obj;
    m->items = docker_pool_grow(pool, m->items, m->n, sizeof(*m->items));
    m->items[m->n++] = (struct docker_pair){docker_pool_str(pool, key), docker_json_string(json, pool)};
    return 0;
}

static uint64_t number_of(struct str json, uint64_t max)
{
    uint64_t v = 0;
    return str_to_u64(json, max, &v) == 0 ? v : 0;
}

static int64_t signed_of(struct str json, int64_t min, int64_t max)
{
    int64_t v = 0;
    return str_to_i64(json, min, max, &v) == 0 ? v : 0;
}

static int read_field(const struct docker_field *f, struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    void *at = (char *)obj + f->offset;
    switch (f->type) {
    case DOCKER_F_STR: *(const char **)at = docker_json_string(json, pool); return 0;
    case DOCKER_F_U64: *(uint64_t *)at = number_of(json, UINT64_MAX); return 0;
    case DOCKER_F_U32: *(uint32_t *)at = (uint32_t)number_of(json, UINT32_MAX); return 0;
    case DOCKER_F_U16: *(uint16_t *)at = (uint16_t)number_of(json, UINT16_MAX); return 0;
    case DOCKER_F_INT: *(int *)at = (int)signed_of(json, INT32_MIN, INT32_MAX); return 0;
    case DOCKER_F_I64: *(int64_t *)at = signed_of(json, INT64_MIN, INT64_MAX); return 0;
    case DOCKER_F_BOOL: *(bool *)at = str_eq(json, STR("true")); return 0;
    case DOCKER_F_MAP: return docker_read_members(json, add_pair, at, pool, err);
    case DOCKER_F_STRS: return docker_read_array(json, add_string, at, pool, err);
    case DOCKER_F_KEYS: return docker_read_members(json, add_key, at, pool, err);
    case DOCKER_F_OBJECT: return docker_read_object(json, f->sub, obj, pool, err);
    case DOCKER_F_FN: return f->fn(json, obj, pool, err);
    }
    return 0;
}

struct reading {
    const struct docker_field *table;
    void *obj;
};

static int on_member(struct str key, struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    struct reading *r = obj;
    for (const struct docker_field *f = r->table; f->name; f++) {
        if (str_eq(key, str_from(f->name)))
            return read_field(f, json, r->obj, pool, err);
    }
    return 0;
}

void docker_fill_strings(const struct docker_field *table, void *obj)
{
    for (const struct docker_field *f = table; f->name; f++) {
        const char **at = (const char **)(void *)((char *)obj + f->offset);
        if (f->type == DOCKER_F_STR && !*at)
            *at = "";
        else if (f->type == DOCKER_F_OBJECT)
            docker_fill_strings(f->sub, obj);
    }
}

int docker_read_object(struct str json, const struct docker_field *table, void *obj, struct docker_pool *pool, struct err *err)
{
    struct reading r = {table, obj};
    int rc = docker_read_members(json, on_member, &r, pool, err);
    docker_fill_strings(table, obj);
    return rc;
}

/* --- Writing ------------------------------------------------------------------------------------------------------------------------- */

void docker_write_pairs(struct jsonw *w, const char *key, const struct docker_pair *pairs, size_t n)
{
    jsonw_key(w, key);
    jsonw_object(w);
    for (size_t i = 0; i < n; i++) {
        jsonw_key(w, pairs[i].name);
        jsonw_string(w, pairs[i].value);
    }
    jsonw_object_end(w);
}

void docker_write_strings(struct jsonw *w, const char *key, const char *const *items, size_t n)
{
    if (n == 0)
        return;
    jsonw_key(w, key);
    jsonw_array(w);
    for (size_t i = 0; i < n; i++)
        jsonw_string(w, items[i]);
    jsonw_array_end(w);
}

int docker_write_filters(struct buf *path, const char *const *labels, size_t n, const char *type)
{
    AUTO_BUF json = BUF_INIT(DOCKER_PATH_MAX);
    struct jsonw w;
    jsonw_init(&w, &json);
    jsonw_object(&w);
    if (type)
        docker_write_strings(&w, "type", &type, 1);
    jsonw_key(&w, "label");
    jsonw_array(&w);
    for (size_t i = 0; i < n; i++) {
        if (labels[i])
            jsonw_string(&w, labels[i]);
    }
    jsonw_array_end(&w);
    jsonw_object_end(&w);
    int rc = jsonw_end(&w);
    if (rc == 0)
        rc = buf_append_cstr(path, "filters=");
    return rc < 0 ? rc : http_escape(path, buf_str(&json));
}

/* --- Streams of records -------------------------------------------------------------------------------------------------------------- */

static int take_record(struct docker_records *r, struct str piece, int (*fn)(void *arg, struct str json, struct err *err),
                       void *arg, struct err *err)
{
    if (r->pending.len == 0)
        return fn(arg, piece, err);
    if (buf_append_str(&r->pending, piece) != 0)
        return err_set(err, ERR_EXHAUSTED, "a record of the engine's stream is larger than %d bytes", DOCKER_RECORD_MAX);
    struct buf whole = r->pending;
    r->pending = BUF_INIT(DOCKER_RECORD_MAX);
    int rc = fn(arg, buf_str(&whole), err);
    buf_release(&whole);
    return rc;
}

int docker_records_feed(struct docker_records *r, struct str bytes, int (*fn)(void *arg, struct str json, struct err *err),
                        void *arg, struct err *err)
{
    size_t start = 0;
    r->pending.max = DOCKER_RECORD_MAX;
    for (size_t i = 0; i < bytes.n; i++) {
        char c = bytes.p[i];
        if (r->in_string) {
            r->in_string = r->escaped || c != '"';
            r->escaped = !r->escaped && c == '\\';
        } else if (c == '"') {
            r->in_string = true;
        } else if (c == '{') {
            if (r->depth++ == 0)
                start = i;
        } else if (c == '}') {
            if (r->depth == 0)
                return err_set(err, ERR_INVALID, "the engine's stream is not JSON");
            if (--r->depth)
                continue;
            int rc = take_record(r, (struct str){bytes.p + start, i + 1 - start}, fn, arg, err);
            if (rc != 0)
                return rc;
            start = i + 1;
        }
    }
    if (r->depth && buf_append(&r->pending, bytes.p + start, bytes.n - start) != 0)
        return err_set(err, ERR_EXHAUSTED, "a record of the engine's stream is larger than %d bytes", DOCKER_RECORD_MAX);
    return 0;
}
