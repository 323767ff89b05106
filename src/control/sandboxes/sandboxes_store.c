/* SPDX-License-Identifier: Apache-2.0 */
/* sandboxes_store — see sandboxes.h: the rows of sandboxes and of who is registered, and what a spec may say. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/sandboxes/sandboxes.h"
#include "control/sealed.h"
#include "spec/spec.h"

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

int sandbox_spec_check(Davit__Common__V1__SandboxSpec *s, struct err *err)
{
    ProtobufCMessage *copy = NULL;
    struct spec_sandbox room;
    int rc = spec_check_sandbox(s, err);
    if (rc < 0)
        return rc;
    if (rpc_copy(&spec_of_sandbox(s, &room)->base, &copy) != 0)
        return err_set(err, ERR_INVALID, "spec: larger than a message may be");
    Davit__Common__V1__ServiceSpec *full = (Davit__Common__V1__ServiceSpec *)copy;
    spec_complete(full); /* the tag that is left open */
    if (s->image != protobuf_c_empty_string)
        free(s->image);
    s->image = str_dup(str_from(full->image));
    (void)rpc_message_free(copy);
    return 0;
}
