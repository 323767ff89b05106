/* SPDX-License-Identifier: Apache-2.0 */
/* docker_pull — pulls with progress: the engine answers 200 at once and tells the rest, failures too, as a stream of records. */
#include <string.h>

#include "docker/docker_internal.h"

struct pull {
    docker_progress_fn *fn;
    void *arg;
    char *digest;
};

struct record {
    const char *id;
    const char *status;
    const char *error;
    uint64_t current, total;
};

#define F(member, key, kind)                                                                                                     \
    {                                                                                                                            \
        .name = key, .type = DOCKER_F_##kind, .offset = offsetof(struct record, member)                                          \
    }
static const struct docker_field detail_fields[] = {F(current, "current", U64), F(total, "total", U64), {0}};
static const struct docker_field record_fields[] = {
    F(id, "id", STR),
    F(status, "status", STR),
    F(error, "error", STR),
    {.name = "progressDetail", .type = DOCKER_F_OBJECT, .sub = detail_fields},
    {0},
};
#undef F

static void take_digest(struct pull *p, const char *status)
{
    struct str s = str_from(status);
    struct str prefix = STR("Digest: ");
    if (!p->digest || !str_starts(s, prefix))
        return;
    struct str digest = str_trim((struct str){s.p + prefix.n, s.n - prefix.n});
    if (digest.n == 71 && str_starts(digest, STR("sha256:")))
        str_copy(p->digest, DOCKER_DIGEST_SIZE, digest);
}

static int on_record(void *arg, struct str json, struct err *err)
{
    struct pull *p = arg;
    struct docker_pool *pool = docker_pool_new();
    struct record r = {0};
    int rc = docker_read_object(json, record_fields, &r, pool, err);
    if (rc == 0 && *r.error)
        rc = docker_engine_error(500, str_from(r.error), err);
    if (rc == 0)
        take_digest(p, r.status);
    if (rc == 0 && p->fn) {
        struct docker_progress progress = {r.id, r.status, r.current, r.total};
        rc = p->fn(p->arg, &progress);
        if (rc < 0)
            err_set(err, (enum err_code) - rc, "pull given up");
    }
    docker_pool_free(pool);
    return rc < 0 ? rc : 0;
}

static int read_stream(struct http_exchange *x, struct pull *p, usec_t deadline, struct err *err)
{
    struct docker_records records = {0};
    char piece[4096];
    size_t n = 0;
    int rc;
    do {
        rc = http_read(x, piece, sizeof(piece), deadline, &n, err);
        if (rc == 0)
            rc = docker_records_feed(&records, (struct str){piece, n}, on_record, p, err);
    } while (rc == 0 && n);
    buf_release(&records.pending);
    return rc;
}

/* "name", and what the engine calls a tag: the digest if there is one, else the tag, else "latest". */
static int split_ref(const char *ref, struct str *name, struct str *tag)
{
    struct str s = str_from(ref);
    const char *at = strchr(ref, '@');
    struct str before = at ? (struct str){ref, (size_t)(at - ref)} : s;
    const char *slash = memrchr(before.p, '/', before.n);
    const char *from = slash ? slash : before.p;
    const char *colon = memchr(from, ':', (size_t)(before.p + before.n - from));
    *name = (struct str){before.p, colon ? (size_t)(colon - before.p) : before.n};
    if (at)
        *tag = str_from(at + 1);
    else
        *tag = colon ? (struct str){colon + 1, (size_t)(before.p + before.n - colon - 1)} : STR("latest");
    return name->n && tag->n ? 0 : -(int)ERR_INVALID;
}

char *docker_auth_header(const struct docker_auth *auth)
{
    AUTO_BUF json = BUF_INIT(DOCKER_PATH_MAX);
    struct jsonw w;
    jsonw_init(&w, &json);
    jsonw_object(&w);
    jsonw_key(&w, "username");
    jsonw_string(&w, auth->username);
    jsonw_key(&w, "password");
    jsonw_string(&w, auth->password);
    jsonw_key(&w, "serveraddress");
    jsonw_string(&w, auth->server ? auth->server : "");
    jsonw_object_end(&w);
    AUTO_FREE char *text = jsonw_end(&w) == 0 ? str_base64url(json.data, json.len) : NULL;
    if (json.data)
        explicit_bzero(json.data, json.len);
    if (!text)
        return NULL;
    /* The engine decodes with padding, and takes a value without it for no credentials at all. */
    char *padded = str_printf("%s%s", text, &"==="[3 - (4 - strlen(text) % 4) % 4]);
    explicit_bzero(text, strlen(text));
    return padded;
}

static int start_pull(struct docker *d, const char *target, const struct docker_auth *auth, usec_t deadline,
                      struct http_exchange **ret, struct err *err)
{
    AUTO_FREE char *header = auth ? docker_auth_header(auth) : NULL;
    if (auth && !header)
        return err_set(err, ERR_INVALID, "registry credentials too long");
    struct http_field field = {"x-registry-auth", header};
    struct http_request req = {.method = "POST", .target = target, .fields = &field, .n_fields = auth ? 1 : 0};
    int rc = docker_request(d, &req, deadline, ret, err);
    if (header)
        explicit_bzero(header, strlen(header));
    return rc;
}

int docker_pull(struct docker *d, const char *ref, const struct docker_auth *auth, docker_progress_fn *fn, void *arg,
                char *ret_digest, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    struct str name, tag;
    if (ret_digest)
        ret_digest[0] = '\0';
    if (split_ref(ref, &name, &tag) != 0)
        return err_set(err, ERR_INVALID, "\"%.200s\" is no image reference", ref);
    if (buf_append_cstr(&path, "/images/create?fromImage=") != 0 || http_escape(&path, name) != 0 ||
        buf_append_cstr(&path, "&tag=") != 0 || http_escape(&path, tag) != 0)
        return err_set(err, ERR_INVALID, "image reference too long");
    struct http_exchange *x = NULL;
    int rc = start_pull(d, buf_cstr(&path), auth, deadline, &x, err);
    if (rc < 0)
        return rc;
    struct pull p = {.fn = fn, .arg = arg, .digest = ret_digest};
    rc = docker_status(x, deadline, err);
    if (rc == 0)
        rc = read_stream(x, &p, deadline, err);
    http_finish(x);
    return docker_note(d, rc);
}
