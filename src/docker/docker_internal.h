/* SPDX-License-Identifier: Apache-2.0 */
/* docker_internal — what the files of src/docker share: requests, the memory of results, and reading the engine's JSON by tables.
 * Not included outside. */
#ifndef DAVIT_DOCKER_INTERNAL_H
#define DAVIT_DOCKER_INTERNAL_H

#include <stddef.h>

#include "base/json.h"
#include "docker/docker.h"
#include "net/http_client.h"

enum { DOCKER_PATH_MAX = 16 * 1024, DOCKER_ERROR_MAX = 64 * 1024, DOCKER_BODY_MAX = 1024 * 1024, DOCKER_READ_SIZE = 32 * 1024 };

struct docker {
    struct loop *loop;
    char *addr;
    struct http_client *http;
    char api[8]; /* "" until settled */
};

/* --- Memory of a result (docker_json.c) --- */

/* Never NULL; freed at once with the pool. */
struct docker_pool *docker_pool_new(void) MUST_USE;
struct docker_pool *docker_pool_free(struct docker_pool *p);
void *docker_pool_alloc(struct docker_pool *p, size_t n) MUST_USE;
const char *docker_pool_str(struct docker_pool *p, struct str s) MUST_USE;
/* Room for one more element of @size behind the @n at @items (zeroed); returns where the array is now. */
void *docker_pool_grow(struct docker_pool *p, void *items, size_t n, size_t size) MUST_USE;

/* --- JSON by tables (docker_json.c) --- */

enum docker_field_type {
    DOCKER_F_STR, /* const char * */
    DOCKER_F_U64, /* uint64_t; anything that is no such number reads as 0 */
    DOCKER_F_U32,
    DOCKER_F_U16,
    DOCKER_F_INT,
    DOCKER_F_I64,
    DOCKER_F_BOOL,
    DOCKER_F_MAP,    /* struct docker_map, from an object of strings */
    DOCKER_F_STRS,   /* const char ** and size_t behind it, from an array of strings */
    DOCKER_F_KEYS,   /* the same, from the keys of an object */
    DOCKER_F_OBJECT, /* `sub` for the same struct */
    DOCKER_F_FN      /* `fn` with the value's text */
};
typedef int docker_value_fn(struct str json, void *obj, struct docker_pool *pool, struct err *err);
struct docker_field {
    const char *name; /* NULL ends the table */
    enum docker_field_type type;
    size_t offset;
    const struct docker_field *sub;
    docker_value_fn *fn;
};
/* Reads the object in @json into @obj; null reads as empty, unknown members are skipped. */
int docker_read_object(struct str json, const struct docker_field *table, void *obj, struct docker_pool *pool,
                       struct err *err) MUST_USE;
/* Calls @fn for each element of an array / @fn with each member (key first) of an object; null has none. */
int docker_read_array(struct str json, docker_value_fn *fn, void *obj, struct docker_pool *pool, struct err *err) MUST_USE;
typedef int docker_member_fn(struct str key, struct str json, void *obj, struct docker_pool *pool, struct err *err);
int docker_read_members(struct str json, docker_member_fn *fn, void *obj, struct docker_pool *pool, struct err *err) MUST_USE;

/* A string's value in pool memory, "" for anything else. */
const char *docker_json_string(struct str json, struct docker_pool *pool) MUST_USE;

/* Points every DOCKER_F_STR that is still NULL at "". */
void docker_fill_strings(const struct docker_field *table, void *obj);

/* Writers of common shapes. */
void docker_write_pairs(struct jsonw *w, const char *key, const struct docker_pair *pairs, size_t n);
void docker_write_strings(struct jsonw *w, const char *key, const char *const *items, size_t n);
/* {"label": [...]} and other filters, percent-encoded, as "filters=...". @labels may hold NULLs (ignored). */
int docker_write_filters(struct buf *path, const char *const *labels, size_t n, const char *type) MUST_USE;

/* --- Requests (docker.c) --- */

/* "/containers/" + escaped @id + @rest. */
int docker_path(struct buf *path, const char *prefix, const char *id, const char *rest, struct err *err) MUST_USE;
/* Settles the version, sends, and waits for the head (with stream_body: only sends). @req->target is without version. */
int docker_request(struct docker *d, const struct http_request *req, usec_t deadline, struct http_exchange **ret,
                   struct err *err) MUST_USE;
/* 0 for 2xx and 101, DOCKER_UNCHANGED for 304, else the engine's error. */
int docker_status(struct http_exchange *x, usec_t deadline, struct err *err) MUST_USE;
/* One request with its answer appended to @out (NULL: dropped). @body empty: none. 0, DOCKER_UNCHANGED, negative. */
int docker_do(struct docker *d, const char *method, const struct buf *path, struct str body, struct buf *out, usec_t deadline,
              struct err *err) MUST_USE;
/* Streams @source as the body and judges the answer, which is appended to @out (may be NULL). */
int docker_upload(struct docker *d, const char *method, const struct buf *path, docker_source_fn *source, void *arg,
                  struct buf *out, usec_t deadline, struct err *err) MUST_USE;
/* The code and hint for what the engine said; public for tests. @message is hostile. */
int docker_engine_error(int status, struct str message, struct err *err);
/* The value of X-Registry-Auth, to be wiped and freed; NULL: too long. */
char *docker_auth_header(const struct docker_auth *auth) MUST_USE;
/* Forgets the version if @rc says that the engine was lost. Returns @rc. */
int docker_note(struct docker *d, int rc);

/* Records of a stream of JSON objects, each on a line of its own or not: calls @fn with each complete one. */
struct docker_records {
    struct buf pending;
    int depth;
    bool in_string, escaped;
};
/* @fn returns 0 to go on, else the feed returns that. -ERR_EXHAUSTED past DOCKER_RECORD_MAX. */
int docker_records_feed(struct docker_records *r, struct str bytes, int (*fn)(void *arg, struct str json, struct err *err),
                        void *arg, struct err *err) MUST_USE;

#endif
