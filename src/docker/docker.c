/* SPDX-License-Identifier: Apache-2.0 */
/* docker — transport, version, and the engine's errors. */
#include "docker/docker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "docker/docker_internal.h"

#define DEFAULT_ADDR "unix:/var/run/docker.sock"

/* --- Client -------------------------------------------------------------------------------------------------------------------------- */

static char *plain_addr(struct str s)
{
    if (str_starts(s, STR("unix://")))
        return str_printf("unix:" STR_FMT, (int)s.n - 7, s.p + 7);
    if (str_starts(s, STR("unix:/")) || str_starts(s, STR("/")))
        return str_printf("%s" STR_FMT, s.p[0] == '/' ? "unix:" : "", STR_ARG(s));
    if (str_starts(s, STR("tcp://")))
        return str_printf(STR_FMT, (int)s.n - 6, s.p + 6);
    return NULL;
}

int docker_new(struct loop *loop, const char *addr, struct docker **ret, struct err *err)
{
    if (!addr || !*addr)
        addr = getenv("DOCKER_HOST");
    if (!addr || !*addr)
        addr = DEFAULT_ADDR;
    char *plain = plain_addr(str_from(addr));
    if (!plain)
        return err_set(err, ERR_INVALID, "Docker address \"%.100s\": expected unix:/path or tcp://address:port", addr);
    struct docker *d = NEW(struct docker);
    d->loop = loop;
    d->addr = plain;
    d->http = http_client_new(loop, plain, "docker", NULL);
    *ret = d;
    return 0;
}

struct docker *docker_free(struct docker *d)
{
    if (!d)
        return NULL;
    http_client_free(d->http);
    free(d->addr);
    free(d);
    return NULL;
}

const char *docker_api(const struct docker *d)
{
    return d->api;
}

const char *docker_addr(const struct docker *d)
{
    return d->addr;
}

int docker_note(struct docker *d, int rc)
{
    if (rc == -(int)ERR_UNAVAILABLE || rc == -(int)ERR_DATA_LOSS)
        d->api[0] = '\0';
    return rc;
}

/* --- Errors -------------------------------------------------------------------------------------------------------------------------- */

static bool has(struct str s, const char *needle)
{
    size_t n = strlen(needle);
    return s.n >= n && memmem(s.p, s.n, needle, n);
}

static enum err_code code_of_status(int status, struct str m)
{
    switch (status) {
    case 400: return ERR_INVALID;
    case 401: return ERR_UNAUTHENTICATED;
    case 403: return ERR_DENIED;
    case 404: return ERR_NOT_FOUND;
    case 409: return has(m, "already in use by container") || has(m, "already exists") ? ERR_EXISTS : ERR_PRECONDITION;
    case 501: return ERR_UNIMPLEMENTED;
    case 503: return ERR_UNAVAILABLE;
    default: return ERR_UNKNOWN;
    }
}

/* What is told by text alone: 500 covers everything that the engine did not foresee. */
static const struct {
    const char *text;
    enum err_code code;
    const char *hint;
} texts[] = {
    {"no space left on device", ERR_EXHAUSTED, "free space where the engine keeps its data (docker system df)"},
    {"disk quota exceeded", ERR_EXHAUSTED, "free space where the engine keeps its data (docker system df)"},
    {"port is already allocated", ERR_PRECONDITION,
     "another container or program holds this port: stop it or publish another one"},
    {"address already in use", ERR_PRECONDITION, "another container or program holds this port: stop it or publish another one"},
    {"toomanyrequests", ERR_EXHAUSTED, "the registry limits pulls: give credentials or wait"},
    {"rate limit", ERR_EXHAUSTED, "the registry limits pulls: give credentials or wait"},
    {"no basic auth credentials", ERR_UNAUTHENTICATED, "the registry wants a user name and password"},
    {"incorrect username or password", ERR_UNAUTHENTICATED, "check the user name and password for this registry"},
    {"authentication required", ERR_UNAUTHENTICATED, "check the user name and password for this registry"},
    {"unauthorized", ERR_UNAUTHENTICATED, "check the user name and password for this registry"},
    {"pull access denied", ERR_NOT_FOUND, "the image does not exist, or needs credentials that may read it"},
    {"requested access to the resource is denied", ERR_DENIED, "these credentials may not read the image"},
    {"manifest unknown", ERR_NOT_FOUND, "check the name and the tag of the image"},
    {"not found: manifest", ERR_NOT_FOUND, "check the name and the tag of the image"},
    {"no such host", ERR_UNAVAILABLE, "the registry's name cannot be resolved on the server"},
    {"connection refused", ERR_UNAVAILABLE, "the registry does not answer"},
    {"i/o timeout", ERR_UNAVAILABLE, "the registry does not answer in time"},
    {"TLS handshake timeout", ERR_UNAVAILABLE, "the registry does not answer in time"},
    {"Client.Timeout exceeded", ERR_UNAVAILABLE, "the registry does not answer in time"},
    {"network is unreachable", ERR_UNAVAILABLE, "the server has no route to the registry"},
    {"no route to host", ERR_UNAVAILABLE, "the server has no route to the registry"},
    {"context deadline exceeded", ERR_UNAVAILABLE, "the engine gave up waiting; try again"},
    {"is not running", ERR_PRECONDITION, NULL},
    {"configured logging driver does not support reading", ERR_PRECONDITION, "use the log driver json-file, local or journald"},
    {"No such image", ERR_NOT_FOUND, NULL},
};

/* The engine wraps "No such image: x" into itself: "no such image: x: No such image: x". */
static struct str said_once(struct str m)
{
    size_t half = m.n / 2 - (m.n > 1);
    if (m.n < 4 || m.n % 2 != 0 || m.p[half] != ':' || m.p[half + 1] != ' ' || strncasecmp(m.p, m.p + half + 2, half) != 0)
        return m;
    return (struct str){m.p + half + 2, half};
}

int docker_engine_error(int status, struct str message, struct err *err)
{
    char text[400];
    message = said_once(str_trim(message));
    str_copy(text, sizeof(text), message);
    for (char *c = text; *c; c++) {
        if ((uint8_t)*c < 0x20 || *c == 0x7f)
            *c = ' ';
    }
    enum err_code code = code_of_status(status, message);
    const char *hint = NULL;
    bool vague = code == ERR_UNKNOWN || code == ERR_NOT_FOUND || code == ERR_DENIED || code == ERR_UNIMPLEMENTED;
    for (size_t i = 0; vague && i < ARRAY_LEN(texts); i++) {
        if (!has(message, texts[i].text))
            continue;
        code = texts[i].code;
        hint = texts[i].hint;
        break;
    }
    int rc = *text ? err_set(err, code, "Docker: %s", text) : err_set(err, code, "Docker: answered with status %d", status);
    if (hint)
        err_hint(err, "%s", hint);
    return rc;
}

static int judge_transport(struct docker *d, int rc, struct err *err)
{
    docker_note(d, rc);
    if (!err)
        return rc;
    bool refused = err->sys == ECONNREFUSED || err->sys == ENOENT;
    if (err->sys == EACCES || err->sys == EPERM) {
        rc = err_set(err, ERR_DENIED, "the Docker Engine's socket %s may not be used by this user", d->addr);
        err_hint(err, "run as root or as a member of the group docker");
    } else if (refused || rc == -(int)ERR_UNAVAILABLE || rc == -(int)ERR_NOT_FOUND) {
        char cause[200];
        str_copy(cause, sizeof(cause), str_from(err->msg));
        rc = err_set(err, ERR_UNAVAILABLE, "the Docker Engine at %s does not answer: %s", d->addr, cause);
        err_hint(err, "is the Docker Engine running? try: systemctl start docker");
    }
    return rc;
}

struct said {
    const char *message;
};
static const struct docker_field said_fields[] = {
    {.name = "message", .type = DOCKER_F_STR, .offset = offsetof(struct said, message)},
    {.name = "cause", .type = DOCKER_F_STR, .offset = offsetof(struct said, message)}, /* podman puts it first */
    {0},
};

int docker_status(struct http_exchange *x, usec_t deadline, struct err *err)
{
    int status = http_head(x)->status;
    if (status == 304)
        return DOCKER_UNCHANGED;
    if (status / 100 == 2 || status == 101)
        return 0;
    AUTO_BUF body = BUF_INIT(DOCKER_ERROR_MAX);
    int rc = http_read_all(x, &body, deadline, err);
    if (rc < 0 && rc != -(int)ERR_EXHAUSTED)
        return rc;
    struct docker_pool *pool = docker_pool_new();
    struct said said = {.message = NULL};
    struct str json = buf_str(&body);
    if (docker_read_object(json, said_fields, &said, pool, NULL) < 0 || !said.message || !*said.message)
        rc = docker_engine_error(status, json.n && json.p[0] == '{' ? STR("") : json, err);
    else
        rc = docker_engine_error(status, str_from(said.message), err);
    docker_pool_free(pool);
    return rc;
}

/* --- Requests ------------------------------------------------------------------------------------------------------------------------ */

int docker_ping(struct docker *d, usec_t deadline, struct err *err)
{
    struct err e = ERR_INIT;
    struct http_exchange *x = NULL;
    struct http_request req = {.method = "GET", .target = "/_ping"};
    int rc = http_request(d->http, &req, deadline, &x, &e);
    if (rc < 0) {
        rc = judge_transport(d, rc, &e);
        if (err)
            *err = e;
        return rc;
    }
    rc = docker_status(x, deadline, err);
    const char *version = http_field(http_head(x), "api-version");
    struct str text = str_from(version ? version : "");
    uint64_t minor = 0;
    AUTO_BUF rest = BUF_INIT(DOCKER_ERROR_MAX);
    if (rc == 0)
        rc = http_read_all(x, &rest, deadline, err);
    if (rc == 0 && (!str_eq(str_cut(&text, '.'), STR("1")) || str_to_u64(text, 999, &minor) != 0))
        rc = err_set(err, ERR_PRECONDITION, "what answers at %s is no Docker Engine", d->addr);
    if (rc == 0 && minor < DOCKER_API_OURS_MIN) {
        rc = err_set(err, ERR_PRECONDITION, "the Docker Engine speaks API 1.%u; 1.%d is needed", (unsigned)minor, DOCKER_API_OURS_MIN);
        err_hint(err, "install Docker 20.10 or later");
    }
    http_finish(x);
    if (rc == 0)
        (void)snprintf(d->api, sizeof(d->api), "1.%u", (unsigned)(minor < DOCKER_API_OURS_MAX ? minor : DOCKER_API_OURS_MAX));
    return rc;
}

int docker_api_range(struct docker *d, char ret_min[DOCKER_API_SIZE], char ret_max[DOCKER_API_SIZE], usec_t deadline, struct err *err)
{
    struct {
        const char *min, *max;
    } range = {0};
    static const struct docker_field fields[] = {
        {.name = "MinAPIVersion", .type = DOCKER_F_STR, .offset = offsetof(__typeof__(range), min)},
        {.name = "ApiVersion", .type = DOCKER_F_STR, .offset = offsetof(__typeof__(range), max)},
        {0},
    };
    AUTO_BUF out = BUF_INIT(DOCKER_REPLY_MAX);
    struct http_exchange *x = NULL;
    struct http_request req = {.method = "GET", .target = "/version"};
    int rc = http_request(d->http, &req, deadline, &x, err);
    if (rc < 0)
        return rc;
    rc = docker_status(x, deadline, err);
    if (rc == 0)
        rc = http_read_all(x, &out, deadline, err);
    (void)http_finish(x);
    if (rc != 0)
        return rc < 0 ? rc : err_set(err, ERR_PRECONDITION, "what answers at %s is no Docker Engine", d->addr);
    struct docker_pool *pool = docker_pool_new();
    rc = docker_read_object(buf_str(&out), fields, &range, pool, err);
    if (rc == 0) {
        (void)str_copy(ret_min, DOCKER_API_SIZE, str_from(range.min));
        (void)str_copy(ret_max, DOCKER_API_SIZE, str_from(range.max));
    }
    (void)docker_pool_free(pool);
    return rc;
}

int docker_path(struct buf *path, const char *prefix, const char *id, const char *rest, struct err *err)
{
    if (!*id || strcmp(id, ".") == 0 || strcmp(id, "..") == 0)
        return err_set(err, ERR_INVALID, "an empty name");
    if (buf_append_cstr(path, prefix) != 0 || http_escape(path, str_from(id)) != 0 || buf_append_cstr(path, rest) != 0)
        return err_set(err, ERR_INVALID, "name too long");
    return 0;
}

int docker_request(struct docker *d, const struct http_request *req, usec_t deadline, struct http_exchange **ret, struct err *err)
{
    int rc = d->api[0] ? 0 : docker_ping(d, deadline, err);
    if (rc < 0)
        return rc;
    AUTO_BUF target = BUF_INIT(DOCKER_PATH_MAX + 16);
    if (buf_printf(&target, "/v%s%s", d->api, req->target) != 0)
        return err_set(err, ERR_INVALID, "request to the engine too long");
    struct http_request versioned = *req;
    versioned.target = buf_cstr(&target);
    struct err e = ERR_INIT;
    rc = http_request(d->http, &versioned, deadline, ret, &e);
    if (rc < 0) {
        rc = judge_transport(d, rc, &e);
        if (err)
            *err = e;
    }
    return rc;
}

static int finish_request(struct docker *d, struct http_exchange *x, struct buf *out, usec_t deadline, struct err *err)
{
    int rc = docker_status(x, deadline, err);
    if (rc == 0) {
        AUTO_BUF dropped = BUF_INIT(DOCKER_REPLY_MAX);
        rc = http_read_all(x, out ? out : &dropped, deadline, err);
    }
    http_finish(x);
    return docker_note(d, rc);
}

int docker_do(struct docker *d, const char *method, const struct buf *path, struct str body, struct buf *out, usec_t deadline,
              struct err *err)
{
    struct http_exchange *x = NULL;
    struct http_field type = {"content-type", "application/json"};
    struct http_request req = {
        .method = method, .target = buf_cstr(path), .fields = &type, .n_fields = body.n ? 1 : 0, .body = body};
    int rc = docker_request(d, &req, deadline, &x, err);
    return rc < 0 ? rc : finish_request(d, x, out, deadline, err);
}

/* 0 when all went out, negative of the source or of the connection. */
static int send_all(struct http_exchange *x, docker_source_fn *source, void *arg, usec_t deadline, bool *ret_ours,
                    struct err *err)
{
    AUTO_FREE char *piece = mem_alloc(DOCKER_READ_SIZE);
    for (;;) {
        size_t n = 0;
        int rc = source(arg, piece, DOCKER_READ_SIZE, &n);
        *ret_ours = rc < 0;
        if (rc < 0)
            return err_set(err, (enum err_code) - rc, "the data for the engine could not be read");
        if (n == 0)
            return 0;
        rc = http_send_body(x, (struct str){piece, n}, deadline, err);
        if (rc < 0)
            return rc;
    }
}

int docker_upload(struct docker *d, const char *method, const struct buf *path, docker_source_fn *source, void *arg,
                  struct buf *out, usec_t deadline, struct err *err)
{
    struct http_exchange *x = NULL;
    struct http_field type = {"content-type", "application/x-tar"};
    struct http_request req = {.method = method, .target = buf_cstr(path), .fields = &type, .n_fields = 1, .stream_body = true};
    int rc = docker_request(d, &req, deadline, &x, err);
    if (rc < 0)
        return rc;
    bool ours = false;
    struct err sending = ERR_INIT;
    rc = send_all(x, source, arg, deadline, &ours, &sending);
    if (rc < 0 && (ours || rc != -(int)ERR_UNAVAILABLE)) {
        http_finish(x);
        if (err)
            *err = sending;
        return rc;
    }
    /* An engine that refuses says so and closes; what it said counts, not the failed write. */
    int sent = rc;
    rc = http_response(x, deadline, err);
    if (rc < 0) {
        http_finish(x);
        return docker_note(d, rc);
    }
    rc = finish_request(d, x, out, deadline, err);
    return rc == 0 && sent < 0 ? err_set(err, ERR_DATA_LOSS, "the engine stopped reading early") : rc;
}

/* --- Engine -------------------------------------------------------------------------------------------------------------------------- */

static int read_cgroup_version(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    (void)pool;
    (void)err;
    ((struct docker_info *)obj)->cgroup_version = str_eq(json, STR("\"2\"")) ? 2 : 1;
    return 0;
}

#define F(member, key, kind)                                                                                                     \
    {                                                                                                                            \
        .name = key, .type = DOCKER_F_##kind, .offset = offsetof(struct docker_info, member)                                     \
    }
static const struct docker_field info_fields[] = {
    F(id, "ID", STR),
    F(version, "ServerVersion", STR),
    F(os, "OperatingSystem", STR),
    F(arch, "Architecture", STR),
    F(kernel, "KernelVersion", STR),
    F(root_dir, "DockerRootDir", STR),
    F(cgroup_driver, "CgroupDriver", STR),
    F(storage_driver, "Driver", STR),
    F(logging_driver, "LoggingDriver", STR),
    F(hostname, "Name", STR),
    F(mem_bytes, "MemTotal", U64),
    F(ncpu, "NCPU", U32),
    F(containers, "Containers", U32),
    F(containers_running, "ContainersRunning", U32),
    F(images, "Images", U32),
    {.name = "CgroupVersion", .type = DOCKER_F_FN, .fn = read_cgroup_version},
    {0},
};
#undef F

int docker_info_get(struct docker *d, struct docker_info *ret, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    AUTO_BUF out = BUF_INIT(DOCKER_REPLY_MAX);
    *ret = (struct docker_info){.cgroup_version = 1};
    int rc = buf_append_cstr(&path, "/info");
    if (rc == 0)
        rc = docker_do(d, "GET", &path, STR(""), &out, deadline, err);
    if (rc < 0)
        return rc;
    ret->pool = docker_pool_new();
    rc = docker_read_object(buf_str(&out), info_fields, ret, ret->pool, err);
    if (rc < 0)
        docker_info_release(ret);
    else
        ret->api = docker_pool_str(ret->pool, str_from(d->api));
    return rc;
}

void docker_info_release(struct docker_info *i)
{
    docker_pool_free(i->pool);
    *i = (struct docker_info){0};
}
