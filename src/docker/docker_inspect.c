/* SPDX-License-Identifier: Apache-2.0 */
/* docker_inspect — containers as the engine describes them: one in full, or all in brief. */
#include <string.h>

#include "docker/docker_internal.h"

static const char *const state_names[] = {"unknown", "created", "running", "paused", "restarting", "removing", "exited", "dead"};
static const char *const health_names[] = {"none", "starting", "healthy", "unhealthy"};

const char *docker_state_name(enum docker_state s)
{
    return (size_t)s < ARRAY_LEN(state_names) ? state_names[s] : state_names[0];
}

const char *docker_health_name(enum docker_health h)
{
    return (size_t)h < ARRAY_LEN(health_names) ? health_names[h] : health_names[0];
}

static size_t index_of(const char *const *names, size_t n, struct str quoted)
{
    struct str s = quoted.n >= 2 ? (struct str){quoted.p + 1, quoted.n - 2} : quoted;
    for (size_t i = 0; i < n; i++) {
        if (str_eq(s, str_from(names[i])))
            return i;
    }
    return 0;
}

/* "/web" -> "web". */
static const char *bare_name(const char *name)
{
    return *name == '/' ? name + 1 : name;
}

/* --- Ports and networks, as both calls have them ------------------------------------------------------------------------------------------ */

struct ports {
    struct docker_binding *items;
    size_t n;
};

static struct docker_binding *add_binding(struct ports *p, struct docker_pool *pool)
{
    p->items = docker_pool_grow(pool, p->items, p->n, sizeof(*p->items));
    struct docker_binding *b = &p->items[p->n++];
    *b = (struct docker_binding){.proto = "tcp", .host_ip = ""};
    return b;
}

struct port_reading {
    struct ports *ports;
    uint16_t port;
    const char *proto;
    const char *host_ip, *host_port;
    size_t published;
};

static int read_published(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    struct port_reading *r = obj;
    static const struct docker_field fields[] = {
        {.name = "HostIp", .type = DOCKER_F_STR, .offset = offsetof(struct port_reading, host_ip)},
        {.name = "HostPort", .type = DOCKER_F_STR, .offset = offsetof(struct port_reading, host_port)},
        {0},
    };
    int rc = docker_read_object(json, fields, r, pool, err);
    if (rc < 0)
        return rc;
    uint64_t port = 0;
    (void)!str_to_u64(str_from(r->host_port), UINT16_MAX, &port);
    struct docker_binding *b = add_binding(r->ports, pool);
    *b = (struct docker_binding){r->port, (uint16_t)port, r->proto, r->host_ip};
    r->published++;
    return 0;
}

/* "80/tcp": [{"HostIp": ..., "HostPort": ...}] or null. */
static int read_port(struct str key, struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    struct port_reading r = {.ports = obj};
    uint64_t port = 0;
    if (str_to_u64(str_cut(&key, '/'), UINT16_MAX, &port) != 0)
        return 0;
    r.port = (uint16_t)port;
    r.proto = docker_pool_str(pool, key);
    int rc = docker_read_array(json, read_published, &r, pool, err);
    if (rc == 0 && r.published == 0)
        *add_binding(r.ports, pool) = (struct docker_binding){r.port, 0, r.proto, ""};
    return rc;
}

#define F(member, key, kind)                                                                                                     \
    {                                                                                                                            \
        .name = key, .type = DOCKER_F_##kind, .offset = offsetof(struct docker_endpoint, member)                                 \
    }
static const struct docker_field endpoint_fields[] = {
    F(network_id, "NetworkID", STR), F(ipv4, "IPAddress", STR), F(ipv6, "GlobalIPv6Address", STR),
    F(gateway, "Gateway", STR),      F(mac, "MacAddress", STR), {0},
};
#undef F

struct endpoints {
    struct docker_endpoint *items;
    size_t n;
};

static int read_endpoint(struct str key, struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    struct endpoints *e = obj;
    e->items = docker_pool_grow(pool, e->items, e->n, sizeof(*e->items));
    struct docker_endpoint *at = &e->items[e->n++];
    *at = (struct docker_endpoint){.network = docker_pool_str(pool, key)};
    return docker_read_object(json, endpoint_fields, at, pool, err);
}

/* --- Inspect ------------------------------------------------------------------------------------------------------------------------- */

static int read_state(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    (void)pool;
    (void)err;
    ((struct docker_container *)obj)->state = (enum docker_state)index_of(state_names, ARRAY_LEN(state_names), json);
    return 0;
}

static int read_health_status(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    (void)pool;
    (void)err;
    ((struct docker_container *)obj)->health = (enum docker_health)index_of(health_names, ARRAY_LEN(health_names), json);
    return 0;
}

#define F(member, key, kind)                                                                                                     \
    {                                                                                                                            \
        .name = key, .type = DOCKER_F_##kind, .offset = offsetof(struct docker_container, member)                                \
    }

/* Entries are in order of time: the last one read stays. */
static int read_health_entry(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    static const struct docker_field fields[] = {F(health_exit, "ExitCode", INT), F(health_log, "Output", STR), {0}};
    return docker_read_object(json, fields, obj, pool, err);
}

static int read_health_log(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    return docker_read_array(json, read_health_entry, obj, pool, err);
}

static int read_networks(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    struct docker_container *c = obj;
    struct endpoints e = {0};
    int rc = docker_read_members(json, read_endpoint, &e, pool, err);
    c->networks = e.items;
    c->n_networks = e.n;
    return rc;
}

static int read_ports(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    struct docker_container *c = obj;
    struct ports p = {0};
    int rc = docker_read_members(json, read_port, &p, pool, err);
    c->ports = p.items;
    c->n_ports = p.n;
    return rc;
}

static int read_rw(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    (void)pool;
    (void)err;
    ((struct docker_container_mount *)obj)->read_only = str_eq(json, STR("false"));
    return 0;
}

#define M(member, key)                                                                                                           \
    {                                                                                                                            \
        .name = key, .type = DOCKER_F_STR, .offset = offsetof(struct docker_container_mount, member)                             \
    }
static const struct docker_field mount_fields[] = {
    M(type, "Type"),
    M(name, "Name"),
    M(source, "Source"),
    M(target, "Destination"),
    {.name = "RW", .type = DOCKER_F_FN, .fn = read_rw},
    {0},
};
#undef M

static int read_mount(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    struct docker_container *c = obj;
    c->mounts = docker_pool_grow(pool, c->mounts, c->n_mounts, sizeof(*c->mounts));
    struct docker_container_mount *m = &c->mounts[c->n_mounts++];
    *m = (struct docker_container_mount){0};
    return docker_read_object(json, mount_fields, m, pool, err);
}

static int read_mounts(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    return docker_read_array(json, read_mount, obj, pool, err);
}

static const struct docker_field health_fields[] = {
    {.name = "Status", .type = DOCKER_F_FN, .fn = read_health_status},
    F(health_failing, "FailingStreak", U32),
    {.name = "Log", .type = DOCKER_F_FN, .fn = read_health_log},
    {0},
};
static const struct docker_field state_fields[] = {
    {.name = "Status", .type = DOCKER_F_FN, .fn = read_state},
    F(exit_code, "ExitCode", INT),
    F(oom_killed, "OOMKilled", BOOL),
    F(pid, "Pid", INT),
    F(error, "Error", STR),
    F(started, "StartedAt", STR),
    F(finished, "FinishedAt", STR),
    {.name = "Health", .type = DOCKER_F_OBJECT, .sub = health_fields},
    {0},
};
static const struct docker_field config_fields[] = {
    F(image, "Image", STR), F(tty, "Tty", BOOL), F(env, "Env", STRS), F(command, "Cmd", STRS), F(labels, "Labels", MAP), {0},
};
static const struct docker_field restart_fields[] = {F(restart, "Name", STR), {0}};
static const struct docker_field log_fields[] = {F(log_driver, "Type", STR), {0}};
static const struct docker_field host_config_fields[] = {
    F(nano_cpus, "NanoCpus", U64),
    F(memory, "Memory", U64),
    F(pids, "PidsLimit", U64),
    F(network_mode, "NetworkMode", STR),
    F(cgroup_parent, "CgroupParent", STR),
    F(read_only, "ReadonlyRootfs", BOOL),
    F(tmpfs, "Tmpfs", KEYS),
    {.name = "RestartPolicy", .type = DOCKER_F_OBJECT, .sub = restart_fields},
    {.name = "LogConfig", .type = DOCKER_F_OBJECT, .sub = log_fields},
    {0},
};
static const struct docker_field network_settings_fields[] = {
    {.name = "Networks", .type = DOCKER_F_FN, .fn = read_networks},
    {.name = "Ports", .type = DOCKER_F_FN, .fn = read_ports},
    {0},
};
static const struct docker_field graph_data_fields[] = {F(merged_dir, "MergedDir", STR), {0}};
static const struct docker_field graph_fields[] = {{.name = "Data", .type = DOCKER_F_OBJECT, .sub = graph_data_fields}, {0}};
static const struct docker_field container_fields[] = {
    F(id, "Id", STR),
    F(name, "Name", STR),
    F(image_id, "Image", STR),
    F(created, "Created", STR),
    F(restart_count, "RestartCount", U32),
    F(log_path, "LogPath", STR),
    F(health_log, "", STR), /* these are never sent: only so that they are not NULL */
    F(merged_dir, "", STR),
    {.name = "GraphDriver", .type = DOCKER_F_OBJECT, .sub = graph_fields},
    {.name = "State", .type = DOCKER_F_OBJECT, .sub = state_fields},
    {.name = "Config", .type = DOCKER_F_OBJECT, .sub = config_fields},
    {.name = "HostConfig", .type = DOCKER_F_OBJECT, .sub = host_config_fields},
    {.name = "NetworkSettings", .type = DOCKER_F_OBJECT, .sub = network_settings_fields},
    {.name = "Mounts", .type = DOCKER_F_FN, .fn = read_mounts},
    {0},
};
#undef F

int docker_container_inspect(struct docker *d, const char *id, struct docker_container *ret, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    AUTO_BUF out = BUF_INIT(DOCKER_REPLY_MAX);
    *ret = (struct docker_container){0};
    int rc = docker_path(&path, "/containers/", id, "/json", err);
    if (rc == 0)
        rc = docker_do(d, "GET", &path, STR(""), &out, deadline, err);
    if (rc < 0)
        return rc;
    ret->pool = docker_pool_new();
    rc = docker_read_object(buf_str(&out), container_fields, ret, ret->pool, err);
    if (rc < 0) {
        docker_container_release(ret);
        return rc;
    }
    ret->name = bare_name(ret->name);
    return 0;
}

void docker_container_release(struct docker_container *c)
{
    docker_pool_free(c->pool);
    *c = (struct docker_container){0};
}

/* --- List ---------------------------------------------------------------------------------------------------------------------------- */

static int read_summary_state(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    (void)pool;
    (void)err;
    ((struct docker_summary *)obj)->state = (enum docker_state)index_of(state_names, ARRAY_LEN(state_names), json);
    return 0;
}

static int read_summary_networks(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    struct docker_summary *s = obj;
    struct endpoints e = {0};
    int rc = docker_read_members(json, read_endpoint, &e, pool, err);
    s->networks = e.items;
    s->n_networks = e.n;
    return rc;
}

#define B(member, key, kind)                                                                                                     \
    {                                                                                                                            \
        .name = key, .type = DOCKER_F_##kind, .offset = offsetof(struct docker_binding, member)                                  \
    }
static const struct docker_field summary_port_fields[] = {
    B(container_port, "PrivatePort", U16), B(host_port, "PublicPort", U16), B(proto, "Type", STR), B(host_ip, "IP", STR), {0},
};
#undef B

static int read_summary_port(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    struct docker_summary *s = obj;
    struct ports p = {s->ports, s->n_ports};
    struct docker_binding *b = add_binding(&p, pool);
    s->ports = p.items;
    s->n_ports = p.n;
    return docker_read_object(json, summary_port_fields, b, pool, err);
}

static int read_summary_ports(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    return docker_read_array(json, read_summary_port, obj, pool, err);
}

/* Links add further names "/other/alias": the one without a second slash is its own. */
static int read_name(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    (void)err;
    struct docker_summary *s = obj;
    const char *name = bare_name(docker_json_string(json, pool));
    if (!s->name || !*s->name || !strchr(name, '/'))
        s->name = name;
    return 0;
}

static int read_names(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    return docker_read_array(json, read_name, obj, pool, err);
}

/* Volumes have a name, other mounts none. */
static int read_summary_mount(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    struct docker_summary *s = obj;
    struct docker_container_mount m = {0};
    int rc = docker_read_object(json, mount_fields, &m, pool, err);
    if (rc < 0 || !*m.name || strcmp(m.type, "volume") != 0)
        return rc;
    s->volumes = docker_pool_grow(pool, s->volumes, s->n_volumes, sizeof(*s->volumes));
    s->volumes[s->n_volumes++] = m.name;
    return 0;
}

static int read_summary_mounts(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    return docker_read_array(json, read_summary_mount, obj, pool, err);
}

#define F(member, key, kind)                                                                                                     \
    {                                                                                                                            \
        .name = key, .type = DOCKER_F_##kind, .offset = offsetof(struct docker_summary, member)                                  \
    }
static const struct docker_field summary_network_fields[] = {
    {.name = "Networks", .type = DOCKER_F_FN, .fn = read_summary_networks}, {0}};
static const struct docker_field summary_fields[] = {
    F(id, "Id", STR),
    F(name, "", STR), /* never sent under this name: read_names sets it */
    F(image, "Image", STR),
    F(image_id, "ImageID", STR),
    F(status, "Status", STR),
    F(created, "Created", I64),
    F(labels, "Labels", MAP),
    {.name = "Names", .type = DOCKER_F_FN, .fn = read_names},
    {.name = "State", .type = DOCKER_F_FN, .fn = read_summary_state},
    {.name = "Ports", .type = DOCKER_F_FN, .fn = read_summary_ports},
    {.name = "Mounts", .type = DOCKER_F_FN, .fn = read_summary_mounts},
    {.name = "NetworkSettings", .type = DOCKER_F_OBJECT, .sub = summary_network_fields},
    {0},
};
#undef F

static enum docker_health health_of_status(const char *status)
{
    if (strstr(status, "(healthy)"))
        return DOCKER_HEALTH_HEALTHY;
    if (strstr(status, "(unhealthy)"))
        return DOCKER_HEALTH_UNHEALTHY;
    return strstr(status, "(health: starting)") ? DOCKER_HEALTH_STARTING : DOCKER_HEALTH_NONE;
}

static int read_summary(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    struct docker_summaries *l = obj;
    l->items = docker_pool_grow(pool, l->items, l->n, sizeof(*l->items));
    struct docker_summary *s = &l->items[l->n++];
    *s = (struct docker_summary){0};
    int rc = docker_read_object(json, summary_fields, s, pool, err);
    if (rc == 0)
        s->health = health_of_status(s->status);
    return rc;
}

int docker_container_list(struct docker *d, const char *const *labels, size_t n_labels, struct docker_summaries *ret,
                          usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    AUTO_BUF out = BUF_INIT(DOCKER_LIST_MAX);
    *ret = (struct docker_summaries){0};
    if (buf_append_cstr(&path, "/containers/json?all=1&") != 0 || docker_write_filters(&path, labels, n_labels, NULL) != 0)
        return err_set(err, ERR_INVALID, "labels too long");
    int rc = docker_do(d, "GET", &path, STR(""), &out, deadline, err);
    if (rc < 0)
        return rc;
    ret->pool = docker_pool_new();
    rc = docker_read_array(buf_str(&out), read_summary, ret, ret->pool, err);
    if (rc < 0)
        docker_summaries_release(ret);
    return rc;
}

void docker_summaries_release(struct docker_summaries *l)
{
    docker_pool_free(l->pool);
    *l = (struct docker_summaries){0};
}
