/* SPDX-License-Identifier: Apache-2.0 */
/* docker_container — the life of containers after their creation, one-shot stats, and archives. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/tar.h"
#include "docker/docker_internal.h"

/* POST /containers/ID/verb. */
static int post(struct docker *d, const char *id, const char *rest, struct buf *out, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    int rc = docker_path(&path, "/containers/", id, rest, err);
    return rc < 0 ? rc : docker_do(d, "POST", &path, STR(""), out, deadline, err);
}

int docker_container_start(struct docker *d, const char *id, usec_t deadline, struct err *err)
{
    return post(d, id, "/start", NULL, deadline, err);
}

int docker_container_stop(struct docker *d, const char *id, unsigned timeout_s, usec_t deadline, struct err *err)
{
    char rest[32];
    (void)snprintf(rest, sizeof(rest), "/stop?t=%u", timeout_s);
    return post(d, id, rest, NULL, deadline, err);
}

int docker_container_restart(struct docker *d, const char *id, unsigned timeout_s, usec_t deadline, struct err *err)
{
    char rest[32];
    (void)snprintf(rest, sizeof(rest), "/restart?t=%u", timeout_s);
    return post(d, id, rest, NULL, deadline, err);
}

int docker_container_kill(struct docker *d, const char *id, const char *signal, usec_t deadline, struct err *err)
{
    AUTO_BUF rest = BUF_INIT(256);
    if (buf_append_cstr(&rest, "/kill?signal=") != 0 || http_escape(&rest, str_from(signal)) != 0)
        return err_set(err, ERR_INVALID, "signal name too long");
    return post(d, id, buf_cstr(&rest), NULL, deadline, err);
}

int docker_container_rename(struct docker *d, const char *id, const char *new_name, usec_t deadline, struct err *err)
{
    AUTO_BUF rest = BUF_INIT(2048);
    if (buf_append_cstr(&rest, "/rename?name=") != 0 || http_escape(&rest, str_from(new_name)) != 0)
        return err_set(err, ERR_INVALID, "name too long");
    return post(d, id, buf_cstr(&rest), NULL, deadline, err);
}

int docker_container_remove(struct docker *d, const char *id, bool force, bool volumes, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    char rest[32];
    (void)snprintf(rest, sizeof(rest), "?force=%d&v=%d", force, volumes);
    int rc = docker_path(&path, "/containers/", id, rest, err);
    if (rc < 0)
        return rc;
    struct err e = ERR_INIT;
    rc = docker_do(d, "DELETE", &path, STR(""), NULL, deadline, &e);
    if (rc == -(int)ERR_NOT_FOUND || (rc < 0 && strstr(e.msg, "is already in progress")))
        return DOCKER_UNCHANGED;
    if (rc < 0 && err)
        *err = e;
    return rc;
}

struct waited {
    int code;
};
static const struct docker_field waited_fields[] = {
    {.name = "StatusCode", .type = DOCKER_F_INT, .offset = offsetof(struct waited, code)}, {0}};

int docker_container_wait(struct docker *d, const char *id, int *ret_exit_code, usec_t deadline, struct err *err)
{
    AUTO_BUF out = BUF_INIT(DOCKER_REPLY_MAX);
    int rc = post(d, id, "/wait?condition=not-running", &out, deadline, err);
    if (rc < 0)
        return rc;
    struct docker_pool *pool = docker_pool_new();
    struct waited waited = {0};
    rc = docker_read_object(buf_str(&out), waited_fields, &waited, pool, err);
    docker_pool_free(pool);
    *ret_exit_code = waited.code;
    return rc;
}

/* --- Archives ------------------------------------------------------------------------------------------------------------------------ */

static int archive_path(struct buf *path, const char *id, const char *inside, struct err *err)
{
    int rc = docker_path(path, "/containers/", id, "/archive?path=", err);
    if (rc == 0 && http_escape(path, str_from(inside)) != 0)
        rc = err_set(err, ERR_INVALID, "path too long");
    return rc;
}

/* The header that tells: base64 of JSON. */
struct raw_stat {
    struct docker_path_stat out;
    uint64_t mode; /* as Go counts its bits */
};

#define F(member, key, kind)                                                                                                     \
    {                                                                                                                            \
        .name = key, .type = DOCKER_F_##kind, .offset = offsetof(struct raw_stat, member)                                        \
    }
static const struct docker_field stat_fields[] = {
    F(out.name, "name", STR),          F(out.size, "size", U64),           F(mode, "mode", U64),
    F(out.modified, "mtime", STR),     F(out.target, "linkTarget", STR),   {0},
};
#undef F

static int read_stat(const char *base64, struct docker_path_stat *ret, struct err *err)
{
    enum {
        FOLDER = 1U << 31,
        LINK = 1U << 27,
        OTHER = 1U << 26 | 1U << 25 | 1U << 24 | 1U << 21 | 1U << 19,
        SUID = 1U << 23,
        SGID = 1U << 22,
        STICKY = 1U << 20
    };
    struct raw_stat raw = {.mode = 0};
    AUTO_BUF json = BUF_INIT(DOCKER_PATH_MAX);
    size_t n = 0;
    char *at = buf_reserve(&json, DOCKER_PATH_MAX);
    if (!base64 || str_unbase64(str_from(base64), at, DOCKER_PATH_MAX, &n) < 0)
        return err_set(err, ERR_UNKNOWN, "the engine did not say what is there");
    raw.out.pool = docker_pool_new();
    int rc = docker_read_object((struct str){at, n}, stat_fields, &raw, raw.out.pool, err);
    if (rc < 0) {
        docker_pool_free(raw.out.pool);
        return rc;
    }
    raw.out.kind = raw.mode & FOLDER ? 'd' : raw.mode & LINK ? 'l' : raw.mode & OTHER ? 'o' : 'f';
    raw.out.mode = (uint32_t)(raw.mode & 0777) | (raw.mode & SUID ? 04000U : 0) | (raw.mode & SGID ? 02000U : 0) | (raw.mode & STICKY ? 01000U : 0);
    *ret = raw.out;
    return 0;
}

int docker_archive_stat(struct docker *d, const char *id, const char *path, struct docker_path_stat *ret, usec_t deadline, struct err *err)
{
    AUTO_BUF target = BUF_INIT(DOCKER_PATH_MAX);
    struct http_exchange *x = NULL;
    *ret = (struct docker_path_stat){0};
    int rc = archive_path(&target, id, path, err);
    if (rc < 0)
        return rc;
    struct http_request req = {.method = "HEAD", .target = buf_cstr(&target)};
    rc = docker_request(d, &req, deadline, &x, err);
    if (rc < 0)
        return rc;
    if (http_head(x)->status == 404) /* the text of an answer to HEAD is nowhere */
        rc = err_set(err, ERR_NOT_FOUND, "there is no %s in this container", path);
    else if ((rc = docker_status(x, deadline, err)) == 0)
        rc = read_stat(http_field(http_head(x), "x-docker-container-path-stat"), ret, err);
    http_finish(x);
    return docker_note(d, rc);
}

void docker_path_stat_release(struct docker_path_stat *s)
{
    docker_pool_free(s->pool);
    *s = (struct docker_path_stat){0};
}

int docker_archive_get(struct docker *d, const char *id, const char *path, docker_sink_fn *sink, void *arg, usec_t deadline,
                       struct err *err)
{
    AUTO_BUF target = BUF_INIT(DOCKER_PATH_MAX);
    struct http_exchange *x = NULL;
    int rc = archive_path(&target, id, path, err);
    if (rc < 0)
        return rc;
    struct http_request req = {.method = "GET", .target = buf_cstr(&target)};
    rc = docker_request(d, &req, deadline, &x, err);
    if (rc < 0)
        return rc;
    rc = docker_status(x, deadline, err);
    AUTO_FREE char *piece = mem_alloc(DOCKER_READ_SIZE);
    size_t n = rc == 0;
    while (rc == 0 && n) {
        rc = http_read(x, piece, DOCKER_READ_SIZE, deadline, &n, err);
        if (rc < 0 || n == 0)
            break;
        rc = sink(arg, (struct str){piece, n});
        if (rc < 0)
            err_set(err, (enum err_code) - rc, "archive given up");
    }
    http_finish(x);
    return docker_note(d, rc < 0 ? rc : 0);
}

int docker_archive_put(struct docker *d, const char *id, const char *path, docker_source_fn *source, void *arg, usec_t deadline,
                       struct err *err)
{
    AUTO_BUF target = BUF_INIT(DOCKER_PATH_MAX);
    int rc = archive_path(&target, id, path, err);
    if (rc == 0 && buf_append_cstr(&target, "&noOverwriteDirNonDir=1") != 0)
        rc = err_set(err, ERR_INVALID, "path too long");
    return rc < 0 ? rc : docker_upload(d, "PUT", &target, source, arg, NULL, deadline, err);
}

/* The engine has no call that removes a file. What stands where an entry of an archive belongs it takes away first, whatever it is; an entry that is
 * another name of a file that does not exist can then not be made. */
static int removal_archive(const char *name, struct buf *ret, struct err *err)
{
    char none[sizeof("davit-none-") + 36] = "davit-none-";
    const struct tar_entry e = {.kind = TAR_HARDLINK, .name = name, .link = none};
    rng_uuid(none + strlen(none));
    if (tar_put(ret, &e) != 0 || buf_append(ret, tar_zeros, TAR_END) != 0)
        return err_set(err, ERR_INVALID, "\"%.80s\" is no name of a file", name);
    return 0;
}

static int from_buf(void *arg, void *dst, size_t size, size_t *ret_n)
{
    struct str *left = arg;
    *ret_n = left->n < size ? left->n : size;
    memcpy(dst, left->p, *ret_n);
    *left = (struct str){left->p + *ret_n, left->n - *ret_n};
    return 0;
}

static int is_there(struct docker *d, const char *id, const char *folder, const char *name, usec_t deadline, struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/%s", strcmp(folder, "/") == 0 ? "" : folder, name);
    struct docker_path_stat st = {0};
    int rc = docker_archive_stat(d, id, path, &st, deadline, err);
    docker_path_stat_release(&st);
    return rc;
}

int docker_archive_remove(struct docker *d, const char *id, const char *folder, const char *name, usec_t deadline, struct err *err)
{
    AUTO_BUF target = BUF_INIT(DOCKER_PATH_MAX), bytes = BUF_INIT(64 * 1024);
    struct err said = ERR_INIT;
    int rc = archive_path(&target, id, folder, err);
    if (rc == 0)
        rc = removal_archive(name, &bytes, err);
    if (rc == 0)
        rc = is_there(d, id, folder, name, deadline, err);
    if (rc < 0)
        return rc;
    struct str left = buf_str(&bytes);
    (void)docker_upload(d, "PUT", &target, from_buf, &left, NULL, deadline, &said);
    rc = is_there(d, id, folder, name, deadline, err);
    if (rc < 0)
        return rc == -(int)ERR_NOT_FOUND ? 0 : rc;
    if (said.code == ERR_UNAVAILABLE || said.code == ERR_DEADLINE || said.code == ERR_CANCELLED) /* not what the engine said */
        return err_set(err, said.code, "%s", said.msg);
    return err_set(err, ERR_PRECONDITION, "%s", said.code ? said.msg : "the engine left it where it was");
}

/* --- Stats --------------------------------------------------------------------------------------------------------------------------- */

struct raw_stats {
    struct docker_stats out;
    uint64_t inactive_file, total_inactive_file, max_usage;
};

#define F(member, key, kind)                                                                                                     \
    {                                                                                                                            \
        .name = key, .type = DOCKER_F_##kind, .offset = offsetof(struct raw_stats, member)                                       \
    }
static const struct docker_field cpu_usage_fields[] = {F(out.cpu_ns, "total_usage", U64), {0}};
static const struct docker_field throttling_fields[] = {F(out.throttled_ns, "throttled_time", U64), {0}};
static const struct docker_field cpu_fields[] = {
    {.name = "cpu_usage", .type = DOCKER_F_OBJECT, .sub = cpu_usage_fields},
    F(out.system_cpu_ns, "system_cpu_usage", U64),
    F(out.online_cpus, "online_cpus", U32),
    {.name = "throttling_data", .type = DOCKER_F_OBJECT, .sub = throttling_fields},
    {0},
};
static const struct docker_field memory_stat_fields[] = {
    F(inactive_file, "inactive_file", U64),
    F(total_inactive_file, "total_inactive_file", U64),
    {0},
};
static const struct docker_field memory_fields[] = {
    F(out.mem_bytes, "usage", U64),
    F(out.mem_limit, "limit", U64),
    {.name = "stats", .type = DOCKER_F_OBJECT, .sub = memory_stat_fields},
    {0},
};
static const struct docker_field pids_fields[] = {F(out.pids, "current", U64), {0}};

static int add_network(struct str key, struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    (void)key;
    struct raw_stats *total = obj, one = {.max_usage = 0};
    static const struct docker_field fields[] = {F(out.net_rx_bytes, "rx_bytes", U64), F(out.net_tx_bytes, "tx_bytes", U64), {0}};
    int rc = docker_read_object(json, fields, &one, pool, err);
    total->out.net_rx_bytes += one.out.net_rx_bytes;
    total->out.net_tx_bytes += one.out.net_tx_bytes;
    return rc;
}

static int read_networks(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    return docker_read_members(json, add_network, obj, pool, err);
}
#undef F

struct blkio {
    const char *op;
    uint64_t value;
};
static const struct docker_field blkio_fields[] = {
    {.name = "op", .type = DOCKER_F_STR, .offset = offsetof(struct blkio, op)},
    {.name = "value", .type = DOCKER_F_U64, .offset = offsetof(struct blkio, value)},
    {0},
};

/* "Read" on cgroup v1, "read" on v2. */
static int add_blkio(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    struct docker_stats *s = &((struct raw_stats *)obj)->out;
    struct blkio b = {0};
    int rc = docker_read_object(json, blkio_fields, &b, pool, err);
    if (rc == 0 && str_eq_ci(str_from(b.op), STR("read")))
        s->blk_read_bytes += b.value;
    else if (rc == 0 && str_eq_ci(str_from(b.op), STR("write")))
        s->blk_write_bytes += b.value;
    return rc;
}

static int read_blkio(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    return docker_read_array(json, add_blkio, obj, pool, err);
}

static const struct docker_field io_fields[] = {{.name = "io_service_bytes_recursive", .type = DOCKER_F_FN, .fn = read_blkio},
                                                {0}};
static const struct docker_field stats_fields[] = {
    {.name = "cpu_stats", .type = DOCKER_F_OBJECT, .sub = cpu_fields},
    {.name = "memory_stats", .type = DOCKER_F_OBJECT, .sub = memory_fields},
    {.name = "pids_stats", .type = DOCKER_F_OBJECT, .sub = pids_fields},
    {.name = "networks", .type = DOCKER_F_FN, .fn = read_networks},
    {.name = "blkio_stats", .type = DOCKER_F_OBJECT, .sub = io_fields},
    {0},
};

int docker_container_stats(struct docker *d, const char *id, struct docker_stats *ret, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    AUTO_BUF out = BUF_INIT(DOCKER_REPLY_MAX);
    int rc = docker_path(&path, "/containers/", id, "/stats?stream=false&one-shot=true", err);
    if (rc == 0)
        rc = docker_do(d, "GET", &path, STR(""), &out, deadline, err);
    if (rc < 0)
        return rc;
    struct docker_pool *pool = docker_pool_new();
    struct raw_stats raw = {.max_usage = 0};
    rc = docker_read_object(buf_str(&out), stats_fields, &raw, pool, err);
    docker_pool_free(pool);
    if (rc == 0 && raw.out.mem_limit == 0 && raw.out.pids == 0)
        rc = err_set(err, ERR_PRECONDITION, "container %.100s does not run", id);
    uint64_t cache = raw.total_inactive_file ? raw.total_inactive_file : raw.inactive_file;
    if (cache < raw.out.mem_bytes)
        raw.out.mem_bytes -= cache;
    *ret = raw.out;
    return rc;
}
