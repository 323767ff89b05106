/* SPDX-License-Identifier: Apache-2.0 */
/* docker_create — a container's description as the engine wants it. */
#include <stdio.h>
#include <string.h>

#include "docker/docker_internal.h"

static void put_string(struct jsonw *w, const char *key, const char *value)
{
    if (!value)
        return;
    jsonw_key(w, key);
    jsonw_string(w, value);
}

static void put_u64(struct jsonw *w, const char *key, uint64_t value)
{
    if (!value)
        return;
    jsonw_key(w, key);
    jsonw_u64(w, value);
}

static void put_true(struct jsonw *w, const char *key, bool value)
{
    if (!value)
        return;
    jsonw_key(w, key);
    jsonw_bool(w, true);
}

static void put_env(struct jsonw *w, const struct docker_pair *env, size_t n)
{
    if (n == 0)
        return;
    jsonw_key(w, "Env");
    jsonw_array(w);
    for (size_t i = 0; i < n; i++) {
        AUTO_FREE char *text = str_printf("%s=%s", env[i].name, env[i].value);
        jsonw_string(w, text);
    }
    jsonw_array_end(w);
}

static void port_key(struct jsonw *w, const struct docker_port *p)
{
    char key[32];
    (void)snprintf(key, sizeof(key), "%u/%s", p->container_port, p->proto ? p->proto : "tcp");
    jsonw_key(w, key);
}

static bool same_port(const struct docker_port *a, const struct docker_port *b)
{
    return a->container_port == b->container_port && strcmp(a->proto ? a->proto : "tcp", b->proto ? b->proto : "tcp") == 0;
}

/* Is this the first entry of its container port? An object must not have a key twice. */
static bool first_of_port(const struct docker_container_spec *s, size_t i)
{
    for (size_t k = 0; k < i; k++) {
        if (same_port(&s->ports[k], &s->ports[i]))
            return false;
    }
    return true;
}

static void put_exposed(struct jsonw *w, const struct docker_container_spec *s)
{
    if (s->n_ports == 0)
        return;
    jsonw_key(w, "ExposedPorts");
    jsonw_object(w);
    for (size_t i = 0; i < s->n_ports; i++) {
        if (!first_of_port(s, i))
            continue;
        port_key(w, &s->ports[i]);
        jsonw_object(w);
        jsonw_object_end(w);
    }
    jsonw_object_end(w);
}

static void put_binding(struct jsonw *w, const struct docker_port *p)
{
    char port[8] = "";
    if (!p->publish)
        return;
    if (p->host_port)
        (void)snprintf(port, sizeof(port), "%u", p->host_port);
    jsonw_object(w);
    jsonw_key(w, "HostIp");
    jsonw_string(w, p->host_ip ? p->host_ip : "");
    jsonw_key(w, "HostPort");
    jsonw_string(w, port);
    jsonw_object_end(w);
}

static void put_bindings(struct jsonw *w, const struct docker_container_spec *s)
{
    if (s->n_ports == 0)
        return;
    jsonw_key(w, "PortBindings");
    jsonw_object(w);
    for (size_t i = 0; i < s->n_ports; i++) {
        if (!first_of_port(s, i))
            continue;
        port_key(w, &s->ports[i]);
        jsonw_array(w);
        for (size_t k = i; k < s->n_ports; k++) {
            if (same_port(&s->ports[i], &s->ports[k]))
                put_binding(w, &s->ports[k]);
        }
        jsonw_array_end(w);
    }
    jsonw_object_end(w);
}

static void put_mounts(struct jsonw *w, const struct docker_container_spec *s)
{
    static const char *const types[] = {"volume", "bind", "tmpfs"};
    if (s->n_mounts == 0)
        return;
    jsonw_key(w, "Mounts");
    jsonw_array(w);
    for (size_t i = 0; i < s->n_mounts; i++) {
        const struct docker_mount *m = &s->mounts[i];
        jsonw_object(w);
        put_string(w, "Type", types[m->type]);
        put_string(w, "Source", m->type == DOCKER_MOUNT_TMPFS ? NULL : m->source);
        put_string(w, "Target", m->target);
        put_true(w, "ReadOnly", m->read_only);
        if (m->type == DOCKER_MOUNT_VOLUME && m->no_copy) {
            jsonw_key(w, "VolumeOptions");
            jsonw_object(w);
            put_true(w, "NoCopy", true);
            jsonw_object_end(w);
        }
        if (m->type == DOCKER_MOUNT_TMPFS && m->tmpfs_size) {
            jsonw_key(w, "TmpfsOptions");
            jsonw_object(w);
            put_u64(w, "SizeBytes", m->tmpfs_size);
            jsonw_object_end(w);
        }
        jsonw_object_end(w);
    }
    jsonw_array_end(w);
}

static void put_health(struct jsonw *w, const struct docker_health_spec *h)
{
    if (h->n_test == 0)
        return;
    jsonw_key(w, "Healthcheck");
    jsonw_object(w);
    docker_write_strings(w, "Test", h->test, h->n_test);
    put_u64(w, "Interval", h->interval * 1000);
    put_u64(w, "Timeout", h->timeout * 1000);
    put_u64(w, "StartPeriod", h->start_period * 1000);
    put_u64(w, "Retries", h->retries);
    jsonw_object_end(w);
}

static void put_security(struct jsonw *w, const struct docker_container_spec *s)
{
    docker_write_strings(w, "CapDrop", s->cap_drop, s->n_cap_drop);
    docker_write_strings(w, "CapAdd", s->cap_add, s->n_cap_add);
    put_true(w, "ReadonlyRootfs", s->read_only);
    put_true(w, "Privileged", s->privileged);
    if (!s->no_new_privileges && s->n_security_opts == 0)
        return;
    jsonw_key(w, "SecurityOpt");
    jsonw_array(w);
    if (s->no_new_privileges)
        jsonw_string(w, "no-new-privileges");
    for (size_t i = 0; i < s->n_security_opts; i++)
        jsonw_string(w, s->security_opts[i]);
    jsonw_array_end(w);
}

static void put_restart(struct jsonw *w, const struct docker_container_spec *s)
{
    jsonw_key(w, "RestartPolicy");
    jsonw_object(w);
    put_string(w, "Name", s->restart ? s->restart : "no");
    put_u64(w, "MaximumRetryCount", s->restart_max);
    jsonw_object_end(w);
}

static void put_devices(struct jsonw *w, const struct docker_container_spec *s)
{
    if (s->n_devices == 0)
        return;
    jsonw_key(w, "Devices");
    jsonw_array(w);
    for (size_t i = 0; i < s->n_devices; i++) {
        jsonw_object(w);
        put_string(w, "PathOnHost", s->devices[i]);
        put_string(w, "PathInContainer", s->devices[i]);
        put_string(w, "CgroupPermissions", "rwm");
        jsonw_object_end(w);
    }
    jsonw_array_end(w);
}

static void put_host_config(struct jsonw *w, const struct docker_container_spec *s)
{
    jsonw_key(w, "HostConfig");
    jsonw_object(w);
    put_u64(w, "NanoCpus", s->nano_cpus);
    put_u64(w, "Memory", s->memory);
    put_u64(w, "MemorySwap", s->memory_swap);
    put_u64(w, "ShmSize", s->shm_size);
    put_u64(w, "PidsLimit", s->pids);
    put_true(w, "Init", s->init);
    put_mounts(w, s);
    put_bindings(w, s);
    put_string(w, "NetworkMode", s->network);
    put_restart(w, s);
    put_security(w, s);
    if (s->log_driver || s->n_log_options) {
        jsonw_key(w, "LogConfig");
        jsonw_object(w);
        put_string(w, "Type", s->log_driver ? s->log_driver : "");
        docker_write_pairs(w, "Config", s->log_options, s->n_log_options);
        jsonw_object_end(w);
    }
    docker_write_strings(w, "Dns", s->dns, s->n_dns);
    docker_write_strings(w, "ExtraHosts", s->extra_hosts, s->n_extra_hosts);
    if (s->n_sysctls)
        docker_write_pairs(w, "Sysctls", s->sysctls, s->n_sysctls);
    put_string(w, "CgroupParent", s->cgroup_parent);
    put_string(w, "CgroupnsMode", s->cgroupns);
    put_string(w, "PidMode", s->pid_mode);
    put_string(w, "IpcMode", s->ipc_mode);
    put_devices(w, s);
    jsonw_object_end(w);
}

static void put_networking(struct jsonw *w, const struct docker_container_spec *s)
{
    if (!s->network || (s->n_aliases == 0 && !s->ipv4))
        return;
    jsonw_key(w, "NetworkingConfig");
    jsonw_object(w);
    jsonw_key(w, "EndpointsConfig");
    jsonw_object(w);
    jsonw_key(w, s->network);
    jsonw_object(w);
    docker_write_strings(w, "Aliases", s->aliases, s->n_aliases);
    if (s->ipv4) {
        jsonw_key(w, "IPAMConfig");
        jsonw_object(w);
        put_string(w, "IPv4Address", s->ipv4);
        jsonw_object_end(w);
    }
    jsonw_object_end(w);
    jsonw_object_end(w);
    jsonw_object_end(w);
}

static int write_container(struct buf *body, const struct docker_container_spec *s)
{
    struct jsonw w;
    jsonw_init(&w, body);
    jsonw_object(&w);
    put_string(&w, "Image", s->image);
    docker_write_strings(&w, "Cmd", s->command, s->n_command);
    docker_write_strings(&w, "Entrypoint", s->entrypoint, s->n_entrypoint);
    put_env(&w, s->env, s->n_env);
    docker_write_pairs(&w, "Labels", s->labels, s->n_labels);
    put_string(&w, "User", s->user);
    put_string(&w, "WorkingDir", s->working_dir);
    put_string(&w, "Hostname", s->hostname);
    put_string(&w, "StopSignal", s->stop_signal);
    put_u64(&w, "StopTimeout", s->stop_timeout_s);
    put_true(&w, "Tty", s->tty);
    put_true(&w, "OpenStdin", s->open_stdin);
    put_exposed(&w, s);
    put_health(&w, &s->health);
    put_host_config(&w, s);
    put_networking(&w, s);
    jsonw_object_end(&w);
    return jsonw_end(&w);
}

struct made {
    const char *id;
};
static const struct docker_field made_fields[] = {{.name = "Id", .type = DOCKER_F_STR, .offset = offsetof(struct made, id)}, {0}};

int docker_container_create(struct docker *d, const struct docker_container_spec *spec, char *ret_id, usec_t deadline,
                            struct err *err)
{
    AUTO_BUF path = BUF_INIT(DOCKER_PATH_MAX);
    AUTO_BUF body = BUF_INIT(DOCKER_BODY_MAX);
    AUTO_BUF out = BUF_INIT(DOCKER_REPLY_MAX);
    if (write_container(&body, spec) != 0)
        return err_set(err, ERR_INVALID, "container description over %d bytes", DOCKER_BODY_MAX);
    int rc = spec->name ? docker_path(&path, "/containers/create?name=", spec->name, "", err)
                        : buf_append_cstr(&path, "/containers/create");
    if (rc == 0)
        rc = docker_do(d, "POST", &path, buf_str(&body), &out, deadline, err);
    if (rc < 0)
        return rc;
    struct docker_pool *pool = docker_pool_new();
    struct made made = {0};
    rc = docker_read_object(buf_str(&out), made_fields, &made, pool, err);
    if (rc == 0 && (!*made.id || str_copy(ret_id, DOCKER_ID_SIZE, str_from(made.id)) != 0))
        rc = err_set(err, ERR_UNKNOWN, "the engine made a container and did not say which");
    docker_pool_free(pool);
    return rc;
}
