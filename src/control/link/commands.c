/* SPDX-License-Identifier: Apache-2.0 */
/* commands — see commands.h: the records, submitting, waiting, sending. What agents answer is in commands_result.c. */
#include "control/link/commands.h"

#include "base/mem.h"
#include "control/idle.h"
#include "control/link/links.h"
#include "control/work/registries.h"
#include "control/sandboxes/sandboxes.h"
#include "control/sealed.h"
#include "ident/seal.h"

struct command *command_ref(struct command *cmd)
{
    cmd->refs++;
    return cmd;
}

struct command *command_unref(struct command *cmd)
{
    if (!cmd || --cmd->refs)
        return NULL;
    event_release(&cmd->done);
    (void)rpc_message_free(cmd->message);
    (void)rpc_message_free(cmd->auth);
    (void)rpc_message_free(cmd->result);
    free(cmd->subject);
    free(cmd);
    return NULL;
}

static struct command *command_make(struct control *c, const char *id, enum command_kind kind, const char *subject)
{
    struct command *cmd = NEW(struct command);
    cmd->refs = 1;
    list_init(&cmd->node);
    event_init(&cmd->done, c->loop);
    (void)str_copy(cmd->id, sizeof(cmd->id), str_from(id));
    cmd->kind = kind;
    cmd->state = COMMAND_QUEUED;
    cmd->subject = str_dup(str_from(subject));
    return cmd;
}

/* Two that were written one after the other may become known here the other way round: known_seq says up to where none is missing. */
static void insert_sorted(struct server *s, struct command *cmd)
{
    struct list *at = s->commands.prev;
    while (at != &s->commands && list_entry(at, struct command, node)->seq > cmd->seq)
        at = at->prev;
    list_unshift(at, &cmd->node);
    struct command *c;
    list_each(c, &s->commands, struct command, node)
        if (c->seq == s->known_seq + 1)
            s->known_seq++;
}

static unsigned pending_of(const struct server *s)
{
    unsigned n = 0;
    for (const struct list *l = s->commands.next; l != &s->commands; l = l->next)
        n++;
    return n;
}

unsigned commands_pending(const struct control *c)
{
    unsigned n = 0;
    struct server *s;
    list_each(s, &c->servers, struct server, node)
        n += pending_of(s);
    return n;
}

struct submit_job {
    const struct command_new *n;
    const char *server_id, *id;
    struct str payload; /* sealed */
    int64_t seq;
};

static int submit(struct db *db, void *arg, struct err *err)
{
    struct submit_job *j = arg;
    int rc = j->n->also ? j->n->also(db, j->n->also_arg, err) : 0;
    if (rc != 0)
        return rc;
    rc = db_get_i64(db, &j->seq, err, "UPDATE servers SET last_seq = last_seq + 1 WHERE id = ? RETURNING last_seq", "t",
                    j->server_id);
    if (rc == 1)
        return err_set(err, ERR_ABORTED, "the server was removed meanwhile");
    if (rc < 0)
        return rc;
    return db_exec(
        db, err,
        "INSERT INTO commands (server_id, seq, id, kind, subject, payload, credentials, state, result, created_us, received_us,"
        " finished_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)",
        "tititbiibi", j->server_id, j->seq, j->id, (int64_t)j->n->kind, j->n->subject, j->payload, (int64_t)(j->n->auth != NULL),
        (int64_t)COMMAND_QUEUED, STR(""), (int64_t)clock_real());
}

int commands_submit(struct server *s, const struct command_new *n, struct command **ret, struct err *err)
{
    struct control *c = s->control;
    AUTO_SECRET_BUF wire = BUF_INIT(COMMAND_BYTES_MAX);
    AUTO_BUF sealed = BUF_INIT(COMMAND_BYTES_MAX + SEAL_OVERHEAD);
    char id[37];
    ProtobufCMessage *copy = NULL, *auth = NULL;

    if (pending_of(s) >= COMMANDS_MAX) {
        (void)err_set(err, ERR_EXHAUSTED, "server \"%s\" has %d commands that wait already", s->name, COMMANDS_MAX);
        err_hint(err, "it takes them when it is connected again");
        return -(int)ERR_EXHAUSTED;
    }
    if (rpc_pack(&n->message->base, &wire) != 0 || rpc_copy(&n->message->base, &copy) != 0)
        return err_set(err, ERR_EXHAUSTED, "the command is larger than the %d bytes that a server takes", COMMAND_BYTES_MAX);
    if (n->auth && (protobuf_c_message_get_packed_size(&n->auth->base) > COMMAND_AUTH_MAX || rpc_copy(&n->auth->base, &auth) != 0)) {
        (void)rpc_message_free(copy);
        return err_set(err, ERR_EXHAUSTED, "the credentials are larger than %d bytes", COMMAND_AUTH_MAX);
    }
    idle_touch(c);
    rng_uuid(id);
    int rc = sealed_put(c, SEALED_COMMAND, id, buf_str(&wire), &sealed, err);
    struct submit_job j = {.n = n, .server_id = s->id, .id = id, .payload = buf_str(&sealed)};
    (void)server_ref(s);
    if (rc == 0)
        rc = store_write(c->store, submit, &j, deadline_in(STORE_WAIT), err);
    if (rc == 0 && s->gone)
        rc = err_set(err, ERR_ABORTED, "the server was removed meanwhile");
    if (rc != 0) {
        (void)rpc_message_free(copy);
        (void)rpc_message_free(auth);
        server_unref(s);
        return rc;
    }
    struct command *cmd = command_make(c, id, n->kind, n->subject);
    cmd->seq = (uint64_t)j.seq;
    cmd->message = (Davit__Link__V1__Command *)copy;
    cmd->auth = (Davit__Common__V1__RegistryAuth *)auth;
    cmd->credentials = auth != NULL;
    insert_sorted(s, cmd);
    if (ret)
        *ret = command_ref(cmd);
    links_pump(s);
    server_unref(s);
    return 0;
}

int commands_wait(struct command *cmd, usec_t deadline, struct err *err)
{
    int rc = event_wait(&cmd->done, deadline);
    if (rc == -(int)ERR_DEADLINE)
        return err_set(err, ERR_DEADLINE, "the agent did not answer in time");
    if (rc < 0)
        return err_set(err, (enum err_code) - rc, "the wait for the agent was given up");
    return cmd->dropped ? err_set(err, ERR_ABORTED, "the server was removed meanwhile") : 0;
}

static int from_row(struct control *c, const struct server *s, const struct rows *r, struct command **ret, struct err *err)
{
    ProtobufCMessage *m = NULL;
    AUTO_SECRET payload = NULL;
    struct str id = row_text(r, 2), subject = row_text(r, 4);
    int rc = sealed_get(c, SEALED_COMMAND, id.p, row_blob(r, 5), &payload, err);
    if (rc < 0)
        return rc;
    if (rpc_unpack(&davit__link__v1__command__descriptor, secret_reveal(payload), &m, NULL) != 0)
        return err_set(err, ERR_DATA_LOSS, "command %lld of server %s cannot be read", (long long)row_i64(r, 1), s->name);
    struct command *cmd = command_make(c, id.p, (enum command_kind)row_i64(r, 3), subject.p);
    cmd->seq = (uint64_t)row_i64(r, 1);
    cmd->message = (Davit__Link__V1__Command *)m;
    cmd->credentials = row_i64(r, 6) != 0;
    cmd->state = (enum command_state)row_i64(r, 7);
    cmd->cancel = row_i64(r, 8) != 0;
    cmd->sent = true;
    *ret = cmd;
    return 0;
}

static int load(struct db *db, void *arg, struct err *err)
{
    struct control *c = arg;
    AUTO_ROWS rows = NULL;
    int rc = db_query(
        db, &rows, err,
        "SELECT server_id, seq, id, kind, subject, payload, credentials, state, cancel FROM commands WHERE state <> 3 ORDER BY seq", "");
    if (rc < 0)
        return rc;
    while ((rc = rows_next(rows, err)) == 1) {
        struct server *s = servers_by_id(c, row_text(rows, 0).p);
        struct command *cmd = NULL;
        if (!s)
            continue;
        rc = from_row(c, s, rows, &cmd, err);
        if (rc < 0)
            return rc;
        insert_sorted(s, cmd);
    }
    return rc;
}

int commands_load(struct control *c, struct err *err)
{
    return store_read_sync(c->store, load, c, err);
}

void commands_release(struct server *s)
{
    struct command *cmd;
    list_each(cmd, &s->commands, struct command, node) {
        list_remove(&cmd->node);
        cmd->dropped = true;
        event_signal(&cmd->done);
        sandboxes_done(s->control, cmd);
        command_unref(cmd);
    }
}

void commands_forget(struct server *s, const char *project, const char *service)
{
    struct command *cmd;
    list_each(cmd, &s->commands, struct command, node) {
        if (cmd->kind != COMMAND_DEPLOY || cmd->state != COMMAND_QUEUED)
            continue;
        const Davit__Common__V1__ServiceSpec *spec = cmd->message->deploy->spec;
        if (!str_eq(str_from(spec->project), str_from(project)) || !str_eq(str_from(spec->name), str_from(service)))
            continue;
        list_remove(&cmd->node);
        cmd->dropped = true;
        event_signal(&cmd->done);
        command_unref(cmd);
    }
}

struct command *commands_by_seq(const struct server *s, uint64_t seq)
{
    struct command *cmd;
    list_each(cmd, &s->commands, struct command, node)
        if (cmd->seq == seq)
            return cmd;
    return NULL;
}

/* The agent asks its own clock whether a command comes too late, and that may be hours off. */
static uint64_t by_clock_of(const struct server *s, uint64_t deadline)
{
    int64_t at = 0;
    if (!deadline || deadline > (uint64_t)INT64_MAX || __builtin_add_overflow((int64_t)deadline, s->skew, &at) || at <= 0)
        return deadline;
    return (uint64_t)at;
}

/* What pulls an image goes with the login for its registry: its own, or the stored one. */
struct with_login {
    Davit__Link__V1__Deploy deploy;
    Davit__Link__V1__CreateSandbox create;
    struct registry_login login;
};

static Davit__Common__V1__RegistryAuth *login_for(struct server *s, const struct command *cmd, const char *image, struct with_login *w)
{
    return cmd->auth ? cmd->auth : registries_auth_for(s->control, image, &w->login) == 0 ? &w->login.auth : NULL;
}

static void add_login(struct server *s, const struct command *cmd, Davit__Link__V1__Command *wire, struct with_login *w)
{
    Davit__Common__V1__RegistryAuth *auth = NULL;
    if (wire->body_case == DAVIT__LINK__V1__COMMAND__BODY_DEPLOY && (auth = login_for(s, cmd, wire->deploy->spec->image, w))) {
        w->deploy = *wire->deploy;
        w->deploy.registry_auth = auth;
        wire->deploy = &w->deploy;
    } else if (wire->body_case == DAVIT__LINK__V1__COMMAND__BODY_CREATE_SANDBOX &&
               (auth = login_for(s, cmd, wire->create_sandbox->spec->image, w))) {
        w->create = *wire->create_sandbox;
        w->create.registry_auth = auth;
        wire->create_sandbox = &w->create;
    }
}

/* The stored message with what only the wire carries. */
static int send_one(struct server *s, struct command *cmd)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__Command wire = *cmd->message;
    struct with_login w;
    wire.seq = cmd->seq;
    wire.id = cmd->id;
    wire.deadline_us = by_clock_of(s, wire.deadline_us);
    add_login(s, cmd, &wire, &w);
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_COMMAND;
    m.command = &wire;
    int rc = links_send(s->link, &m);
    if (rc < 0)
        return rc;
    s->control->counters.commands_sent++;
    cmd->sent = true;
    return cmd->cancel ? commands_send_cancel(s, cmd) : 0;
}

uint64_t commands_resume_at(struct server *s, uint64_t last_received)
{
    struct command *cmd;
    list_each(cmd, &s->commands, struct command, node)
        cmd->sent = cmd->seq <= last_received;
    const struct command *first = list_first(&s->commands, struct command, node);
    /* All that has no result goes again: the agent knows by the id what it has. */
    if (first && first->seq <= last_received)
        return first->seq;
    return last_received + 1;
}

uint64_t commands_pump(struct server *s, uint64_t from)
{
    struct command *cmd;
    list_each(cmd, &s->commands, struct command, node) {
        if (cmd->seq < from)
            continue;
        if (cmd->cancel && !cmd->sent)
            commands_withdraw(s, cmd);
        if (cmd->leaving || commands_refuse_old(s, cmd))
            return cmd->seq;
        /* Behind known_seq one may be missing whose fiber has not come back from the store. */
        if (cmd->seq > s->known_seq || send_one(s, cmd) != 0)
            return cmd->seq < s->known_seq + 1 ? cmd->seq : s->known_seq + 1;
    }
    return s->known_seq + 1 > from ? s->known_seq + 1 : from;
}

struct skip_job {
    const char *server_id;
    int64_t to;
};

static int skip(struct db *db, void *arg, struct err *err)
{
    struct skip_job *j = arg;
    return db_exec(db, err, "UPDATE servers SET last_seq = ? WHERE id = ? AND last_seq < ?", "iti", j->to, j->server_id, j->to);
}

int commands_skip_to(struct server *s, uint64_t last_received, struct err *err)
{
    if (last_received > (uint64_t)INT64_MAX / 2)
        return err_set(err, ERR_INVALID, "hello.last_received_seq: %llu is out of range", (unsigned long long)last_received);
    if (last_received <= s->known_seq)
        return 0;
    struct skip_job j = {.server_id = s->id, .to = (int64_t)last_received};
    int rc = store_write(s->control->store, skip, &j, deadline_in(STORE_WAIT), err);
    if (rc == 0 && last_received > s->known_seq)
        s->known_seq = last_received;
    return rc;
}
