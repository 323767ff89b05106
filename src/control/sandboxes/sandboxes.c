/* SPDX-License-Identifier: Apache-2.0 */
/* sandboxes — see sandboxes.h: the registry in memory, what agents report, who waits. */
#include "control/sandboxes/sandboxes.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/idle.h"
#include "control/link/links.h"
#include "control/watch/worldview.h"

enum { ID_PREFIX_MIN = 4, WORD_MAX = 64, IMAGE_MAX = 512, MESSAGE_MAX = 1024 };

struct sandboxes *sandboxes_new(void)
{
    struct sandboxes *b = NEW(struct sandboxes);
    list_init(&b->all);
    list_init(&b->waits);
    return b;
}

struct sandboxes *sandboxes_free(struct sandboxes *b)
{
    struct sandbox *sb;
    if (!b)
        return NULL;
    list_each(sb, &b->all, struct sandbox, node) {
        list_remove(&sb->node);
        list_remove(&sb->changed.node);
        sandbox_unref(sb);
    }
    free(b);
    return NULL;
}

struct sandbox *sandbox_ref(struct sandbox *sb)
{
    sb->refs++;
    return sb;
}

struct sandbox *sandbox_unref(struct sandbox *sb)
{
    if (!sb || --sb->refs)
        return NULL;
    (void)rpc_message_free(sb->state);
    free(sb);
    return NULL;
}

/* --- Looking --- */

struct sandbox *sandboxes_by_id(const struct control *c, const char *id)
{
    struct sandbox *sb;
    list_each(sb, &c->sandboxes->all, struct sandbox, node)
        if (strcmp(sb->id, text(id)) == 0)
            return sb;
    return NULL;
}

bool sandboxes_has(const struct control *c, const struct server *s, const char *project, const char *name)
{
    struct sandbox *sb;
    list_each(sb, &c->sandboxes->all, struct sandbox, node)
        if (strcmp(sb->server_id, s->id) == 0 && strcmp(sb->project, text(project)) == 0 && strcmp(sb->name, text(name)) == 0)
            return true;
    return false;
}

enum how { BY_NAME, BY_NAME_ALONE, BY_ID, HOWS };

static bool is_meant(const struct sandbox *sb, const char *project, const char *name, enum how how)
{
    if (how == BY_NAME)
        return strcmp(sb->project, project) == 0 && strcmp(sb->name, name) == 0;
    if (*project)
        return false;
    if (how == BY_NAME_ALONE)
        return strcmp(sb->name, name) == 0;
    size_t n = strlen(name);
    return n >= ID_PREFIX_MIN && strncmp(sb->id, name, n) == 0;
}

int sandboxes_find(struct control *c, const Davit__Control__V1__SandboxRef *ref, struct sandbox **ret, struct err *err)
{
    const char *project = ref ? text(ref->project) : "", *name = ref ? text(ref->name) : "";
    if (!*name)
        return err_set(err, ERR_INVALID, "target.name: name a sandbox");
    for (enum how how = 0; how < HOWS; how++) {
        struct sandbox *sb, *found = NULL;
        unsigned n = 0;
        list_each(sb, &c->sandboxes->all, struct sandbox, node)
            if (is_meant(sb, project, name, how)) {
                found = sb;
                n++;
            }
        if (n == 1) {
            *ret = found;
            return 0;
        }
        if (n > 1) {
            (void)err_set(err, ERR_INVALID, "there are %u sandboxes called \"%.64s\"", n, name);
            err_hint(err, "say its project, or its id as davit sandbox ls --output json shows it");
            return -(int)ERR_INVALID;
        }
    }
    (void)err_set(err, ERR_NOT_FOUND, "there is no sandbox \"%.64s%s%.64s\"", project, *project ? "/" : "", name);
    err_hint(err, "davit sandbox ls shows what there is");
    return -(int)ERR_NOT_FOUND;
}

usec_t sandbox_seen(const struct sandbox *sb)
{
    const struct server *s = servers_by_id(sb->control, sb->server_id);
    return s && sb->state->session && s->heartbeat > sb->last_seen ? s->heartbeat : sb->last_seen;
}

void sandbox_describe(const struct sandbox *sb, Davit__Common__V1__Sandbox *m)
{
    *m = *sb->state;
    m->id = lend(sb->id);
    m->project = lend(sb->project);
    m->name = lend(sb->name);
    m->server_id = lend(sb->server_id);
    m->created_at_us = sb->created;
    m->container_id = *sb->container ? lend(sb->container) : sb->state->container_id;
    m->thumbprint = lend(sb->thumbprint);
    m->registered_at_us = sb->registered;
    m->last_seen_us = sandbox_seen(sb);
    if (sb->state->trust != DAVIT__COMMON__V1__SANDBOX_TRUST__SANDBOX_TRUST_UNTRUSTED)
        m->trust = *sb->thumbprint ? DAVIT__COMMON__V1__SANDBOX_TRUST__SANDBOX_TRUST_REGISTERED
                                   : DAVIT__COMMON__V1__SANDBOX_TRUST__SANDBOX_TRUST_UNREGISTERED;
}

void sandbox_touched(struct sandbox *sb)
{
    struct changes *ch = &sb->control->changes;
    if (!sb->gone)
        changes_put(ch, &ch->sandboxes, &sb->changed);
}

void sandbox_changed(struct sandbox *sb, const Davit__Common__V1__Sandbox *before)
{
    Davit__Common__V1__Sandbox now;
    sandbox_describe(sb, &now);
    sandbox_touched(sb);
    worldview_sandbox(sb->control, before, sb->gone ? NULL : &now);
    if (!sb->gone && now.state != DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_STOPPED)
        idle_touch(sb->control);
}

/* --- Coming and going --- */

int sandboxes_add(struct control *c, const struct server *s, const Davit__Common__V1__SandboxSpec *spec, struct sandbox **ret, struct err *err)
{
    Davit__Common__V1__Sandbox m = DAVIT__COMMON__V1__SANDBOX__INIT;
    ProtobufCMessage *copy = NULL;
    if (c->sandboxes->n >= SANDBOXES_MAX)
        return err_set(err, ERR_EXHAUSTED, "there are %d sandboxes already", SANDBOXES_MAX);
    m.image = spec->image;
    m.state = DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_CREATING;
    m.open_network = spec->open_network;
    if (rpc_copy(&m.base, &copy) != 0)
        return err_set(err, ERR_EXHAUSTED, "the sandbox is too large");
    struct sandbox *sb = NEW(struct sandbox);
    sb->control = c;
    sb->refs = 1;
    sb->creating = true;
    sb->tty = spec->tty;
    sb->created = clock_real();
    (void)str_copy(sb->id, sizeof(sb->id), str_from(spec->id));
    (void)str_copy(sb->server_id, sizeof(sb->server_id), str_from(s->id));
    (void)str_copy(sb->project, sizeof(sb->project), str_from(text(spec->project)));
    (void)str_copy(sb->name, sizeof(sb->name), str_from(spec->name));
    sb->state = (Davit__Common__V1__Sandbox *)copy;
    list_init(&sb->node);
    list_init(&sb->changed.node);
    list_push(&c->sandboxes->all, &sb->node);
    c->sandboxes->n++;
    sandbox_touched(sb);
    *ret = sb;
    return 0;
}

void sandboxes_drop(struct sandbox *sb)
{
    if (sb->gone)
        return;
    struct changes *ch = &sb->control->changes;
    sb->gone = true;
    list_remove(&sb->node);
    list_remove(&sb->changed.node);
    (void)str_copy(changes_gone(ch, &ch->sandboxes_gone)->id, sizeof(sb->id), str_from(sb->id));
    sb->control->sandboxes->n--;
    sandbox_unref(sb);
}

void sandboxes_server_gone(struct server *s)
{
    struct sandbox *sb;
    if (!s->control->sandboxes)
        return;
    list_each(sb, &s->control->sandboxes->all, struct sandbox, node)
        if (strcmp(sb->server_id, s->id) == 0)
            sandboxes_drop(sb);
}

/* --- What agents report --- */

/* But for when it was seen, which moves all the time. */
static bool same(const Davit__Common__V1__Sandbox *a, const Davit__Common__V1__Sandbox *b)
{
    AUTO_BUF one = BUF_INIT(RPC_MESSAGE_MAX);
    AUTO_BUF two = BUF_INIT(RPC_MESSAGE_MAX);
    Davit__Common__V1__Sandbox m = *a;
    m.last_seen_us = b->last_seen_us;
    return rpc_pack(&m.base, &one) == 0 && rpc_pack(&b->base, &two) == 0 && str_eq(buf_str(&one), buf_str(&two));
}

/* In place, between characters. */
static void cut(char *field, size_t max)
{
    size_t n = strlen(text(field));
    if (n <= max)
        return;
    for (n = max; n && ((unsigned char)field[n] & 0xc0) == 0x80;)
        n--;
    field[n] = '\0';
}

/* What is kept of a report is no longer than what an honest agent says. */
static void cut_texts(Davit__Common__V1__Sandbox *m)
{
    char *const words[] = {m->id, m->project, m->name, m->container_id, m->reason, m->step, m->thumbprint, m->server_id, m->live_thumbprint};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        cut(words[i], WORD_MAX);
    while (m->n_root_pins > CERT_ROOTS_MAX)
        free(m->root_pins[--m->n_root_pins]);
    for (size_t i = 0; i < m->n_root_pins; i++)
        cut(m->root_pins[i], WORD_MAX);
    cut(m->image, IMAGE_MAX);
    cut(m->message, MESSAGE_MAX);
}

/* Waits. The word of its agent on which container it is counts: another one than the one that we signed for says that the first is gone. */
static int take_state(struct sandbox *sb, const Davit__Common__V1__Sandbox *said, struct err *err)
{
    ProtobufCMessage *copy = NULL;
    Davit__Common__V1__Sandbox before;
    int rc = 0;
    if (rpc_copy(&said->base, &copy) != 0)
        return 0;
    Davit__Common__V1__Sandbox *m = (Davit__Common__V1__Sandbox *)copy;
    cut_texts(m);
    bool moved = m->session || m->last_seen_us > sb->state->last_seen_us, changed = !same(m, sb->state);
    if (*sb->container && *text(m->container_id) && strcmp(sb->container, m->container_id) != 0) {
        rc = sandbox_evict(sb, false, "it has another container", err);
        changed = true;
    }
    if (rc < 0 || sb->gone) {
        (void)rpc_message_free(copy);
        return rc;
    }
    Davit__Common__V1__Sandbox *old = sb->state;
    sandbox_describe(sb, &before);
    sb->state = m;
    if (moved)
        sb->last_seen = clock_real();
    if (changed)
        sandbox_changed(sb, &before);
    (void)rpc_message_free(old);
    if (*sb->previous && m->session && strcmp(text(m->live_thumbprint), sb->thumbprint) == 0 && (rc = sandbox_confirm(sb, err)) < 0)
        return rc;
    if (!changed && (!moved || sb->last_seen < sb->last_saved + USEC_MINUTE))
        return 0;
    return sandbox_save(sb, err);
}

static bool is_listed(const struct sandbox *sb, const Davit__Link__V1__SandboxStates *m)
{
    for (size_t i = 0; i < m->n_sandboxes; i++)
        if (strcmp(m->sandboxes[i]->id, sb->id) == 0)
            return true;
    return false;
}

/* One of them that @m says is gone, or NULL. */
static struct sandbox *next_gone(const struct server *s, const Davit__Link__V1__SandboxStates *m)
{
    struct sandbox *sb;
    list_each(sb, &s->control->sandboxes->all, struct sandbox, node) {
        bool gone = m->full && !is_listed(sb, m);
        for (size_t i = 0; i < m->n_removed_ids; i++)
            gone = gone || strcmp(m->removed_ids[i], sb->id) == 0;
        /* One that is being made may have no container yet. */
        if (gone && strcmp(sb->server_id, s->id) == 0 && (!sb->creating || *sb->container))
            return sb;
    }
    return NULL;
}

static void take_states(struct server *s, const Davit__Link__V1__SandboxStates *m)
{
    struct err err = ERR_INIT;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < m->n_sandboxes; i++) {
        struct sandbox *sb = sandboxes_by_id(s->control, m->sandboxes[i]->id);
        if (!sb || strcmp(sb->server_id, s->id) != 0)
            continue; /* of another control plane, or from before a backup was restored: it is not ours to run */
        (void)sandbox_ref(sb);
        rc = take_state(sb, m->sandboxes[i], &err);
        sandbox_unref(sb);
    }
    for (struct sandbox *sb; rc == 0 && (sb = next_gone(s, m));)
        rc = sandbox_evict(sb, !sb->creating, "its container is gone", &err);
    if (rc < 0)
        log_err(LOG_ERROR, &err, "what an agent says of its sandboxes could not be stored", "server", s->name, NULL);
}

bool sandboxes_message(struct server *s, const Davit__Link__V1__AgentMessage *m)
{
    switch (m->body_case) {
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_SANDBOXES: take_states(s, m->sandboxes); return true;
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_SANDBOX_COUNTED: idle_counted(s, m->sandbox_counted); return true;
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_SANDBOX_CERTIFY: sandbox_certify(s, m->sandbox_certify); return true;
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_SANDBOX_EXCHANGE: sandbox_exchange(s, m->sandbox_exchange); return true;
    case DAVIT__LINK__V1__AGENT_MESSAGE__BODY_SANDBOX_REGISTER: sandbox_register(s, m->sandbox_register); return true;
    default: return false;
    }
}

void sandboxes_tell_roots(struct server *s)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__SandboxRoots roots = DAVIT__LINK__V1__SANDBOX_ROOTS__INIT;
    if (!links_take_sandboxes(s) || !s->control->roots_pem)
        return;
    roots.ca_pem = s->control->roots_pem;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_ROOTS;
    m.sandbox_roots = &roots;
    (void)links_send(s->link, &m); /* lost: with the next link */
}

void sandboxes_greet(struct server *s)
{
    struct sandbox *sb;
    if (!s->control->sandboxes)
        return; /* a part of it under test */
    sandboxes_tell_roots(s);
    list_each(sb, &s->control->sandboxes->all, struct sandbox, node) {
        bool there = *sb->container || *text(sb->state->container_id);
        /* Without a row it is told to register; that one is not trusted its agent knows, and no row would say that nothing is wrong. */
        bool rowless = there && sb->state->trust != DAVIT__COMMON__V1__SANDBOX_TRUST__SANDBOX_TRUST_UNTRUSTED;
        if (strcmp(sb->server_id, s->id) == 0 && (*sb->thumbprint || rowless))
            sandbox_tell(s, sb, 0);
    }
}

/* --- Commands --- */

static void set_text(char **field, const char *value)
{
    if (*field != protobuf_c_empty_string)
        free(*field);
    *field = str_dup(str_from(value));
}

/* Waits. What could not be made is not there; what was made and does not run stays, so that its user sees why. */
static int made(struct sandbox *sb, const Davit__Common__V1__Failure *f, struct err *err)
{
    bool there = *text(sb->state->container_id) != '\0';
    sb->creating = false;
    if (f && !there)
        return sandbox_evict(sb, true, "it could not be made", err);
    if (f) {
        sb->state->state = DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_FAILED;
        if (!*text(sb->state->reason))
            set_text(&sb->state->reason, text(f->reason));
        if (!*text(sb->state->message))
            set_text(&sb->state->message, text(f->message));
    } else if (sb->state->state == DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_CREATING) {
        sb->state->state = DAVIT__COMMON__V1__SANDBOX_STATE__SANDBOX_STATE_RUNNING;
    }
    sandbox_touched(sb);
    return sandbox_save(sb, err);
}

void sandboxes_result(struct server *s, const struct command *cmd, const Davit__Link__V1__CommandResult *r)
{
    bool is_one = cmd->kind == COMMAND_SANDBOX_CREATE || cmd->kind == COMMAND_SANDBOX_ACTION;
    struct sandbox *sb = is_one ? sandboxes_by_id(s->control, cmd->subject) : NULL;
    struct err err = ERR_INIT;
    int rc = 0;
    if (!sb)
        return;
    (void)sandbox_ref(sb);
    if (cmd->kind == COMMAND_SANDBOX_CREATE)
        rc = made(sb, r->failure, &err);
    else if (cmd->message->sandbox_action->action == DAVIT__LINK__V1__SANDBOX_ACTION__ACTION__ACTION_REMOVE && !r->failure)
        rc = sandbox_evict(sb, true, "it was removed", &err);
    sandbox_unref(sb);
    if (rc < 0)
        log_err(LOG_ERROR, &err, "the outcome for a sandbox could not be stored", "server", s->name, NULL);
}

struct step {
    struct list node;
    Davit__Common__V1__StepProgress *m;
};

static void step_free(struct sandbox_wait *w, struct step *st)
{
    list_remove(&st->node);
    w->n--;
    (void)rpc_message_free(st->m);
    free(st);
}

void sandbox_wait_begin(struct control *c, struct sandbox_wait *w, struct command *cmd)
{
    *w = (struct sandbox_wait){.cmd = cmd};
    list_init(&w->node);
    list_init(&w->steps);
    event_init(&w->news, c->loop);
    list_push(&c->sandboxes->waits, &w->node);
}

void sandbox_wait_end(struct sandbox_wait *w)
{
    struct step *st;
    list_remove(&w->node);
    list_each(st, &w->steps, struct step, node)
        step_free(w, st);
    event_release(&w->news);
}

int sandbox_wait_next(struct sandbox_wait *w, usec_t deadline, Davit__Common__V1__StepProgress **ret)
{
    for (;;) {
        struct step *st = list_first(&w->steps, struct step, node);
        if (st) {
            *ret = st->m;
            st->m = NULL;
            step_free(w, st);
            return 0;
        }
        if (w->cmd->state == COMMAND_DONE || w->cmd->dropped)
            return 1;
        event_reset(&w->news);
        int rc = event_wait(&w->news, deadline);
        if (rc < 0)
            return rc;
    }
}

void sandboxes_progress(struct control *c, const struct command *cmd, const Davit__Common__V1__StepProgress *p)
{
    struct sandbox_wait *w;
    if (!c->sandboxes)
        return;
    list_each(w, &c->sandboxes->waits, struct sandbox_wait, node) {
        ProtobufCMessage *copy = NULL;
        if (w->cmd != cmd || rpc_copy(&p->base, &copy) != 0)
            continue;
        struct step *oldest = list_first(&w->steps, struct step, node);
        if (oldest && w->n >= SANDBOX_PROGRESS_MAX)
            step_free(w, oldest);
        struct step *st = NEW(struct step);
        st->m = (Davit__Common__V1__StepProgress *)copy;
        list_init(&st->node);
        list_push(&w->steps, &st->node);
        w->n++;
        event_signal(&w->news);
    }
}

void sandboxes_done(struct control *c, const struct command *cmd)
{
    struct sandbox_wait *w;
    if (!c->sandboxes)
        return;
    list_each(w, &c->sandboxes->waits, struct sandbox_wait, node)
        if (w->cmd == cmd)
            event_signal(&w->news);
}
