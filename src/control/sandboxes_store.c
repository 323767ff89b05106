/* SPDX-License-Identifier: Apache-2.0 */
/* sandboxes_store — see sandboxes.h: the rows of sandboxes and of who is registered, and what a spec may say. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/sandboxes.h"
#include "control/sealed.h"
#include "spec/spec.h"

enum { STEPS_MAX = 32, STEP_TIMEOUT_MAX_S = 86400, STOP_GRACE_MAX_S = 600 };

int sandbox_insert(struct db *db, void *arg, struct err *err)
{
    const struct sandbox_row *r = arg;
    const struct sandbox *sb = r->sb;
    AUTO_BUF state = BUF_INIT(RPC_MESSAGE_MAX);
    if (rpc_pack(&sb->state->base, &state) != 0)
        return err_set(err, ERR_EXHAUSTED, "the sandbox is too large");
    int rc = db_exec(db, err,
                     "INSERT INTO sandboxes (id, server_id, project, name, spec, state, container_id, created_us) VALUES (?, ?, ?, ?, ?, ?, '', ?)",
                     "ttttbbi", sb->id, sb->server_id, sb->project, sb->name, r->sealed, buf_str(&state), (int64_t)sb->created);
    return rc == -(int)ERR_EXISTS ? err_set(err, ERR_EXISTS, "there is a sandbox \"%s\" on that server already", sb->name) : rc;
}

struct save {
    const char *id, *container;
    struct str state;
    int64_t last_seen;
};

static int save(struct db *db, void *arg, struct err *err)
{
    const struct save *j = arg;
    int rc = db_exec(db, err, "UPDATE sandboxes SET state = ?, container_id = ? WHERE id = ?", "btt", j->state, j->container, j->id);
    return rc < 0 ? rc : db_exec(db, err, "UPDATE sandbox_agents SET last_seen_us = ? WHERE sandbox_id = ?", "it", j->last_seen, j->id);
}

int sandbox_save(struct sandbox *sb, struct err *err)
{
    AUTO_BUF state = BUF_INIT(RPC_MESSAGE_MAX);
    char container[SANDBOX_HASH_SIZE];
    if (rpc_pack(&sb->state->base, &state) != 0)
        return err_set(err, ERR_EXHAUSTED, "what its agent says of a sandbox is too large");
    (void)str_copy(container, sizeof(container), str_from(sb->container));
    struct save j = {.id = sb->id, .container = container, .state = buf_str(&state), .last_seen = (int64_t)sb->last_seen};
    sb->last_saved = sb->last_seen;
    (void)sandbox_ref(sb);
    int rc = store_write(sb->control->store, save, &j, deadline_in(STORE_WAIT), err);
    sandbox_unref(sb);
    return rc;
}

struct confirm {
    const char *id;
    char thumbprint[SANDBOX_HASH_SIZE];
};

static int confirm(struct db *db, void *arg, struct err *err)
{
    const struct confirm *j = arg;
    return db_exec(db, err, "UPDATE sandbox_agents SET previous = '', previous_until_us = 0 WHERE sandbox_id = ? AND thumbprint = ?", "tt", j->id,
                   j->thumbprint);
}

int sandbox_confirm(struct sandbox *sb, struct err *err)
{
    struct confirm j = {.id = sb->id};
    (void)str_copy(j.thumbprint, sizeof(j.thumbprint), str_from(sb->thumbprint));
    (void)sandbox_ref(sb);
    int rc = store_write(sb->control->store, confirm, &j, deadline_in(STORE_WAIT), err);
    struct server *s = servers_by_id(sb->control, sb->server_id);
    if (rc == 0 && !sb->gone && strcmp(sb->thumbprint, j.thumbprint) == 0) {
        sb->previous[0] = '\0';
        if (s)
            sandbox_tell(s, sb, 0);
    }
    sandbox_unref(sb);
    return rc;
}

struct evict {
    const char *id;
    bool whole;
};

static int evict(struct db *db, void *arg, struct err *err)
{
    const struct evict *j = arg;
    int rc = db_exec(db, err, "DELETE FROM sandbox_agents WHERE sandbox_id = ?", "t", j->id);
    if (rc < 0)
        return rc;
    return j->whole ? db_exec(db, err, "DELETE FROM sandboxes WHERE id = ?", "t", j->id)
                    : db_exec(db, err, "UPDATE sandboxes SET container_id = '' WHERE id = ?", "t", j->id);
}

int sandbox_evict(struct sandbox *sb, bool whole, const char *why, struct err *err)
{
    struct evict j = {.id = sb->id, .whole = whole};
    struct server *s;
    Davit__Common__V1__Sandbox before;
    char container[SANDBOX_HASH_SIZE], thumbprint[SANDBOX_HASH_SIZE];
    (void)sandbox_ref(sb);
    int rc = store_write(sb->control->store, evict, &j, deadline_in(STORE_WAIT), err);
    if (rc == 0 && !sb->gone) {
        s = servers_by_id(sb->control, sb->server_id);
        log_event(LOG_INFO, whole ? "sandbox gone" : "sandbox lost its registration", "sandbox", sb->id, "name", sb->name, "thumbprint",
                  sb->thumbprint, "reason", why, NULL);
        (void)str_copy(container, sizeof(container), str_from(sb->container));
        (void)str_copy(thumbprint, sizeof(thumbprint), str_from(sb->thumbprint));
        sandbox_describe(sb, &before);
        before.container_id = *container ? container : before.container_id;
        before.thumbprint = thumbprint;
        sb->thumbprint[0] = sb->previous[0] = '\0';
        sb->registered = 0;
        if (s && *thumbprint)
            sandbox_tell(s, sb, 0); /* of that container: one that has come in its place is not meant */
        sb->container[0] = '\0';
        if (whole)
            sandboxes_drop(sb);
        sandbox_changed(sb, &before);
    }
    sandbox_unref(sb);
    return rc;
}

/* --- At the start --- */

static int load_one(struct control *c, const struct rows *r, struct err *err)
{
    ProtobufCMessage *spec = NULL, *state = NULL;
    AUTO_SECRET bytes = NULL;
    struct sandbox *sb = NULL;
    struct str id = row_text(r, 0);
    const struct server *s = servers_by_id(c, row_text(r, 1).p);
    if (!s)
        return 0;
    int rc = sealed_get(c, SEALED_SANDBOX, id.p, row_blob(r, 2), &bytes, err);
    if (rc == 0)
        rc = rpc_unpack(&davit__common__v1__sandbox_spec__descriptor, secret_reveal(bytes), &spec, err);
    if (rc == 0)
        rc = rpc_unpack(&davit__common__v1__sandbox__descriptor, row_blob(r, 3), &state, err);
    if (rc == 0)
        rc = sandboxes_add(c, s, (const Davit__Common__V1__SandboxSpec *)spec, &sb, err);
    (void)rpc_message_free(spec);
    if (rc < 0 || !sb) {
        (void)rpc_message_free(state);
        return rc;
    }
    (void)rpc_message_free(sb->state);
    sb->state = (Davit__Common__V1__Sandbox *)state;
    (void)str_copy(sb->container, sizeof(sb->container), row_text(r, 4));
    sb->created = (usec_t)row_i64(r, 5);
    (void)str_copy(sb->thumbprint, sizeof(sb->thumbprint), row_text(r, 6));
    sb->registered = (usec_t)row_i64(r, 7);
    sb->last_seen = sb->last_saved = (usec_t)row_i64(r, 8);
    (void)str_copy(sb->previous, sizeof(sb->previous), row_text(r, 9));
    sb->previous_until = (usec_t)row_i64(r, 10);
    sb->creating = false;
    const struct command *cmd;
    list_each(cmd, &s->commands, struct command, node)
        sb->creating = sb->creating || (cmd->kind == COMMAND_SANDBOX_CREATE && strcmp(cmd->subject, sb->id) == 0);
    return 0;
}

static int load(struct db *db, void *arg, struct err *err)
{
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err,
                      "SELECT b.id, b.server_id, b.spec, b.state, b.container_id, b.created_us, a.thumbprint, a.registered_us, a.last_seen_us,"
                      " a.previous, a.previous_until_us"
                      " FROM sandboxes b LEFT JOIN sandbox_agents a ON a.sandbox_id = b.id ORDER BY b.created_us, b.id",
                      "");
    while (rc == 0 && (rc = rows_next(rows, err)) == 1)
        rc = load_one(arg, rows, err);
    return rc;
}

int sandboxes_load(struct control *c, struct err *err)
{
    return store_read_sync(c->store, load, c, err);
}

/* --- What may be asked for --- */

static int check_step(const Davit__Common__V1__SandboxStep *st, struct err *err)
{
    if (!str_is_label(str_from(st->name)))
        return err_set(err, ERR_INVALID, "steps.name: \"%.80s\" is not allowed; 1 to 63 of a-z, 0-9 and \"-\", not at the ends", text(st->name));
    if (!st->n_command || st->n_command > SPEC_COMMAND_MAX || !*st->command[0])
        return err_set(err, ERR_INVALID, "step %s: a command of 1 to %d words is needed", st->name, SPEC_COMMAND_MAX);
    if (st->timeout_s > STEP_TIMEOUT_MAX_S)
        return err_set(err, ERR_INVALID, "step %s: timeout: at most %d s", st->name, STEP_TIMEOUT_MAX_S);
    return 0;
}

static int check_steps(const Davit__Common__V1__SandboxSpec *s, struct err *err)
{
    Davit__Common__V1__SandboxStep *all[2 * STEPS_MAX];
    size_t n = 0;
    if (s->n_init_steps > STEPS_MAX || s->n_boot_steps > STEPS_MAX)
        return err_set(err, ERR_INVALID, "steps: at most %d of a kind", STEPS_MAX);
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

static int check_workspace(const Davit__Common__V1__SandboxSpec *s, const Davit__Common__V1__ServiceSpec *as, struct err *err)
{
    const Davit__Common__V1__SandboxWorkspace *w = s->workspace;
    if (!w)
        return 0;
    if (!spec_is_mount_path(str_from(text(w->path))))
        return err_set(err, ERR_INVALID, "workspace.path: \"%.100s\" must be an absolute path in the sandbox", text(w->path));
    int rc = spec_check_target(as, "workspace.path", w->path, true, err);
    if (rc < 0 || w->snapshot)
        return rc;
    if (!spec_is_mount_path(str_from(text(w->source))))
        return err_set(err, ERR_INVALID, "workspace.source: \"%.100s\" must be an absolute path on the server", text(w->source));
    return spec_check_source(as, w->source, err);
}

/* Where a sandbox and a service have the same, the same rules hold. */
static int check_as_service(Davit__Common__V1__SandboxSpec *s, struct err *err)
{
    ProtobufCMessage *copy = NULL;
    Davit__Common__V1__ServiceSpec as = DAVIT__COMMON__V1__SERVICE_SPEC__INIT;
    as.project = *text(s->project) ? s->project : lend("none");
    as.name = s->name;
    as.image = s->image;
    as.command = s->command;
    as.n_command = s->n_command;
    as.env = s->env;
    as.n_env = s->n_env;
    as.volumes = s->volumes;
    as.n_volumes = s->n_volumes;
    as.cpu_milli = s->cpu_milli;
    as.memory_bytes = s->memory_bytes;
    as.pids_limit = s->pids_limit;
    as.restart = s->restart;
    as.pull = s->pull;
    if (rpc_copy(&as.base, &copy) != 0)
        return err_set(err, ERR_INVALID, "spec: larger than a message may be");
    Davit__Common__V1__ServiceSpec *full = (Davit__Common__V1__ServiceSpec *)copy;
    int rc = spec_check(full, err);
    if (rc == 0)
        rc = check_workspace(s, full, err);
    if (rc == 0) {
        spec_complete(full); /* the tag that is left open */
        if (s->image != protobuf_c_empty_string)
            free(s->image);
        s->image = str_dup(str_from(full->image));
    }
    (void)rpc_message_free(copy);
    return rc;
}

int sandbox_spec_check(Davit__Common__V1__SandboxSpec *s, struct err *err)
{
    if (!s)
        return err_set(err, ERR_INVALID, "spec: there is none");
    int rc = check_as_service(s, err);
    if (rc == 0)
        rc = check_steps(s, err);
    if (rc == 0 && (s->n_entrypoint > SPEC_COMMAND_MAX || strlen(text(s->user)) > SPEC_ENV_NAME_MAX))
        rc = err_set(err, ERR_INVALID, "entrypoint and user: at most %d words, %d bytes", SPEC_COMMAND_MAX, SPEC_ENV_NAME_MAX);
    if (rc == 0 && *text(s->working_dir) && (*s->working_dir != '/' || strlen(s->working_dir) > SPEC_PATH_MAX))
        rc = err_set(err, ERR_INVALID, "working_dir: \"%.100s\" must be an absolute path", s->working_dir);
    if (rc == 0 && s->stop_grace_s > STOP_GRACE_MAX_S)
        rc = err_set(err, ERR_INVALID, "stop_grace: at most %d s", STOP_GRACE_MAX_S);
    return rc;
}
