/* SPDX-License-Identifier: Apache-2.0 */
/* create — the step that turns a service's spec into a container, with what every container of ours gets: few capabilities, no way to more,
 * a limit of processes, logs that cannot fill the disk. */
#include <stdio.h>
#include <string.h>

#include "host/work/deploy.h"
#include "host/work/rights.h"
#include "host/work/secret_files.h"
#include "spec/spec.h"

enum { PIDS_DEFAULT = 512 };

static const char *const caps_kept[] = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID",
                                        "KILL",  "SETGID",       "SETUID", "NET_BIND_SERVICE"};
static const char *const caps_dropped[] = {"ALL"};
static const struct docker_pair log_options[] = {{"max-size", "10m"}, {"max-file", "3"}};

/* Arrays that the engine's spec points to. */
struct build {
    struct docker_pair *env, *labels;
    struct docker_mount *mounts;
    struct docker_port *ports;
    const char **caps;
    char *volumes[SPEC_VOLUMES_MAX];
    size_t n_volumes;
    struct rights rights;
    char *job;
    char *secrets; /* folder of secret files, or NULL */
    char replica[12];
};

static void build_release(struct build *b)
{
    free(b->env);
    free(b->labels);
    free(b->mounts);
    free(b->ports);
    free(b->caps);
    for (size_t i = 0; i < b->n_volumes; i++)
        free(b->volumes[i]);
    rights_release(&b->rights);
    free(b->job);
    free(b->secrets);
}

/* What is a file is not in the environment, where every process of the container and the engine's inspect show it. */
static void build_env(struct build *b, const Davit__Common__V1__ServiceSpec *s, struct docker_container_spec *out)
{
    b->env = mem_zalloc(s->n_env + 1, sizeof(*b->env));
    for (size_t i = 0; i < s->n_env; i++)
        if (!*s->env[i]->file)
            b->env[out->n_env++] = (struct docker_pair){s->env[i]->name, s->env[i]->value};
    out->env = b->env;
}

static void build_mounts(struct build *b, const Davit__Common__V1__ServiceSpec *s, struct docker_container_spec *out)
{
    b->mounts = mem_zalloc(s->n_volumes + s->n_binds + 2, sizeof(*b->mounts));
    for (size_t i = 0; i < s->n_volumes && i < SPEC_VOLUMES_MAX; i++) {
        b->volumes[i] = str_printf("davit-%s-%s", s->project, s->volumes[i]->name);
        b->n_volumes = i + 1;
        b->mounts[i] = (struct docker_mount){.type = DOCKER_MOUNT_VOLUME,
                                             .source = b->volumes[i],
                                             .target = s->volumes[i]->path,
                                             .read_only = s->volumes[i]->read_only};
    }
    out->mounts = b->mounts;
    out->n_mounts = b->n_volumes;
    if (b->secrets)
        b->mounts[out->n_mounts++] = (struct docker_mount){
            .type = DOCKER_MOUNT_BIND, .source = b->secrets, .target = SECRET_FILES_TARGET, .read_only = true};
}

static void build_ports(struct build *b, const Davit__Common__V1__ServiceSpec *s, struct docker_container_spec *out)
{
    b->ports = mem_zalloc(s->n_ports + 1, sizeof(*b->ports));
    for (size_t i = 0; i < s->n_ports; i++) {
        const Davit__Common__V1__PortPublish *p = s->ports[i];
        b->ports[i] = (struct docker_port){
            .container_port = (uint16_t)p->container_port,
            .proto = *p->protocol ? p->protocol : "tcp",
            .publish = true,
            .host_ip = *p->host_ip ? p->host_ip : "127.0.0.1",
            .host_port = (uint16_t)p->host_port,
        };
    }
    out->ports = b->ports;
    out->n_ports = s->n_ports;
}

static void build_rights(struct build *b, const Davit__Common__V1__ServiceSpec *s, struct docker_container_spec *out)
{
    size_t n = 0;

    b->caps = mem_zalloc(ARRAY_LEN(caps_kept) + s->n_cap_add, sizeof(*b->caps));
    for (size_t i = 0; i < ARRAY_LEN(caps_kept); i++)
        b->caps[n++] = caps_kept[i];
    for (size_t i = 0; i < s->n_cap_add; i++)
        b->caps[n++] = s->cap_add[i];
    out->cap_drop = caps_dropped;
    out->n_cap_drop = ARRAY_LEN(caps_dropped);
    out->cap_add = b->caps;
    out->n_cap_add = n;
    out->no_new_privileges = true;
    out->read_only = s->read_only;
    out->pids = s->pids_limit ? s->pids_limit : PIDS_DEFAULT;
}

static void build_labels(struct build *b, struct deploy *d, unsigned replica, struct docker_container_spec *out)
{
    b->job = deploy_job_label(d, "create");
    const struct docker_pair labels[] = {
        {LABEL_MANAGED, "true"},
        {LABEL_PROJECT, d->spec->project},
        {LABEL_SERVICE, d->spec->name},
        {LABEL_DEPLOYMENT, d->msg->deployment_id},
        {LABEL_JOB, b->job},
        {LABEL_SERVER, d->w->server_id},
        {LABEL_REPLICA, b->replica},
    };
    (void)snprintf(b->replica, sizeof(b->replica), "%u", replica);
    b->labels = mem_zalloc(ARRAY_LEN(labels), sizeof(labels[0]));
    memcpy(b->labels, labels, sizeof(labels));
    out->labels = b->labels;
    out->n_labels = ARRAY_LEN(labels);
}

int deploy_create(struct deploy *d, unsigned replica, usec_t deadline, struct err *err)
{
    const Davit__Common__V1__ServiceSpec *s = d->spec;
    const char *aliases[] = {s->name};
    struct build b = {0};
    char id[DOCKER_ID_SIZE];
    const char *reason = NULL;
    AUTO_FREE char *name = deploy_name(d, replica);
    int rc = deploy_image(d, deadline, err);

    if (rc >= 0)
        rc = secret_files_write(d->w, s, name, &b.secrets, err);
    if (rc < 0)
        return rc;
    struct docker_container_spec *out = NEW(struct docker_container_spec);
    *out = (struct docker_container_spec){
        .name = name,
        .image = d->image_ref,
        .command = (const char *const *)s->command,
        .n_command = s->n_command,
        .hostname = s->name,
        .nano_cpus = s->cpu_milli * 1000000,
        .memory = s->memory_bytes,
        .memory_swap = s->memory_bytes, /* both together: the limit is one */
        .network = d->network,
        .aliases = aliases,
        .n_aliases = 1,
        .restart = *s->restart ? s->restart : "unless-stopped",
        .log_driver = "json-file",
        .log_options = log_options,
        .n_log_options = ARRAY_LEN(log_options),
        .stop_timeout_s = STOP_SECONDS,
    };
    build_env(&b, s, out);
    build_labels(&b, d, replica, out);
    build_mounts(&b, s, out);
    build_ports(&b, s, out);
    build_rights(&b, s, out);
    rc = rights_apply(d->w, s, &b.rights, b.mounts, out, &reason, err);
    rc = rc < 0 ? deploy_reason(d, rc, reason) : docker_container_create(d->w->docker, out, id, deadline, err);
    if (rc >= 0 && replica == 1)
        (void)str_copy(d->id, sizeof(d->id), str_from(id));
    build_release(&b);
    free(out);
    return rc;
}
