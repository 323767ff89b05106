/* SPDX-License-Identifier: Apache-2.0 */
/* docker_image_list — the images that an engine has, and what a registry has under a name. */
#include <string.h>

#include "docker/docker_internal.h"

/* --- The list ------------------------------------------------------------------------------------------------------------------------ */

#define F(member, key, kind)                                                                                                     \
    {                                                                                                                            \
        .name = key, .type = DOCKER_F_##kind, .offset = offsetof(struct docker_image_summary, member)                            \
    }
static const struct docker_field summary_fields[] = {
    F(id, "Id", STR),
    F(repo_tags, "RepoTags", STRS),
    F(repo_digests, "RepoDigests", STRS),
    F(size, "Size", U64),
    F(created, "Created", I64),
    {0},
};
#undef F

/* Engines of before name what has no name "<none>:<none>" and "<none>@<none>". */
static void drop_none(const char **items, size_t *n)
{
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++)
        if (strncmp(items[i], "<none>", 6) != 0)
            items[kept++] = items[i];
    *n = kept;
}

static int read_summary(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    struct docker_images *l = obj;
    l->items = docker_pool_grow(pool, l->items, l->n, sizeof(*l->items));
    struct docker_image_summary *s = &l->items[l->n++];
    *s = (struct docker_image_summary){0};
    int rc = docker_read_object(json, summary_fields, s, pool, err);
    drop_none(s->repo_tags, &s->n_repo_tags);
    drop_none(s->repo_digests, &s->n_repo_digests);
    return rc;
}

int docker_image_list(struct docker *d, struct docker_images *ret, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    AUTO_BUF out = BUF_INIT(DOCKER_LIST_MAX);
    *ret = (struct docker_images){0};
    if (buf_append_cstr(&path, "/images/json?digests=1") != 0)
        return err_set(err, ERR_INTERNAL, "no room for a path");
    int rc = docker_do(d, "GET", &path, STR(""), &out, deadline, err);
    if (rc < 0)
        return rc;
    ret->pool = docker_pool_new();
    rc = docker_read_array(buf_str(&out), read_summary, ret, ret->pool, err);
    if (rc < 0)
        docker_images_release(ret);
    return rc;
}

void docker_images_release(struct docker_images *l)
{
    docker_pool_free(l->pool);
    *l = (struct docker_images){0};
}

/* --- The registry's -------------------------------------------------------------------------------------------------------------------- */

enum { DIGEST_LENGTH = 7 + 64 };

struct remote {
    const char *digest;
};
static const struct docker_field descriptor_fields[] = {
    {.name = "digest", .type = DOCKER_F_STR, .offset = offsetof(struct remote, digest)}, {0}};
static const struct docker_field remote_fields[] = {{.name = "Descriptor", .type = DOCKER_F_OBJECT, .sub = descriptor_fields}, {0}};

static int read_remote(struct str json, const char *ref, char *ret, struct err *err)
{
    struct docker_pool *pool = docker_pool_new();
    struct remote r = {0};
    int rc = docker_read_object(json, remote_fields, &r, pool, err);
    if (rc == 0 && strlen(r.digest) == DIGEST_LENGTH && strncmp(r.digest, "sha256:", 7) == 0)
        (void)str_copy(ret, DOCKER_DIGEST_SIZE, str_from(r.digest));
    else if (rc == 0)
        rc = err_set(err, ERR_INVALID, "the registry told no digest of %.200s", ref);
    docker_pool_free(pool);
    return rc;
}

int docker_image_remote(struct docker *d, const char *ref, const struct docker_auth *auth, char *ret, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    AUTO_BUF out = BUF_INIT(DOCKER_BODY_MAX);
    struct http_exchange *x = NULL;
    ret[0] = '\0';
    int rc = docker_path(&path, "/distribution/", ref, "/json", err);
    if (rc < 0)
        return rc;
    char *header = auth ? docker_auth_header(auth) : NULL;
    if (auth && !header)
        return err_set(err, ERR_INVALID, "registry credentials too long");
    struct http_field field = {"x-registry-auth", header};
    struct http_request req = {.method = "GET", .target = buf_cstr(&path), .fields = &field, .n_fields = auth ? 1 : 0};
    rc = docker_request(d, &req, deadline, &x, err);
    if (header) {
        explicit_bzero(header, strlen(header));
        free(header);
    }
    if (rc < 0)
        return rc;
    rc = docker_status(x, deadline, err);
    if (rc == 0)
        rc = http_read_all(x, &out, deadline, err);
    if (rc == 0)
        rc = read_remote(buf_str(&out), ref, ret, err);
    http_finish(x);
    return docker_note(d, rc);
}
