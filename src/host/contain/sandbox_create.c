/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_create — what a sandbox is in the engine: its network, its container with our PID 1 before whatever the image runs, its volumes. */
#include "host/contain/contain_internal.h"

#include <stdio.h>
#include <string.h>

enum { PIDS_DEFAULT = 512, GRACE_DEFAULT = 10, GRACE_MAX = 3600, STOP_SLACK = 7, ENV_OURS = 14, MOUNTS_OURS = 3, WORDS_MAX = 4096 };

/* All that PID 1 needs to become another user and to end its processes; the main program has none of it. */
static const char *const caps_kept[] = {"SETUID", "SETGID", "SETPCAP", "KILL"};
static const char *const caps_dropped[] = {"ALL"};
static const char *const entrypoint[] = {SANDBOX_RUNTIME_DIR "/davit-init"};
static const char *const no_health[] = {"NONE"};
static const struct docker_pair log_options[] = {{"max-size", "10m"}, {"max-file", "3"}};

const char *sandbox_network_name(const sandbox_spec *s)
{
    return s->open_network ? CONTAIN_OPEN : CONTAIN_NET;
}

/* --- The network ---- */

/* 0 and what it has; 1: it is not there. */
static int find_network(struct contain *k, const char *name, bool internal, char ret_gateway[64], char ret_dns[64], usec_t deadline, struct err *err)
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
        (void)str_copy(ret_gateway, 64, str_from(n->gateway));
        if (end && internal)
            (void)snprintf(ret_dns, 64, "%.*s.201", (int)(end - n->subnet), n->subnet);
    }
    docker_networks_release(&l);
    return rc < 0 ? rc : found;
}

int sandbox_network(struct contain *k, const sandbox_spec *s, char ret_gateway[64], char ret_dns[64], usec_t deadline, struct err *err)
{
    const char *name = sandbox_network_name(s);
    const struct docker_pair labels[] = {{LABEL_MANAGED, "true"}, {LABEL_PURPOSE, "sandbox"}, {LABEL_SERVER, k->w->server_id}};
    const struct docker_network_spec spec = {.name = name, .internal = !s->open_network, .labels = labels, .n_labels = ARRAY_LEN(labels)};

    ret_gateway[0] = ret_dns[0] = '\0';
    int rc = find_network(k, name, spec.internal, ret_gateway, ret_dns, deadline, err);
    if (rc != 1)
        return rc;
    rc = networks_provide_256(k->w, &spec, deadline, err);
    if (rc == 0)
        rc = find_network(k, name, spec.internal, ret_gateway, ret_dns, deadline, err);
    return rc == 1 ? err_set(err, ERR_INTERNAL, "network %s went as soon as it was made", name) : rc;
}

/* --- The spec ---- */

static int check_steps(Davit__Common__V1__SandboxStep *const *steps, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!str_is_label(str_from(steps[i]->name)) || steps[i]->n_command == 0 || !*steps[i]->command[0])
            return err_set(err, ERR_INVALID, "step %zu: a name and a command are needed", i + 1);
        Davit__Session__V1__PipeStage stage = DAVIT__SESSION__V1__PIPE_STAGE__INIT;
        if (keeper_read_user(steps[i]->user, &stage) < 0)
            return err_set(err, ERR_INVALID, "step \"%s\": its user is a number, UID or UID:GID, or root", steps[i]->name);
    }
    return 0;
}

static bool is_restart(const char *s)
{
    static const char *const known[] = {"", "no", "on-failure", "always", "unless-stopped"};

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(s, known[i]) == 0)
            return true;
    return false;
}

/* What is ours inside is not for others' volumes. */
static bool is_path(const char *path)
{
    struct str p = str_from(path);

    return path[0] == '/' && path[1] && !strstr(path, "/../") && !str_ends(p, STR("/..")) && !str_eq(p, STR("/.davit")) &&
           !str_starts(p, STR("/.davit/")) && !str_eq(p, STR("/run/davit")) && !str_starts(p, STR("/run/davit/")) && !str_eq(p, STR("/run"));
}

static int check_places(const sandbox_spec *s, struct err *err)
{
    if (s->workspace && (!is_path(s->workspace->path) || (!s->workspace->snapshot && s->workspace->source[0] != '/')))
        return err_set(err, ERR_INVALID, "workspace: absolute paths are needed, outside of " SANDBOX_RUNTIME_DIR " and " SANDBOX_MATERIAL_DIR);
    for (size_t i = 0; i < s->n_volumes; i++)
        if (!str_is_label(str_from(s->volumes[i]->name)) || !is_path(s->volumes[i]->path))
            return err_set(err, ERR_INVALID, "volume %zu: a name and an absolute path are needed", i + 1);
    for (size_t i = 0; i < s->n_env; i++) {
        struct str name = str_from(s->env[i]->name);
        if (name.n == 0 || memchr(name.p, '=', name.n) || str_starts(name, STR("DAVIT_")) || str_starts(name, STR("CLAWKER_")))
            return err_set(err, ERR_INVALID, "env: \"%.64s\" is no name of a variable, or one that Davit sets", s->env[i]->name);
    }
    return 0;
}

int sandbox_check(const sandbox_spec *s, struct err *err)
{
    if (!str_is_label(str_from(s->id)) || strlen(s->id) != 36)
        return err_set(err, ERR_INVALID, "the id of a sandbox is a UUID");
    if ((*s->project && !str_is_label(str_from(s->project))) || !str_is_label(str_from(s->name)))
        return err_set(err, ERR_INVALID, "project and name are labels: 1 to 63 of a-z, 0-9 and '-'");
    if (!*s->image || s->n_command > WORDS_MAX || s->n_entrypoint > WORDS_MAX)
        return err_set(err, ERR_INVALID, "an image is needed, and at most %d words", WORDS_MAX);
    if (s->n_init_steps + s->n_boot_steps > SANDBOX_STEPS_MAX)
        return err_set(err, ERR_INVALID, "at most %d steps", SANDBOX_STEPS_MAX);
    if (!is_restart(s->restart))
        return err_set(err, ERR_INVALID, "restart: \"%.32s\" is none of no, on-failure, always, unless-stopped", s->restart);
    if (s->stop_grace_s > GRACE_MAX)
        return err_set(err, ERR_INVALID, "stop_grace: at most %d seconds", GRACE_MAX);
    int rc = check_steps(s->init_steps, s->n_init_steps, err);
    if (rc == 0)
        rc = check_steps(s->boot_steps, s->n_boot_steps, err);
    return rc == 0 ? check_places(s, err) : rc;
}

/* --- The container ---- */

/* Arrays that the engine's spec points to. */
struct build {
    struct docker_pair *env, labels[8];
    struct docker_mount *mounts;
    const char **words;
    char *material, *workspace, *relay, *name;
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
}

static void build_env(struct build *b, struct contain *k, const sandbox_spec *s, const struct docker_image *image, const char *gateway,
                      struct docker_container_spec *out)
{
    b->env = mem_zalloc(s->n_env + ENV_OURS, sizeof(*b->env));
    for (size_t i = 0; i < s->n_env; i++)
        b->env[out->n_env++] = (struct docker_pair){s->env[i]->name, s->env[i]->value};
    b->relay = str_printf("%s:%d", gateway, CONTAIN_RELAY_PORT);
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
    out->entrypoint = entrypoint;
    out->n_entrypoint = ARRAY_LEN(entrypoint);
    out->command = b->words;
    out->n_command = n_first + n_then;
    return 0;
}

static void build_mounts(struct build *b, const struct contain *k, const sandbox_spec *s, struct docker_container_spec *out)
{
    b->mounts = mem_zalloc(s->n_volumes + MOUNTS_OURS, sizeof(*b->mounts));
    b->volumes = mem_zalloc(s->n_volumes + 1, sizeof(*b->volumes));
    b->mounts[out->n_mounts++] = (struct docker_mount){
        .type = DOCKER_MOUNT_VOLUME, .source = k->runtime_volume, .target = SANDBOX_RUNTIME_DIR, .read_only = true, .no_copy = true};
    b->mounts[out->n_mounts++] =
        (struct docker_mount){.type = DOCKER_MOUNT_VOLUME, .source = b->material, .target = SANDBOX_MATERIAL_DIR, .no_copy = true};
    if (s->workspace)
        b->mounts[out->n_mounts++] = (struct docker_mount){.type = s->workspace->snapshot ? DOCKER_MOUNT_VOLUME : DOCKER_MOUNT_BIND,
                                                           .source = s->workspace->snapshot ? b->workspace : s->workspace->source,
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

static int build(struct build *b, struct contain *k, const sandbox_spec *s, const struct docker_image *image, const char *gateway,
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
    build_env(b, k, s, image, gateway, out);
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

int sandbox_make(struct contain *k, const sandbox_spec *s, char ret_id[DOCKER_ID_SIZE], usec_t deadline, struct err *err)
{
    char gateway[64], dns[64];
    const char *const servers[] = {dns};
    struct docker_image image = {0};
    struct build b = {.name = box_name(s), .material = material_volume(s->id), .workspace = workspace_volume(s->id)};
    struct docker_container_spec *out = NEW(struct docker_container_spec);
    const struct docker_pair labels[] = {SANDBOX_LABELS(k, s->id)};
    int rc = find_made(k, s, b.name, ret_id, deadline, err);

    if (rc == 1) {
        rc = sandbox_network(k, s, gateway, dns, deadline, err);
        if (rc == 0)
            rc = docker_image_inspect(k->w->docker, s->image, &image, deadline, err);
        if (rc == 0)
            rc = build(&b, k, s, &image, gateway, servers, out, err);
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
