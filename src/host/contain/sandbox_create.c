/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_create — what a sandbox is in the engine: its network, its container with our PID 1 before whatever the image runs, its volumes. */
#include "host/contain/contain_internal.h"

#include <stdio.h>
#include <string.h>

#include "host/work/rights.h"
#include "spec/spec.h"

enum { PIDS_DEFAULT = 512, GRACE_DEFAULT = 10, STOP_SLACK = 7, ENV_OURS = 14, MOUNTS_OURS = 3, RUNTIME_RANDOM = 8 };

/* All that PID 1 needs to become another user and to end its processes; the main program has none of it. */
static const char *const caps_kept[] = {"SETUID", "SETGID", "SETPCAP", "KILL"};
static const char *const caps_dropped[] = {"ALL"};
static const char *const no_health[] = {"NONE"};
static const struct docker_pair log_options[] = {{"max-size", "10m"}, {"max-file", "3"}};

const char *sandbox_network_name(const sandbox_spec *s)
{
    return s->open_network ? CONTAIN_OPEN : CONTAIN_NET;
}

/* --- The network ---- */

/* 0, where this agent is in it and what it has; 1: it is not there. */
static int find_network(struct contain *k, const char *name, bool internal, char ret_at[64], char ret_dns[64], usec_t deadline, struct err *err)
{
    struct docker_networks l = {0};
    int rc = docker_network_list(k->w->docker, NULL, &l, deadline, err), found = 1;

    for (size_t i = 0; rc == 0 && i < l.n && found == 1; i++) {
        const struct docker_network *n = &l.items[i];
        const char *purpose = docker_map_get(&n->labels, LABEL_PURPOSE);
        if (strcmp(n->name, name) != 0)
            continue;
        found = 0;
        if (!purpose || strcmp(purpose, "sandbox") != 0 || n->internal != internal)
            rc = err_set(err, ERR_EXISTS, "a network named %s exists that Davit did not make for sandboxes", name);
        const char *end = strrchr(n->subnet, '.');
        if (rc == 0)
            rc = place_in(k, name, n->subnet, n->gateway, ret_at, deadline, err);
        if (end && internal)
            (void)snprintf(ret_dns, 64, "%.*s.201", (int)(end - n->subnet), n->subnet);
        if (rc == 0 && internal)
            fence_raise(k, n->id, n->gateway);
    }
    docker_networks_release(&l);
    return rc < 0 ? rc : found;
}

int sandbox_network(struct contain *k, const sandbox_spec *s, char ret_at[64], char ret_dns[64], usec_t deadline, struct err *err)
{
    const char *name = sandbox_network_name(s);
    const struct docker_pair labels[] = {{LABEL_MANAGED, "true"}, {LABEL_PURPOSE, "sandbox"}, {LABEL_SERVER, k->w->server_id}};
    const struct docker_network_spec spec = {.name = name, .internal = !s->open_network, .labels = labels, .n_labels = ARRAY_LEN(labels)};

    ret_at[0] = ret_dns[0] = '\0';
    int rc = find_network(k, name, spec.internal, ret_at, ret_dns, deadline, err);
    if (rc != 1)
        return rc;
    rc = networks_provide_256(k->w, &spec, deadline, err);
    if (rc == 0)
        rc = find_network(k, name, spec.internal, ret_at, ret_dns, deadline, err);
    return rc == 1 ? err_set(err, ERR_INTERNAL, "network %s went as soon as it was made", name) : rc;
}

/* --- The spec ---- */

int sandbox_check(const sandbox_spec *s, struct err *err)
{
    Davit__Common__V1__SandboxStep *const *const lists[] = {s->init_steps, s->boot_steps};
    const size_t counts[] = {s->n_init_steps, s->n_boot_steps};
    int rc = spec_check_sandbox(s, err);

    if (rc == 0 && (!str_is_label(str_from(s->id)) || strlen(s->id) != 36))
        rc = err_set(err, ERR_INVALID, "the id of a sandbox is a UUID");
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (size_t i = 0; rc == 0 && i < counts[l]; i++) {
            Davit__Session__V1__PipeStage stage = DAVIT__SESSION__V1__PIPE_STAGE__INIT;
            if (keeper_read_user(lists[l][i]->user, &stage) < 0)
                rc = err_set(err, ERR_INVALID, "step \"%s\": its user is a number, UID or UID:GID, or root", lists[l][i]->name);
        }
    return rc;
}

/* Of a service it would be the hint which right is missing; a sandbox has none of them. */
static void drop_hint(const char *reason, struct err *err)
{
    if (reason && strcmp(reason, "mount_forbidden") == 0)
        err->hint[0] = '\0';
}

int sandbox_judge(const struct contain *k, const sandbox_spec *s, const char **ret_reason, struct err *err)
{
    static const char *const open_network[] = {"network:open"};
    const struct policy_ask more = {.sandbox = true, .privileged = open_network, .n_privileged = s->open_network ? 1 : 0};
    struct spec_sandbox room;
    int rc = rights_judge(k->w, spec_of_sandbox(s, &room), &more, ret_reason, err);

    if (rc < 0)
        drop_hint(*ret_reason, err);
    return rc;
}

/* --- The container ---- */

/* Arrays that the engine's spec points to. */
struct build {
    struct docker_pair *env, labels[8];
    struct docker_mount *mounts;
    const char **words;
    char *material, *workspace, *relay, *name;
    char *runtime, *init; /* the folder of the runtime in the container, PID 1 in it */
    const char *entrypoint[1];
    char *source; /* where the workspace's source leads */
    char **volumes;
    size_t n_volumes;
    char grace[12];
};

static void build_release(struct build *b)
{
    for (size_t i = 0; i < b->n_volumes; i++)
        free(b->volumes[i]);
    free(b->volumes);
    free(b->env);
    free(b->mounts);
    free(b->words);
    free(b->material);
    free(b->workspace);
    free(b->relay);
    free(b->name);
    free(b->runtime);
    free(b->init);
    free(b->source);
}

static void build_env(struct build *b, struct contain *k, const sandbox_spec *s, const struct docker_image *image, const char *at,
                      struct docker_container_spec *out)
{
    b->env = mem_zalloc(s->n_env + ENV_OURS, sizeof(*b->env));
    for (size_t i = 0; i < s->n_env; i++)
        b->env[out->n_env++] = (struct docker_pair){s->env[i]->name, s->env[i]->value};
    b->relay = str_printf("%s:%d", at, CONTAIN_RELAY_PORT);
    (void)snprintf(b->grace, sizeof(b->grace), "%u", s->stop_grace_s ? s->stop_grace_s : GRACE_DEFAULT);
    const struct docker_pair ours[] = {
        {"DAVIT_USER", s->user},
        {"DAVIT_IMAGE_USER", image->user},
        {"DAVIT_STOP_GRACE", b->grace},
        {"DAVIT_STATE_DIR", SANDBOX_MATERIAL_DIR "/state"},
        {"DAVIT_SANDBOX_ID", s->id},
        {"DAVIT_SANDBOX", s->name},
        {"DAVIT_AGENT", s->name},
        {"DAVIT_PROJECT", s->project},
        {"DAVIT_REGISTER", b->relay},
        {"DAVIT_SESSION_PEER", contact_uri(k->contact)},
        /* What the supervisor would take from the image's environment, which is not to be trusted. */
        {"DAVIT_MATERIAL", SANDBOX_MATERIAL_DIR},
        {"DAVIT_SESSION_LISTEN", "0.0.0.0:7700"},
        {"DAVIT_LOG_LEVEL", "notice"},
        {"CLAWKER_USER", ""},
    };
    _Static_assert(ARRAY_LEN(ours) <= ENV_OURS, "room");
    memcpy(b->env + out->n_env, ours, sizeof(ours));
    out->n_env += ARRAY_LEN(ours);
    out->env = b->env;
}

/* What PID 1 runs: as the engine puts it together without us. */
static int build_words(struct build *b, const sandbox_spec *s, const struct docker_image *image, struct docker_container_spec *out, struct err *err)
{
    bool own = s->n_entrypoint > 0;
    const char *const *first = own ? (const char *const *)s->entrypoint : image->entrypoint;
    size_t n_first = own ? s->n_entrypoint : image->n_entrypoint;
    const char *const *then = s->n_command || own ? (const char *const *)s->command : image->command;
    size_t n_then = s->n_command || own ? s->n_command : image->n_command;

    if (n_first + n_then == 0)
        return err_set(err, ERR_INVALID, "image %.200s says nothing to run, and no command was given", s->image);
    b->words = mem_zalloc(n_first + n_then, sizeof(*b->words));
    for (size_t i = 0; i < n_first; i++)
        b->words[i] = first[i];
    for (size_t i = 0; i < n_then; i++)
        b->words[n_first + i] = then[i];
    b->entrypoint[0] = b->init;
    out->entrypoint = b->entrypoint;
    out->n_entrypoint = ARRAY_LEN(b->entrypoint);
    out->command = b->words;
    out->n_command = n_first + n_then;
    return 0;
}

/* A name that nobody knows before: an image that declares a volume at a link to it would have the engine mount what it brings over our programs. */
static void name_runtime(struct build *b)
{
    unsigned char random[RUNTIME_RANDOM];
    char hex[2 * RUNTIME_RANDOM + 1];

    rng_bytes(random, sizeof(random));
    str_hex(random, sizeof(random), hex);
    b->runtime = str_printf(SANDBOX_RUNTIME_DIR "-%s", hex);
    b->init = str_printf("%s/davit-init", b->runtime);
}

static void build_mounts(struct build *b, const struct contain *k, const sandbox_spec *s, struct docker_container_spec *out)
{
    b->mounts = mem_zalloc(s->n_volumes + MOUNTS_OURS, sizeof(*b->mounts));
    b->volumes = mem_zalloc(s->n_volumes + 1, sizeof(*b->volumes));
    b->mounts[out->n_mounts++] = (struct docker_mount){
        .type = DOCKER_MOUNT_VOLUME, .source = k->runtime_volume, .target = b->runtime, .read_only = true, .no_copy = true};
    b->mounts[out->n_mounts++] =
        (struct docker_mount){.type = DOCKER_MOUNT_VOLUME, .source = b->material, .target = SANDBOX_MATERIAL_DIR, .no_copy = true};
    if (s->workspace)
        b->mounts[out->n_mounts++] = (struct docker_mount){.type = s->workspace->snapshot ? DOCKER_MOUNT_VOLUME : DOCKER_MOUNT_BIND,
                                                           .source = s->workspace->snapshot ? b->workspace : b->source,
                                                           .target = s->workspace->path,
                                                           .read_only = s->workspace->read_only,
                                                           .no_copy = s->workspace->snapshot};
    for (size_t i = 0; i < s->n_volumes; i++) {
        b->volumes[b->n_volumes++] = str_printf("davit-sandbox-%s-%s", s->id, s->volumes[i]->name);
        b->mounts[out->n_mounts++] = (struct docker_mount){
            .type = DOCKER_MOUNT_VOLUME, .source = b->volumes[i], .target = s->volumes[i]->path, .read_only = s->volumes[i]->read_only};
    }
    out->mounts = b->mounts;
}

static void build_labels(struct build *b, const struct contain *k, const sandbox_spec *s, struct docker_container_spec *out)
{
    const struct docker_pair labels[] = {SANDBOX_LABELS(k, s->id), {LABEL_AGENT, s->name}, {LABEL_SERVICE, ""}, {LABEL_PROJECT, s->project}};

    memcpy(b->labels, labels, sizeof(labels));
    out->labels = b->labels;
    out->n_labels = ARRAY_LEN(labels) - (*s->project ? 0 : 1);
}

static void harden(const sandbox_spec *s, struct docker_container_spec *out)
{
    out->cap_drop = caps_dropped;
    out->n_cap_drop = ARRAY_LEN(caps_dropped);
    out->cap_add = caps_kept;
    out->n_cap_add = ARRAY_LEN(caps_kept);
    out->no_new_privileges = true;
    out->read_only = s->read_only;
    out->pids = s->pids_limit ? s->pids_limit : PIDS_DEFAULT;
    /* The image's own would be run by the engine, as root, past PID 1. */
    out->health = (struct docker_health_spec){.test = no_health, .n_test = 1};
    out->log_driver = "json-file";
    out->log_options = log_options;
    out->n_log_options = ARRAY_LEN(log_options);
}

static int build(struct build *b, struct contain *k, const sandbox_spec *s, const struct docker_image *image, const char *at,
                 const char *const *dns, struct docker_container_spec *out, struct err *err)
{
    *out = (struct docker_container_spec){
        .name = b->name,
        .image = s->image,
        .user = "0:0",
        .working_dir = *s->working_dir ? s->working_dir : s->workspace ? s->workspace->path : NULL,
        .hostname = s->name,
        .stop_timeout_s = (s->stop_grace_s ? s->stop_grace_s : GRACE_DEFAULT) + STOP_SLACK,
        .stop_signal = "TERM",
        .tty = s->tty,
        .open_stdin = s->stdin,
        .nano_cpus = s->cpu_milli * 1000000,
        .memory = s->memory_bytes,
        .memory_swap = s->memory_bytes,
        .network = sandbox_network_name(s),
        .restart = *s->restart ? s->restart : "no",
        /* Names of the world would leave by the engine's own resolver, whatever the network: .201 will answer them, nobody does yet. */
        .dns = dns,
        .n_dns = **dns ? 1 : 0,
    };
    name_runtime(b);
    build_env(b, k, s, image, at, out);
    build_mounts(b, k, s, out);
    build_labels(b, k, s, out);
    harden(s, out);
    return build_words(b, s, image, out, err);
}

/* The container that has this name, if it is this sandbox's: 0 and its id; 1 none. */
static int find_made(struct contain *k, const sandbox_spec *s, const char *name, char ret_id[DOCKER_ID_SIZE], usec_t deadline, struct err *err)
{
    struct docker_container c = {0};
    int rc = docker_container_inspect(k->w->docker, name, &c, deadline, err);

    if (rc == 0) {
        const char *id = docker_map_get(&c.labels, LABEL_SANDBOX);
        (void)str_copy(ret_id, DOCKER_ID_SIZE, str_from(c.id));
        if (!id || strcmp(id, s->id) != 0)
            rc = err_set(err, ERR_EXISTS, "a container named %s is here that is not of this sandbox", name);
    }
    docker_container_release(&c);
    return rc == -ERR_NOT_FOUND ? 1 : rc;
}

/* The workspace that is bound, where it leads now. */
static int find_source(struct build *b, const struct contain *k, const sandbox_spec *s, const char **ret_reason, struct err *err)
{
    struct spec_sandbox room;
    int rc = s->workspace && !s->workspace->snapshot
                 ? rights_source(k->w, spec_of_sandbox(s, &room), s->workspace->source, &b->source, ret_reason, err)
                 : 0;

    if (rc < 0)
        drop_hint(*ret_reason, err);
    return rc;
}

int sandbox_make(struct contain *k, const sandbox_spec *s, char ret_id[DOCKER_ID_SIZE], const char **ret_reason, usec_t deadline, struct err *err)
{
    char at[64], dns[64];
    const char *const servers[] = {dns};
    struct docker_image image = {0};
    struct build b = {.name = box_name(s), .material = material_volume(s->id), .workspace = workspace_volume(s->id)};
    struct docker_container_spec *out = NEW(struct docker_container_spec);
    const struct docker_pair labels[] = {SANDBOX_LABELS(k, s->id)};
    int rc = find_made(k, s, b.name, ret_id, deadline, err);

    if (rc == 1) {
        rc = sandbox_network(k, s, at, dns, deadline, err);
        if (rc == 0)
            rc = docker_image_inspect(k->w->docker, s->image, &image, deadline, err);
        if (rc == 0)
            rc = find_source(&b, k, s, ret_reason, err);
        if (rc == 0)
            rc = build(&b, k, s, &image, at, servers, out, err);
        /* With their labels before the engine makes them without. */
        for (size_t i = 0; rc == 0 && i < out->n_mounts; i++)
            if (out->mounts[i].type == DOCKER_MOUNT_VOLUME && out->mounts[i].source != k->runtime_volume)
                rc = docker_volume_ensure(k->w->docker, out->mounts[i].source, labels, ARRAY_LEN(labels), deadline, err);
        if (rc == 0)
            rc = docker_container_create(k->w->docker, out, ret_id, deadline, err);
    }
    docker_image_release(&image);
    build_release(&b);
    free(out);
    return rc;
}

int sandbox_unmake(struct contain *k, const char *id, bool volumes, usec_t deadline, struct err *err)
{
    AUTO_FREE char *label = str_printf(LABEL_SANDBOX "=%s", id), *material = material_volume(id);
    const char *labels[] = {LABEL_PURPOSE "=sandbox", label};
    struct docker_summaries l = {0};
    struct docker_volumes v = {0};
    int rc = docker_container_list(k->w->docker, labels, ARRAY_LEN(labels), &l, deadline, err);

    for (size_t i = 0; rc >= 0 && i < l.n; i++)
        rc = docker_container_remove(k->w->docker, l.items[i].id, true, true, deadline, err);
    if (rc >= 0)
        rc = docker_volume_list(k->w->docker, label, &v, deadline, err);
    for (size_t i = 0; rc >= 0 && i < v.n; i++)
        if (volumes || strcmp(v.items[i].name, material) == 0)
            rc = docker_volume_remove(k->w->docker, v.items[i].name, false, deadline, err);
    docker_summaries_release(&l);
    docker_volumes_release(&v);
    return rc < 0 ? rc : 0;
}
