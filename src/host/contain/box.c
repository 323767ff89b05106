/* SPDX-License-Identifier: Apache-2.0 */
/* box — the record of one sandbox: what is known of it, what is kept of it on disk, and what the control plane is told.
 * Files, sealed: <id>.spec SandboxSpec without variables, <id>.row SandboxVerdict, <id>.init (empty): its first start's steps are done. */
#include "host/contain/contain_internal.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"

enum { SPEC_MAX = 1024 * 1024, MESSAGE_MAX = 1024 };

struct box *box_find(struct contain *k, const char *id)
{
    return hmap_get(k->boxes, str_from(id));
}

struct box *box_get(struct contain *k, const char *id)
{
    struct box *b = box_find(k, id);

    if (b)
        return b;
    b = NEW(struct box);
    *b = (struct box){.k = k,
                      .refs = 1,
                      .id = str_dup(str_from(id)),
                      .state = STATE(CREATING),
                      .trust = TRUST(UNREGISTERED),
                      .reason = "",
                      .message = str_dup(STR(""))};
    event_init(&b->changed, k->loop);
    if (hmap_put(k->boxes, str_from(id), b, NULL) == 0)
        return b;
    box_unref(b);
    return NULL;
}

struct box *box_ref(struct box *b)
{
    b->refs++;
    return b;
}

void box_unref(struct box *b)
{
    if (--b->refs)
        return;
    (void)rpc_message_free(b->spec);
    event_release(&b->changed);
    free(b->id);
    free(b->message);
    free(b);
}

void box_drop(struct box *b)
{
    if (b->gone)
        return;
    b->gone = true;
    (void)hmap_remove(b->k->boxes, str_from(b->id));
    event_pulse(&b->changed);
    box_unref(b);
}

char *box_name(const sandbox_spec *s)
{
    return *s->project ? str_printf("davit.%s.%s", s->project, s->name) : str_printf("davit.%s", s->name);
}

/* --- Pins of roots ---- */

/* A list of them as messages have it. */
struct pins {
    char text[ROOT_PINS_SIZE];
    char *v[CERT_ROOTS_MAX];
    size_t n;
};

static void pins_read(const char *roots, struct pins *p)
{
    p->n = 0;
    (void)str_copy(p->text, sizeof(p->text), str_from(roots));
    for (char *at = p->text; *at && p->n < ARRAY_LEN(p->v);) {
        p->v[p->n++] = at;
        at += strcspn(at, " ");
        if (*at)
            *at++ = '\0';
    }
}

static void pins_write(char *const *v, size_t n, char roots[ROOT_PINS_SIZE])
{
    roots[0] = '\0';
    for (size_t i = 0; i < n && i < CERT_ROOTS_MAX; i++) {
        size_t at = strlen(roots);
        (void)snprintf(roots + at, ROOT_PINS_SIZE - at, "%s%.64s", i ? " " : "", v[i]);
    }
}

/* --- What is told ---- */

static void fill(const struct box *b, Davit__Common__V1__Sandbox *m, struct pins *pins)
{
    davit__common__v1__sandbox__init(m);
    pins_read(b->roots, pins);
    m->n_root_pins = pins->n;
    m->root_pins = pins->v;
    m->id = b->id;
    if (b->spec) {
        m->project = b->spec->project;
        m->name = b->spec->name;
        m->image = b->spec->image;
        m->open_network = b->spec->open_network;
    }
    m->container_id = (char *)(uintptr_t)b->container;
    m->state = b->state;
    m->trust = b->trust;
    m->reason = (char *)(uintptr_t)b->reason;
    m->message = b->message;
    m->step = (char *)(uintptr_t)b->step;
    m->step_index = b->step_index;
    m->step_total = b->step_total;
    m->exit_code = b->exit_code;
    m->oom_killed = b->oom_killed;
    m->thumbprint = (char *)(uintptr_t)b->thumbprint;
    m->created_at_us = b->created;
    m->registered_at_us = b->registered;
    m->last_seen_us = b->seen;
    m->started_at_us = b->started;
    m->session = b->session;
    m->live_thumbprint = b->session ? (char *)(uintptr_t)b->live : m->live_thumbprint;
    m->certificate_ends_us = b->certificate_ends;
}

static void tell(struct contain *k, bool full, Davit__Common__V1__Sandbox **list, size_t n, char **removed, size_t n_removed)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__SandboxStates states = DAVIT__LINK__V1__SANDBOX_STATES__INIT;

    if (!k->linked)
        return;
    states.full = full;
    states.sandboxes = list;
    states.n_sandboxes = n;
    states.removed_ids = removed;
    states.n_removed_ids = n_removed;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_SANDBOXES;
    m.sandboxes = &states;
    work_send(k->w, &m);
}

void box_tell(struct box *b)
{
    Davit__Common__V1__Sandbox m, *list = &m;
    struct pins pins;

    event_pulse(&b->changed);
    if (b->gone || b->state == STATE(REMOVED)) {
        tell(b->k, false, NULL, 0, &b->id, 1);
        return;
    }
    fill(b, &m, &pins);
    tell(b->k, false, &list, 1, NULL, 0);
}

void boxes_tell(struct contain *k)
{
    size_t n = hmap_count(k->boxes), i = 0;
    Davit__Common__V1__Sandbox *items = mem_zalloc(n + 1, sizeof(*items)), **list = mem_zalloc(n + 1, sizeof(*list));
    struct pins *pins = mem_zalloc(n + 1, sizeof(*pins));

    for (struct hmap_entry *e = hmap_first(k->boxes); e; e = hmap_next(e)) {
        const struct box *b = hmap_value(e);
        fill(b, &items[i], &pins[i]);
        list[i] = &items[i];
        i += *b->container != '\0';
    }
    tell(k, true, list, i, NULL, 0);
    free(items);
    free(list);
    free(pins);
}

void box_state(struct box *b, Davit__Common__V1__SandboxState state, const char *reason, const char *text)
{
    char *message = text_tail(str_from(text ? text : ""), MESSAGE_MAX); /* @text may be the one of before */

    free(b->message);
    b->message = message;
    b->state = state;
    b->reason = reason;
    if (*reason)
        log_event(LOG_WARN, "sandbox", "sandbox", b->id, "reason", reason, "message", b->message, NULL);
    box_tell(b);
}

/* --- What is kept ---- */

static int keep(struct box *b, const char *kind, const ProtobufCMessage *m, struct err *err)
{
    AUTO_SECRET_BUF bytes = BUF_INIT(SPEC_MAX);
    AUTO_BUF sealed = BUF_INIT(SPEC_MAX + SEAL_OVERHEAD);
    AUTO_FREE char *name = str_printf("%s.%s", b->id, kind);
    const struct seal *seal = b->k->seal;

    if (rpc_pack(m, &bytes) < 0)
        return err_set(err, ERR_EXHAUSTED, "a sandbox that takes more than %d bytes to describe", SPEC_MAX);
    int rc = seal ? seal_close(seal, name, buf_str(&bytes), &sealed, err) : 0;
    const struct buf *kept = seal ? &sealed : &bytes;
    return rc < 0 ? rc : contain_write(b->k, name, buf_cstr(kept), kept->len, err);
}

int box_keep_spec(struct box *b, const sandbox_spec *spec, struct err *err)
{
    sandbox_spec without = *spec;
    ProtobufCMessage *copy = NULL;

    /* Resumed: the keeper may be at its steps. */
    if (b->spec)
        return 0;
    without.n_env = 0;
    without.env = NULL;
    if (rpc_copy(&without.base, &copy) != 0)
        return err_set(err, ERR_INTERNAL, "the spec cannot be copied");
    int rc = keep(b, "spec", copy, err);
    if (rc == 0 && !b->spec) {
        b->spec = (sandbox_spec *)copy;
        copy = NULL;
    }
    (void)rpc_message_free(copy);
    return rc;
}

int box_keep_row(struct box *b, struct err *err)
{
    Davit__Link__V1__SandboxVerdict v = DAVIT__LINK__V1__SANDBOX_VERDICT__INIT;
    struct pins p;

    v.sandbox_id = b->id;
    v.container_id = *b->container ? b->container : b->kept;
    v.thumbprint = b->thumbprint;
    v.registered_at_us = b->registered;
    v.previous_thumbprint = b->previous;
    v.not_after_us = b->not_after;
    pins_read(b->roots, &p);
    v.n_root_pins = p.n;
    v.root_pins = p.v;
    return keep(b, "row", &v.base, err);
}

int box_keep_initialized(struct box *b, struct err *err)
{
    AUTO_FREE char *name = str_printf("%s.init", b->id);

    b->initialized = true;
    return contain_write(b->k, name, "", 0, err);
}

/* All but the last so many of what is kept. */
static int forget(struct box *b, size_t but, struct err *err)
{
    static const char *const kinds[] = {"row", "init", "spec"};
    int rc = 0;

    for (size_t i = 0; i < ARRAY_LEN(kinds) - but && rc == 0; i++) {
        AUTO_FREE char *name = str_printf("%s.%s", b->id, kinds[i]);
        rc = contain_write(b->k, name, NULL, 0, err);
    }
    return rc;
}

int box_forget(struct box *b, struct err *err)
{
    return forget(b, 0, err);
}

int box_set_container(struct box *b, const char *id, struct err *err)
{
    const char *before = *b->container ? b->container : b->kept;
    bool other = *before && strcmp(before, id) != 0;

    (void)str_copy(b->container, sizeof(b->container), str_from(id));
    if (!other)
        return 0;
    b->thumbprint[0] = b->previous[0] = b->roots[0] = '\0';
    b->registered = b->not_after = 0;
    b->refused = NULL;
    b->initialized = false;
    b->trust = TRUST(UNREGISTERED);
    return forget(b, 1, err);
}

/* A message in a file of the folder, or NULL. */
static ProtobufCMessage *read_message(struct contain *k, const char *name, const ProtobufCMessageDescriptor *type)
{
    AUTO_FREE char *path = str_printf("%s/%s", k->folder, name);
    AUTO_BUF bytes = BUF_INIT(SPEC_MAX + SEAL_OVERHEAD);
    AUTO_SECRET opened = NULL;
    ProtobufCMessage *m = NULL;
    struct err err = ERR_INIT;
    int rc = fd_read_file(path, &bytes, &err);

    /* What an agent of before wrote is no envelope. */
    if (rc == 0 && k->seal && seal_is(buf_str(&bytes)))
        rc = seal_open(k->seal, name, buf_str(&bytes), &opened, &err);
    if (rc < 0 || rpc_unpack(type, opened ? secret_reveal(opened) : buf_str(&bytes), &m, &err) < 0) {
        log_err(LOG_WARN, &err, "what is kept of a sandbox cannot be read", "file", path, NULL);
        return NULL;
    }
    return m;
}

static void load_one(struct contain *k, const char *name)
{
    struct str rest = str_from(name), stem = str_cut(&rest, '.');
    AUTO_FREE char *id = str_dup(stem);

    if (!str_is_label(stem) || (!str_eq(rest, STR("spec")) && !str_eq(rest, STR("row")) && !str_eq(rest, STR("init"))))
        return;
    struct box *b = box_get(k, id);
    if (!b)
        return;
    if (str_eq(rest, STR("spec"))) {
        b->spec = (sandbox_spec *)read_message(k, name, &davit__common__v1__sandbox_spec__descriptor);
    } else if (str_eq(rest, STR("init"))) {
        b->initialized = true;
    } else {
        Davit__Link__V1__SandboxVerdict *v =
            (Davit__Link__V1__SandboxVerdict *)read_message(k, name, &davit__link__v1__sandbox_verdict__descriptor);
        if (v) {
            (void)str_copy(b->thumbprint, sizeof(b->thumbprint), str_from(v->thumbprint));
            (void)str_copy(b->kept, sizeof(b->kept), str_from(v->container_id));
            b->registered = v->registered_at_us;
            b->not_after = v->not_after_us;
            (void)str_copy(b->previous, sizeof(b->previous), str_from(v->previous_thumbprint));
            pins_write(v->root_pins, v->n_root_pins, b->roots);
            b->trust = *b->thumbprint ? TRUST(REGISTERED) : b->trust;
        }
        (void)rpc_message_free(v);
    }
}

void boxes_load(struct contain *k)
{
    DIR *d = opendir(k->folder);
    const struct dirent *e;

    while (d && (e = readdir(d)) != NULL)
        load_one(k, e->d_name);
    if (d)
        (void)closedir(d);
}

/* --- The verdict ---- */

static void keep_row_main(void *arg)
{
    struct box *b = arg;
    struct err err = ERR_INIT;

    if (!b->gone && box_keep_row(b, &err) < 0)
        log_err(LOG_WARN, &err, "the verdict about a sandbox is not on disk", "sandbox", b->id, NULL);
    box_unref(b);
}

static void keep_row_soon(struct box *b)
{
    (void)box_ref(b);
    if (!work_spawn(b->k->w, "sandbox-row", keep_row_main, b))
        box_unref(b);
}

bool box_knows(const struct box *b, const char *thumbprint)
{
    return *thumbprint && (strcmp(b->thumbprint, thumbprint) == 0 || strcmp(b->previous, thumbprint) == 0);
}

void box_confirm(struct box *b, usec_t not_after)
{
    if (!*b->previous && b->not_after == not_after)
        return;
    b->previous[0] = '\0';
    b->not_after = not_after;
    keep_row_soon(b);
}

/* The one before counts only together with a new one: what has been seen since is not taken back. */
static void take_row(struct box *b, const Davit__Link__V1__SandboxVerdict *v, bool same)
{
    if (!same || *b->previous)
        (void)str_copy(b->previous, sizeof(b->previous), str_from(v->previous_thumbprint));
    (void)str_copy(b->thumbprint, sizeof(b->thumbprint), str_from(v->thumbprint));
    b->registered = v->registered_at_us;
    b->trust = *b->thumbprint ? TRUST(REGISTERED) : TRUST(UNREGISTERED);
}

/* Of the control plane's reasons the static word of one that cuts off; NULL: it may succeed another time. */
static const char *distrust(const char *reason)
{
    static const char *const words[] = {"cert_thumbprint_mismatch", "container_mismatch", "label_mismatch"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(reason, words[i]) == 0)
            return words[i];
    return NULL;
}

void box_verdict(struct box *b, const Davit__Link__V1__SandboxVerdict *v)
{
    bool same = strcmp(b->thumbprint, v->thumbprint) == 0;

    /* A row of a container of before says nothing about this one. */
    if (*v->container_id && *b->container && strcmp(v->container_id, b->container) != 0)
        return;
    if (v->failure) {
        const char *reason = distrust(v->failure->reason);
        b->refused = reason ? reason : b->refused;
        if (reason)
            keeper_quarantine(b, reason, v->failure->message);
        return;
    }
    b->refused = NULL;
    take_row(b, v, same);
    if (!same && *b->thumbprint)
        log_event(LOG_NOTICE, "sandbox registered", "sandbox", b->id, "thumbprint", b->thumbprint, NULL);
    keep_row_soon(b);
    if (!same)
        box_tell(b);
}
