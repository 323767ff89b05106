/* SPDX-License-Identifier: Apache-2.0 */
/* docker_exec — processes started in running containers, and the container's own one, over an upgraded connection. */
#include <stdio.h>

#include "docker/docker_internal.h"

static void put_true(struct jsonw *w, const char *key)
{
    jsonw_key(w, key);
    jsonw_bool(w, true);
}

static int write_exec(struct buf *body, const struct docker_exec_spec *s)
{
    struct jsonw w;
    jsonw_init(&w, body);
    jsonw_object(&w);
    put_true(&w, "AttachStdout");
    put_true(&w, "AttachStderr");
    if (s->stdin_open)
        put_true(&w, "AttachStdin");
    if (s->tty)
        put_true(&w, "Tty");
    docker_write_strings(&w, "Cmd", s->command, s->n_command);
    if (s->n_env) {
        jsonw_key(&w, "Env");
        jsonw_array(&w);
        for (size_t i = 0; i < s->n_env; i++) {
            AUTO_FREE char *text = str_printf("%s=%s", s->env[i].name, s->env[i].value);
            jsonw_string(&w, text);
        }
        jsonw_array_end(&w);
    }
    if (s->user) {
        jsonw_key(&w, "User");
        jsonw_string(&w, s->user);
    }
    if (s->working_dir) {
        jsonw_key(&w, "WorkingDir");
        jsonw_string(&w, s->working_dir);
    }
    jsonw_object_end(&w);
    return jsonw_end(&w);
}

struct exec {
    const char *id;
    bool running;
    int exit_code, pid;
};
static const struct docker_field exec_fields[] = {
    {.name = "Id", .type = DOCKER_F_STR, .offset = offsetof(struct exec, id)},
    {.name = "Running", .type = DOCKER_F_BOOL, .offset = offsetof(struct exec, running)},
    {.name = "ExitCode", .type = DOCKER_F_INT, .offset = offsetof(struct exec, exit_code)},
    {.name = "Pid", .type = DOCKER_F_INT, .offset = offsetof(struct exec, pid)},
    {0},
};

static int create(struct docker *d, const char *container, const struct docker_exec_spec *spec, char *ret_id, usec_t deadline,
                  struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    AUTO_BUF body = BUF_INIT(DOCKER_BODY_MAX);
    AUTO_BUF out = BUF_INIT(DOCKER_REPLY_MAX);
    if (write_exec(&body, spec) != 0)
        return err_set(err, ERR_INVALID, "command over %d bytes", DOCKER_BODY_MAX);
    int rc = docker_path(&path, "/containers/", container, "/exec", err);
    if (rc == 0)
        rc = docker_do(d, "POST", &path, buf_str(&body), &out, deadline, err);
    if (rc < 0)
        return rc;
    struct docker_pool *pool = docker_pool_new();
    struct exec e = {0};
    rc = docker_read_object(buf_str(&out), exec_fields, &e, pool, err);
    if (rc == 0 && (!*e.id || str_copy(ret_id, DOCKER_ID_SIZE, str_from(e.id)) != 0))
        rc = err_set(err, ERR_UNKNOWN, "the engine prepared a command and did not say which");
    docker_pool_free(pool);
    return rc;
}

/* Sends @req and takes the connection over. */
static int upgrade(struct docker *d, const struct http_request *req, struct conn **ret, usec_t deadline, struct err *err)
{
    struct http_exchange *x = NULL;
    int rc = docker_request(d, req, deadline, &x, err);
    if (rc < 0)
        return rc;
    rc = docker_status(x, deadline, err);
    if (rc < 0) {
        http_finish(x);
        return docker_note(d, rc);
    }
    rc = http_take_conn(x, ret, err);
    if (rc < 0)
        http_finish(x);
    return rc;
}

int docker_exec_start(struct docker *d, const char *container, const struct docker_exec_spec *spec, char *ret_id,
                      struct conn **ret, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    int rc = create(d, container, spec, ret_id, deadline, err);
    if (rc == 0)
        rc = docker_path(&path, "/exec/", ret_id, "/start", err);
    if (rc < 0)
        return rc;
    struct http_field type = {"content-type", "application/json"};
    struct http_request req = {.method = "POST", .target = buf_cstr(&path), .fields = &type, .n_fields = 1, .upgrade = true};
    req.body = spec->tty ? STR("{\"Detach\":false,\"Tty\":true}") : STR("{\"Detach\":false,\"Tty\":false}");
    return upgrade(d, &req, ret, deadline, err);
}

int docker_container_attach(struct docker *d, const char *id, bool stdin_open, bool logs, struct conn **ret, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    char rest[80];
    (void)snprintf(rest, sizeof(rest), "/attach?stream=1&stdout=1&stderr=1&stdin=%d&logs=%d", stdin_open, logs);
    int rc = docker_path(&path, "/containers/", id, rest, err);
    struct http_request req = {.method = "POST", .target = buf_cstr(&path), .upgrade = true};
    return rc < 0 ? rc : upgrade(d, &req, ret, deadline, err);
}

int docker_container_resize(struct docker *d, const char *id, unsigned rows, unsigned cols, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    char rest[48];
    (void)snprintf(rest, sizeof(rest), "/resize?h=%u&w=%u", rows, cols);
    int rc = docker_path(&path, "/containers/", id, rest, err);
    return rc < 0 ? rc : docker_do(d, "POST", &path, STR(""), NULL, deadline, err);
}

int docker_exec_resize(struct docker *d, const char *exec_id, unsigned rows, unsigned cols, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    char rest[48];
    (void)snprintf(rest, sizeof(rest), "/resize?h=%u&w=%u", rows, cols);
    int rc = docker_path(&path, "/exec/", exec_id, rest, err);
    return rc < 0 ? rc : docker_do(d, "POST", &path, STR(""), NULL, deadline, err);
}

int docker_exec_state(struct docker *d, const char *exec_id, struct docker_exec_state *ret, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    AUTO_BUF out = BUF_INIT(DOCKER_REPLY_MAX);
    int rc = docker_path(&path, "/exec/", exec_id, "/json", err);
    if (rc == 0)
        rc = docker_do(d, "GET", &path, STR(""), &out, deadline, err);
    if (rc < 0)
        return rc;
    struct docker_pool *pool = docker_pool_new();
    struct exec e = {0};
    rc = docker_read_object(buf_str(&out), exec_fields, &e, pool, err);
    docker_pool_free(pool);
    *ret = (struct docker_exec_state){e.running, e.exit_code, e.pid};
    return rc;
}

int docker_exec_inspect(struct docker *d, const char *exec_id, bool *ret_running, int *ret_exit_code, usec_t deadline,
                        struct err *err)
{
    struct docker_exec_state st = {0};
    int rc = docker_exec_state(d, exec_id, &st, deadline, err);
    *ret_running = st.running;
    *ret_exit_code = st.exit_code;
    return rc;
}
