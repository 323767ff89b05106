/* SPDX-License-Identifier: Apache-2.0 */
/* docker_image — images that are there: inspect, remove, tag, import, load. */
#include <string.h>

#include "docker/docker_internal.h"

#define F(member, key, kind)                                                                                                     \
    {                                                                                                                            \
        .name = key, .type = DOCKER_F_##kind, .offset = offsetof(struct docker_image, member)                                    \
    }

static int read_health(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    struct {
        const char **items;
        size_t n;
    } test = {0};
    static const struct docker_field fields[] = {{.name = "Test", .type = DOCKER_F_STRS, .offset = 0}, {0}};
    int rc = docker_read_object(json, fields, &test, pool, err);
    ((struct docker_image *)obj)->has_healthcheck = rc == 0 && test.n && strcmp(test.items[0], "NONE") != 0;
    return rc;
}

static const struct docker_field config_fields[] = {
    F(ports, "ExposedPorts", KEYS),
    F(volumes, "Volumes", KEYS),
    F(user, "User", STR),
    F(entrypoint, "Entrypoint", STRS),
    F(command, "Cmd", STRS),
    F(labels, "Labels", MAP),
    {.name = "Healthcheck", .type = DOCKER_F_FN, .fn = read_health},
    {0},
};
static const struct docker_field image_fields[] = {
    F(id, "Id", STR),
    F(repo_digests, "RepoDigests", STRS),
    F(repo_tags, "RepoTags", STRS),
    F(os, "Os", STR),
    F(arch, "Architecture", STR),
    F(size, "Size", U64),
    {.name = "Config", .type = DOCKER_F_OBJECT, .sub = config_fields},
    {0},
};
#undef F

int docker_image_inspect(struct docker *d, const char *ref, struct docker_image *ret, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    AUTO_BUF out = BUF_INIT(DOCKER_REPLY_MAX);
    *ret = (struct docker_image){0};
    int rc = docker_path(&path, "/images/", ref, "/json", err);
    if (rc == 0)
        rc = docker_do(d, "GET", &path, STR(""), &out, deadline, err);
    if (rc < 0)
        return rc;
    ret->pool = docker_pool_new();
    rc = docker_read_object(buf_str(&out), image_fields, ret, ret->pool, err);
    if (rc < 0)
        docker_image_release(ret);
    return rc;
}

void docker_image_release(struct docker_image *i)
{
    docker_pool_free(i->pool);
    *i = (struct docker_image){0};
}

int docker_image_remove(struct docker *d, const char *ref, bool force, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    int rc = docker_path(&path, "/images/", ref, force ? "?force=1" : "", err);
    return rc < 0 ? rc : docker_do(d, "DELETE", &path, STR(""), NULL, deadline, err);
}

static int add_param(struct buf *path, const char *name, const char *value)
{
    int rc = buf_append_cstr(path, name);
    return rc < 0 ? rc : http_escape(path, str_from(value));
}

static int too_long(struct err *err)
{
    return err_set(err, ERR_INVALID, "name too long");
}

int docker_image_tag(struct docker *d, const char *ref, const char *repo, const char *tag, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    int rc = docker_path(&path, "/images/", ref, "/tag", err);
    if (rc < 0)
        return rc;
    if (add_param(&path, "?repo=", repo) != 0 || add_param(&path, "&tag=", tag) != 0)
        return too_long(err);
    return docker_do(d, "POST", &path, STR(""), NULL, deadline, err);
}

/* Both answers are streams of records; what failed after the head was sent stands in one of them. */
struct outcome {
    const char *error;
};
static const struct docker_field outcome_fields[] = {
    {.name = "error", .type = DOCKER_F_STR, .offset = offsetof(struct outcome, error)},
    {0},
};

static int on_record(void *arg, struct str json, struct err *err)
{
    (void)arg;
    struct docker_pool *pool = docker_pool_new();
    struct outcome o = {0};
    int rc = docker_read_object(json, outcome_fields, &o, pool, err);
    if (rc == 0 && *o.error)
        rc = docker_engine_error(500, str_from(o.error), err);
    docker_pool_free(pool);
    return rc;
}

static int upload_image(struct docker *d, const struct buf *path, docker_source_fn *source, void *arg, usec_t deadline,
                        struct err *err)
{
    AUTO_BUF out = BUF_INIT(DOCKER_REPLY_MAX);
    int rc = docker_upload(d, "POST", path, source, arg, &out, deadline, err);
    if (rc < 0)
        return rc;
    struct docker_records records = {0};
    rc = docker_records_feed(&records, buf_str(&out), on_record, NULL, err);
    buf_release(&records.pending);
    return rc;
}

int docker_image_import(struct docker *d, const char *repo, const char *tag, docker_source_fn *source, void *arg, usec_t deadline,
                        struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    if (add_param(&path, "/images/create?fromSrc=-&repo=", repo) != 0 || add_param(&path, "&tag=", tag) != 0)
        return too_long(err);
    return upload_image(d, &path, source, arg, deadline, err);
}

int docker_image_load(struct docker *d, docker_source_fn *source, void *arg, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    int rc = buf_append_cstr(&path, "/images/load?quiet=1");
    return rc < 0 ? rc : upload_image(d, &path, source, arg, deadline, err);
}
