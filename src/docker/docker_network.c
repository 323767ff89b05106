/* SPDX-License-Identifier: Apache-2.0 */
/* docker_network — networks and volumes, made so that asking twice is harmless. */
#include <string.h>

#include "docker/docker_internal.h"

/* --- Networks ------------------------------------------------------------------------------------------------------------------------ */

#define F(member, key, kind)                                                                                                     \
    {                                                                                                                            \
        .name = key, .type = DOCKER_F_##kind, .offset = offsetof(struct docker_network, member)                                  \
    }

static int read_ipam_entry(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    struct docker_network *n = obj;
    if (n->subnet && *n->subnet)
        return 0; /* the first one */
    static const struct docker_field fields[] = {F(subnet, "Subnet", STR), F(gateway, "Gateway", STR), {0}};
    return docker_read_object(json, fields, n, pool, err);
}

static int read_ipam_config(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    return docker_read_array(json, read_ipam_entry, obj, pool, err);
}

static const struct docker_field ipam_fields[] = {{.name = "Config", .type = DOCKER_F_FN, .fn = read_ipam_config}, {0}};
static const struct docker_field network_fields[] = {
    F(id, "Id", STR),
    F(name, "Name", STR),
    F(driver, "Driver", STR),
    F(internal, "Internal", BOOL),
    F(labels, "Labels", MAP),
    {.name = "IPAM", .type = DOCKER_F_OBJECT, .sub = ipam_fields},
    {0},
};
#undef F

static int read_network(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    struct docker_networks *l = obj;
    l->items = docker_pool_grow(pool, l->items, l->n, sizeof(*l->items));
    struct docker_network *n = &l->items[l->n++];
    *n = (struct docker_network){.subnet = "", .gateway = ""};
    return docker_read_object(json, network_fields, n, pool, err);
}

/* What the engine lists under @target, narrowed to @label (NULL: all). */
static int get_by_label(struct docker *d, const char *target, const char *label, struct buf *out, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    if (buf_append_cstr(&path, target) != 0 || docker_write_filters(&path, &label, 1, NULL) != 0)
        return err_set(err, ERR_INVALID, "label too long");
    return docker_do(d, "GET", &path, STR(""), out, deadline, err);
}

int docker_network_list(struct docker *d, const char *label, struct docker_networks *ret, usec_t deadline, struct err *err)
{
    AUTO_BUF out = BUF_INIT(DOCKER_LIST_MAX);
    *ret = (struct docker_networks){0};
    int rc = get_by_label(d, "/networks?", label, &out, deadline, err);
    if (rc < 0)
        return rc;
    ret->pool = docker_pool_new();
    rc = docker_read_array(buf_str(&out), read_network, ret, ret->pool, err);
    if (rc < 0)
        docker_networks_release(ret);
    return rc;
}

void docker_networks_release(struct docker_networks *l)
{
    docker_pool_free(l->pool);
    *l = (struct docker_networks){0};
}

static int find_network(struct docker *d, const char *name, char *ret_id, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    AUTO_BUF out = BUF_INIT(DOCKER_LIST_MAX);
    int rc = docker_path(&path, "/networks/", name, "", err);
    if (rc == 0)
        rc = docker_do(d, "GET", &path, STR(""), &out, deadline, err);
    if (rc < 0)
        return rc;
    struct docker_pool *pool = docker_pool_new();
    struct docker_network n = {0};
    rc = docker_read_object(buf_str(&out), network_fields, &n, pool, err);
    if (rc == 0 && strcmp(n.name, name) != 0) /* the engine looks for ids, too */
        rc = err_set(err, ERR_NOT_FOUND, "no network %s", name);
    if (rc == 0 && ret_id)
        str_copy(ret_id, DOCKER_ID_SIZE, str_from(n.id));
    docker_pool_free(pool);
    return rc;
}

static void write_string(struct jsonw *w, const char *key, const char *value)
{
    if (!value)
        return;
    jsonw_key(w, key);
    jsonw_string(w, value);
}

static int write_network(struct buf *body, const struct docker_network_spec *spec)
{
    struct jsonw w;
    jsonw_init(&w, body);
    jsonw_object(&w);
    write_string(&w, "Name", spec->name);
    write_string(&w, "Driver", "bridge");
    jsonw_key(&w, "CheckDuplicate");
    jsonw_bool(&w, true);
    jsonw_key(&w, "Internal");
    jsonw_bool(&w, spec->internal);
    if (spec->subnet || spec->gateway || spec->ip_range) {
        jsonw_key(&w, "IPAM");
        jsonw_object(&w);
        jsonw_key(&w, "Config");
        jsonw_array(&w);
        jsonw_object(&w);
        write_string(&w, "Subnet", spec->subnet);
        write_string(&w, "Gateway", spec->gateway);
        write_string(&w, "IPRange", spec->ip_range);
        jsonw_object_end(&w);
        jsonw_array_end(&w);
        jsonw_object_end(&w);
    }
    docker_write_pairs(&w, "Labels", spec->labels, spec->n_labels);
    docker_write_pairs(&w, "Options", spec->options, spec->n_options);
    jsonw_object_end(&w);
    return jsonw_end(&w);
}

int docker_network_ensure(struct docker *d, const struct docker_network_spec *spec, char *ret_id, usec_t deadline,
                          struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    AUTO_BUF body = BUF_INIT(DOCKER_BODY_MAX);
    int rc = find_network(d, spec->name, ret_id, deadline, err);
    if (rc != -(int)ERR_NOT_FOUND)
        return rc < 0 ? rc : DOCKER_UNCHANGED;
    if (write_network(&body, spec) != 0 || buf_append_cstr(&path, "/networks/create") != 0)
        return err_set(err, ERR_INVALID, "network description too long");
    struct err made = ERR_INIT;
    rc = docker_do(d, "POST", &path, buf_str(&body), NULL, deadline, &made);
    /* Somebody else may have been faster. */
    if (rc < 0 && rc != -(int)ERR_EXISTS) {
        if (err)
            *err = made;
        return rc;
    }
    int found = find_network(d, spec->name, ret_id, deadline, err);
    return found < 0 ? found : rc < 0 ? DOCKER_UNCHANGED : 0;
}

static int absent_is_fine(int rc)
{
    return rc == -(int)ERR_NOT_FOUND ? DOCKER_UNCHANGED : rc;
}

int docker_network_remove(struct docker *d, const char *name, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    int rc = docker_path(&path, "/networks/", name, "", err);
    if (rc < 0)
        return rc;
    rc = docker_do(d, "DELETE", &path, STR(""), NULL, deadline, err);
    if (rc == -(int)ERR_DENIED && err && strstr(err->msg, "active endpoints")) {
        rc = -(int)ERR_PRECONDITION; /* the engine answers 403 */
        err->code = ERR_PRECONDITION;
    }
    return absent_is_fine(rc);
}

int docker_network_connect(struct docker *d, const char *network, const char *container, const char *const *aliases,
                           size_t n_aliases, const char *ipv4, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    AUTO_BUF body = BUF_INIT(DOCKER_BODY_MAX);
    struct jsonw w;
    jsonw_init(&w, &body);
    jsonw_object(&w);
    write_string(&w, "Container", container);
    jsonw_key(&w, "EndpointConfig");
    jsonw_object(&w);
    docker_write_strings(&w, "Aliases", aliases, n_aliases);
    if (ipv4) {
        jsonw_key(&w, "IPAMConfig");
        jsonw_object(&w);
        write_string(&w, "IPv4Address", ipv4);
        jsonw_object_end(&w);
    }
    jsonw_object_end(&w);
    jsonw_object_end(&w);
    int rc = jsonw_end(&w);
    if (rc == 0)
        rc = docker_path(&path, "/networks/", network, "/connect", err);
    if (rc < 0)
        return rc;
    struct err e = ERR_INIT;
    rc = docker_do(d, "POST", &path, buf_str(&body), NULL, deadline, &e);
    if (rc < 0 && strstr(e.msg, "already exists in network"))
        return DOCKER_UNCHANGED;
    if (rc < 0 && err)
        *err = e;
    return rc;
}

int docker_network_disconnect(struct docker *d, const char *network, const char *container, bool force, usec_t deadline,
                              struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    AUTO_BUF body = BUF_INIT(DOCKER_BODY_MAX);
    struct jsonw w;
    jsonw_init(&w, &body);
    jsonw_object(&w);
    write_string(&w, "Container", container);
    jsonw_key(&w, "Force");
    jsonw_bool(&w, force);
    jsonw_object_end(&w);
    int rc = jsonw_end(&w);
    if (rc == 0)
        rc = docker_path(&path, "/networks/", network, "/disconnect", err);
    if (rc < 0)
        return rc;
    struct err e = ERR_INIT;
    rc = docker_do(d, "POST", &path, buf_str(&body), NULL, deadline, &e);
    if (rc == -(int)ERR_NOT_FOUND || (rc < 0 && strstr(e.msg, "is not connected to")))
        return DOCKER_UNCHANGED;
    if (rc < 0 && err)
        *err = e;
    return rc;
}

/* --- Volumes ------------------------------------------------------------------------------------------------------------------------- */

int docker_volume_ensure(struct docker *d, const char *name, const struct docker_pair *labels, size_t n_labels, usec_t deadline,
                         struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    AUTO_BUF body = BUF_INIT(DOCKER_BODY_MAX);
    struct jsonw w;
    if (!*name) /* the engine would make an anonymous one */
        return err_set(err, ERR_INVALID, "a volume needs a name");
    jsonw_init(&w, &body);
    jsonw_object(&w);
    write_string(&w, "Name", name);
    docker_write_pairs(&w, "Labels", labels, n_labels);
    jsonw_object_end(&w);
    if (jsonw_end(&w) != 0 || buf_append_cstr(&path, "/volumes/create") != 0)
        return err_set(err, ERR_INVALID, "volume description too long");
    return docker_do(d, "POST", &path, buf_str(&body), NULL, deadline, err);
}

int docker_volume_remove(struct docker *d, const char *name, bool force, usec_t deadline, struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    int rc = docker_path(&path, "/volumes/", name, force ? "?force=1" : "", err);
    return rc < 0 ? rc : absent_is_fine(docker_do(d, "DELETE", &path, STR(""), NULL, deadline, err));
}

#define F(member, key, kind)                                                                                                     \
    {                                                                                                                            \
        .name = key, .type = DOCKER_F_##kind, .offset = offsetof(struct docker_volume, member)                                   \
    }
static const struct docker_field volume_fields[] = {
    F(name, "Name", STR),         F(driver, "Driver", STR), F(mountpoint, "Mountpoint", STR),
    F(created, "CreatedAt", STR), F(labels, "Labels", MAP), {0},
};
#undef F

static int read_volume(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    struct docker_volumes *l = obj;
    l->items = docker_pool_grow(pool, l->items, l->n, sizeof(*l->items));
    struct docker_volume *v = &l->items[l->n++];
    *v = (struct docker_volume){0};
    return docker_read_object(json, volume_fields, v, pool, err);
}

static int read_volumes(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    return docker_read_array(json, read_volume, obj, pool, err);
}

static int read_warning(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    (void)json;
    (void)pool;
    (void)err;
    ((struct docker_volumes *)obj)->incomplete = true;
    return 0;
}

static int read_warnings(struct str json, void *obj, struct docker_pool *pool, struct err *err)
{
    return docker_read_array(json, read_warning, obj, pool, err);
}

static const struct docker_field volumes_fields[] = {
    {.name = "Volumes", .type = DOCKER_F_FN, .fn = read_volumes},
    {.name = "Warnings", .type = DOCKER_F_FN, .fn = read_warnings},
    {0},
};

int docker_volume_list(struct docker *d, const char *label, struct docker_volumes *ret, usec_t deadline, struct err *err)
{
    AUTO_BUF out = BUF_INIT(DOCKER_LIST_MAX);
    *ret = (struct docker_volumes){0};
    int rc = get_by_label(d, "/volumes?", label, &out, deadline, err);
    if (rc < 0)
        return rc;
    ret->pool = docker_pool_new();
    rc = docker_read_object(buf_str(&out), volumes_fields, ret, ret->pool, err);
    if (rc < 0)
        docker_volumes_release(ret);
    return rc;
}

void docker_volumes_release(struct docker_volumes *l)
{
    docker_pool_free(l->pool);
    *l = (struct docker_volumes){0};
}
