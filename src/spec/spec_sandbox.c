/* SPDX-License-Identifier: Apache-2.0 */
/* spec_sandbox — is a SandboxSpec one that can be run? What a sandbox and a service both have is judged as of a service. */
#include "spec/spec.h"

#include <string.h>

const Davit__Common__V1__ServiceSpec *spec_of_sandbox(const Davit__Common__V1__SandboxSpec *s, struct spec_sandbox *ret)
{
    static char none[] = "none"; /* a label, where there is no project */

    davit__common__v1__service_spec__init(&ret->as);
    davit__common__v1__bind_mount__init(&ret->bind);
    ret->as.project = *s->project ? s->project : none;
    ret->as.name = s->name;
    ret->as.image = s->image;
    ret->as.command = s->command;
    ret->as.n_command = s->n_command;
    ret->as.env = s->env;
    ret->as.n_env = s->n_env;
    ret->as.volumes = s->volumes;
    ret->as.n_volumes = s->n_volumes;
    ret->as.cpu_milli = s->cpu_milli;
    ret->as.memory_bytes = s->memory_bytes;
    ret->as.pids_limit = s->pids_limit;
    ret->as.restart = s->restart;
    ret->as.pull = s->pull;
    if (s->workspace && !s->workspace->snapshot) {
        ret->bind.source = s->workspace->source;
        ret->bind.path = s->workspace->path;
        ret->bind.read_only = s->workspace->read_only;
        ret->binds[0] = &ret->bind;
        ret->as.binds = ret->binds;
        ret->as.n_binds = 1;
    }
    return &ret->as;
}

/* --- Steps ---- */

static int check_step(const Davit__Common__V1__SandboxStep *st, struct err *err)
{
    size_t bytes = 0;

    if (!str_is_label(str_from(st->name)))
        return err_set(err, ERR_INVALID, "steps.name: \"%.80s\" is not allowed; 1 to 63 of a-z, 0-9 and \"-\", not at the ends", st->name);
    for (size_t i = 0; i < st->n_command; i++)
        bytes += strlen(st->command[i]);
    if (!st->n_command || st->n_command > SPEC_COMMAND_MAX || !*st->command[0] || bytes > SPEC_COMMAND_BYTES_MAX)
        return err_set(err, ERR_INVALID, "step %s: a command of 1 to %d words is needed, of together %d bytes at most", st->name, SPEC_COMMAND_MAX,
                       SPEC_COMMAND_BYTES_MAX);
    if (st->timeout_s > SPEC_STEP_MAX_S || strlen(st->user) > SPEC_ENV_NAME_MAX)
        return err_set(err, ERR_INVALID, "step %s: timeout and user: at most %d s, %d bytes", st->name, SPEC_STEP_MAX_S, SPEC_ENV_NAME_MAX);
    return 0;
}

static int check_steps(const Davit__Common__V1__SandboxSpec *s, struct err *err)
{
    const Davit__Common__V1__SandboxStep *all[2 * SPEC_STEPS_MAX];
    size_t n = 0;

    if (s->n_init_steps > SPEC_STEPS_MAX || s->n_boot_steps > SPEC_STEPS_MAX)
        return err_set(err, ERR_INVALID, "steps: at most %d of a kind", SPEC_STEPS_MAX);
    for (size_t i = 0; i < s->n_init_steps; i++)
        all[n++] = s->init_steps[i];
    for (size_t i = 0; i < s->n_boot_steps; i++)
        all[n++] = s->boot_steps[i];
    for (size_t i = 0; i < n; i++) {
        int rc = check_step(all[i], err);
        for (size_t k = 0; rc == 0 && k < i; k++)
            if (strcmp(all[i]->name, all[k]->name) == 0)
                rc = err_set(err, ERR_INVALID, "steps.name: %s is given twice", all[i]->name);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* --- Places ---- */

/* Where our PID 1 and what a sandbox proves itself by are. */
static bool is_ours(const char *path)
{
    struct str p = str_from(path);

    return str_starts(p, STR("/.davit")) || str_eq(p, STR("/run/davit")) || str_starts(p, STR("/run/davit/"));
}

static int check_places(const Davit__Common__V1__SandboxSpec *s, const Davit__Common__V1__ServiceSpec *as, struct err *err)
{
    const Davit__Common__V1__SandboxWorkspace *w = s->workspace;
    int rc = 0;

    for (size_t i = 0; i < s->n_volumes; i++)
        if (is_ours(s->volumes[i]->path))
            return err_set(err, ERR_INVALID, "volumes.path: %.80s is Davit's in every sandbox", s->volumes[i]->path);
    if (!w)
        return 0;
    if (is_ours(w->path))
        return err_set(err, ERR_INVALID, "workspace.path: %.80s is Davit's in every sandbox", w->path);
    for (size_t i = 0; i < s->n_volumes; i++)
        if (strcmp(w->path, s->volumes[i]->path) == 0)
            return err_set(err, ERR_INVALID, "workspace.path: a volume is mounted on %.80s already", w->path);
    rc = spec_check_target(as, "workspace.path", w->path, true, err);
    if (rc < 0 || w->snapshot)
        return rc;
    if (!spec_is_mount_path(str_from(w->source)))
        return err_set(err, ERR_INVALID, "workspace.source: \"%.100s\" must be an absolute path on the server, without \":\", \".\" and \"..\"",
                       w->source);
    return spec_check_source(as, w->source, err);
}

/* Ours are told PID 1 by the agent alone. */
static int check_env(const Davit__Common__V1__SandboxSpec *s, struct err *err)
{
    for (size_t i = 0; i < s->n_env; i++) {
        struct str name = str_from(s->env[i]->name);
        if (str_starts(name, STR("DAVIT_")) || str_starts(name, STR("CLAWKER_")))
            return err_set(err, ERR_INVALID, "env: %.64s is one of those that Davit sets", s->env[i]->name);
    }
    return 0;
}

static int check(const Davit__Common__V1__SandboxSpec *s, struct err *err)
{
    struct spec_sandbox room;
    Davit__Common__V1__ServiceSpec as = *spec_of_sandbox(s, &room);
    size_t bytes = 0;

    as.n_binds = 0; /* judged by its own name below */
    int rc = spec_check(&as, err);
    if (rc == 0)
        rc = check_places(s, &as, err);
    if (rc == 0)
        rc = check_env(s, err);
    if (rc == 0)
        rc = check_steps(s, err);
    for (size_t i = 0; i < s->n_entrypoint; i++)
        bytes += strlen(s->entrypoint[i]);
    if (rc == 0 && (s->n_entrypoint > SPEC_COMMAND_MAX || bytes > SPEC_COMMAND_BYTES_MAX || strlen(s->user) > SPEC_ENV_NAME_MAX))
        rc = err_set(err, ERR_INVALID, "entrypoint and user: at most %d words, %d bytes", SPEC_COMMAND_MAX, SPEC_ENV_NAME_MAX);
    if (rc == 0 && *s->working_dir && (*s->working_dir != '/' || strlen(s->working_dir) > SPEC_PATH_MAX))
        rc = err_set(err, ERR_INVALID, "working_dir: \"%.100s\" must be an absolute path", s->working_dir);
    if (rc == 0 && s->stop_grace_s > SPEC_STOP_GRACE_MAX_S)
        rc = err_set(err, ERR_INVALID, "stop_grace: at most %d s", SPEC_STOP_GRACE_MAX_S);
    return rc;
}

int spec_check_sandbox(const Davit__Common__V1__SandboxSpec *s, struct err *err)
{
    struct err why = ERR_INIT;
    int rc = s ? check(s, &why) : err_set(&why, ERR_INVALID, "spec: it is missing");

    if (rc < 0 && err) {
        *err = why;
        err->hint[0] = '\0'; /* the rights of services, of which a sandbox has none */
    }
    return rc;
}
