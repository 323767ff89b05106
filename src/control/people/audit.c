/* SPDX-License-Identifier: Apache-2.0 */
/* audit — see audit.h: the queue of entries, its writer, the head that is kept outside of the table. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/hmap.h"
#include "base/mem.h"
#include "control/people/audit_internal.h"
#include "control/backup.h"

#define RETRY_FIRST USEC_SEC
#define RETRY_MAX   (30 * USEC_SEC)
#define TICK        (5 * USEC_SEC)

static struct ticket *ticket_new(struct control *c)
{
    struct ticket *t = NEW(struct ticket);
    t->refs = 1;
    event_init(&t->written, c->loop);
    return t;
}

struct ticket *audit_ticket_unref(struct ticket *t)
{
    if (t && --t->refs == 0) {
        event_release(&t->written);
        free(t);
    }
    return NULL;
}

static struct ticket *ticket_ref(struct ticket *t)
{
    if (t)
        t->refs++;
    return t;
}

/* ---- the writer ---- */

struct batch {
    struct pending *items[AUDIT_BATCH_MAX];
    unsigned n;
};

/* An end knows the number of its begin only now. */
static int write_batch(struct db *db, void *arg, struct err *err)
{
    struct batch *b = arg;
    for (unsigned i = 0; i < b->n; i++) {
        struct audit_record *r = &b->items[i]->record;
        if (b->items[i]->begin)
            r->begun = b->items[i]->begin->number;
        int rc = audit_append(db, r, err);
        if (rc < 0)
            return rc;
        if (b->items[i]->is_begin) /* for an end that is in the same batch */
            b->items[i]->ticket->number = r->number;
    }
    return 0;
}

static void settle(struct audit *a, struct pending *p, int rc, const struct err *err)
{
    if (p->ticket) {
        p->ticket->rc = rc;
        if (err)
            p->ticket->err = *err;
        event_signal(&p->ticket->written);
        (void)audit_ticket_unref(p->ticket);
    }
    if (p->is_note)
        a->notes--;
    (void)audit_ticket_unref(p->begin);
    free(p);
}

/* Nothing may begin without its entry; what has happened is kept for later. */
static void refuse_begins(struct audit *a, const struct err *err)
{
    struct pending *p;
    list_each(p, &a->queue, struct pending, node) {
        if (!p->is_begin)
            continue;
        list_remove(&p->node);
        p->ticket->number = 0; /* of a try that was rolled back */
        settle(a, p, -(int)err->code, err);
    }
}

static unsigned take_batch(struct audit *a, struct batch *b)
{
    struct list *n;
    b->n = 0;
    while (b->n < AUDIT_BATCH_MAX && (n = list_pop(&a->queue)))
        b->items[b->n++] = list_entry(n, struct pending, node);
    return b->n;
}

static void tell_dropped(struct audit *a)
{
    struct audit_record r = {.count = a->dropped};
    audit_who(&r, "davitd", NULL);
    audit_what(&r, "audit.dropped", "-");
    audit_how(&r, AUDIT_FAILED, NULL);
    (void)str_copy(r.reason, sizeof(r.reason), STR("events that came while nothing could be written"));
    a->dropped = 0;
    audit_note(a->control, &r);
}

/* Blocks. The order is what makes it safe: first the entry, then this. */
static int drop_mark(void *arg)
{
    struct audit *a = arg;
    AUTO_FREE char *path = str_printf("%s/" RESTORED_FILE, a->control->opt.state_dir);
    if (unlink(path) != 0 && errno != ENOENT)
        return -(int)ERR_INTERNAL;
    return fd_sync_parent(path, NULL);
}

static void finish_batch(struct audit *a, struct batch *b, int rc, const struct err *err)
{
    if (rc < 0) {
        for (unsigned i = b->n; i-- > 0;)
            list_unshift(&a->queue, &b->items[i]->node);
        refuse_begins(a, err);
        if (!a->failing)
            log_err(LOG_ERROR, err, "the audit log cannot be written; changes are refused", NULL);
        a->failing = true;
        return;
    }
    if (a->failing)
        log_event(LOG_NOTICE, "the audit log can be written again", NULL);
    a->failing = false;
    for (unsigned i = 0; i < b->n; i++)
        settle(a, b->items[i], 0, NULL);
    if (a->dropped)
        tell_dropped(a);
    audit_touched(a->control);
}

static void writer(void *arg)
{
    struct audit *a = arg;
    struct control *c = a->control;
    struct batch *b = NEW(struct batch);
    usec_t wait = RETRY_FIRST;
    while (take_batch(a, b)) {
        struct err err = ERR_INIT;
        int rc = err_ensure(&err, store_write(c->store, write_batch, b, deadline_in(STORE_WAIT), &err));
        finish_batch(a, b, rc, &err);
        if (rc == 0) {
            if (a->restored && lane_call(c->fast, drop_mark, a, deadline_in(STORE_WAIT)) == 0)
                a->restored = false;
            wait = RETRY_FIRST;
            continue;
        }
        if (c->stopping)
            break; /* audit_close tries once more */
        event_reset(&a->wake);
        (void)event_wait(&a->wake, deadline_in(wait));
        wait = wait * 2 < RETRY_MAX ? wait * 2 : RETRY_MAX;
    }
    free(b);
    a->writing = false;
    control_fiber_end(c);
}

/* Owns @p. -ERR_EXHAUSTED: no fiber is to be had; @p stays queued for the next time. */
static int push(struct audit *a, struct pending *p)
{
    list_init(&p->node);
    list_push(&a->queue, &p->node);
    if (p->ticket || a->control->stopping) /* somebody waits for it */
        event_signal(&a->wake);
    if (a->writing)
        return 0;
    int rc = control_fiber(a->control, "audit", writer, a);
    a->writing = rc == 0;
    return rc;
}

void audit_note(struct control *c, const struct audit_record *r)
{
    struct audit *a = c->audit;
    if (!a)
        return;
    if (a->notes >= AUDIT_QUEUE_MAX) {
        a->dropped++;
        a->dropped_all++;
        return;
    }
    struct pending *p = NEW(struct pending);
    p->record = *r;
    p->record.time_us = clock_real();
    p->is_note = true;
    a->notes++;
    (void)push(a, p);
}

/* ---- begin and end ---- */

int audit_begin(struct control *c, const struct audit_record *r, struct ticket **ret, struct err *err)
{
    struct audit *a = c->audit;
    struct err why = ERR_INIT;
    struct ticket *t = ticket_new(c);
    struct pending *p = NEW(struct pending);
    p->record = *r;
    p->record.time_us = clock_real();
    audit_how(&p->record, CHAIN_BEGUN, NULL);
    p->is_begin = true;
    p->ticket = ticket_ref(t);
    if (push(a, p) < 0) {
        (void)err_set(&why, ERR_UNAVAILABLE, "too much runs at the same time");
        list_remove(&p->node);
        settle(a, p, -(int)ERR_UNAVAILABLE, &why);
    }
    int rc = event_wait(&t->written, deadline_in(2 * STORE_WAIT));
    if (rc == 0 && (rc = t->rc) < 0)
        why = t->err;
    if (rc == 0) {
        *ret = t;
        return 0;
    }
    /* It may still be written: then its end says that nothing was done. */
    if (!t->rc) {
        struct audit_record end = *r;
        (void)err_set(&why, rc == -(int)ERR_CANCELLED ? ERR_CANCELLED : ERR_UNAVAILABLE, "nothing was done: %s",
                      rc == -(int)ERR_CANCELLED ? "the caller went away" : "the entry came too late");
        audit_how(&end, AUDIT_FAILED, &why);
        audit_end(c, &end, t, false);
    } else {
        (void)audit_ticket_unref(t);
    }
    (void)err_set(err, ERR_UNAVAILABLE, "the audit log cannot be written, so nothing was changed: %.300s", why.msg);
    err_hint(err, "see to the disk of the control plane (full? read only?); its log says more");
    return -(int)ERR_UNAVAILABLE;
}

void audit_end(struct control *c, const struct audit_record *r, struct ticket *begin, bool wait)
{
    struct ticket *t = wait ? ticket_new(c) : NULL;
    struct pending *p = NEW(struct pending);
    p->record = *r;
    p->record.time_us = clock_real();
    p->begin = begin;
    p->ticket = ticket_ref(t);
    (void)push(c->audit, p);
    /* Late: it is queued, and the log of the program tells why. While nothing can be written the answer does not wait for that. */
    if (t)
        (void)event_wait(&t->written, deadline_in(c->audit->failing ? USEC_SEC : STORE_WAIT));
    (void)audit_ticket_unref(t);
}

/* ---- refusals and logins ---- */

static void emit(void *ctx, const struct audit_record *r)
{
    audit_note(ctx, r);
}

static void on_tick(void *arg)
{
    struct audit *a = arg;
    refusals_tick(a->refusals, clock_mono(), false);
    if (refusals_pending(a->refusals))
        timer_set(&a->tick, TICK);
}

void audit_tick(struct control *c)
{
    if (!timer_armed(&c->audit->tick))
        timer_set(&c->audit->tick, TICK);
}

void audit_refused(struct control *c, struct audit_record *r, const char *action, const char *object, const struct err *err)
{
    if (!c->audit)
        return;
    audit_what(r, action, object);
    audit_how(r, AUDIT_REFUSED, err);
    refusals_add(c->audit->refusals, r, clock_mono());
    audit_tick(c);
}

static void forget_logins(struct audit *a)
{
    for (struct hmap_entry *e = hmap_first(a->logins), *next; e; e = next) {
        next = hmap_next(e);
        free(hmap_value(e));
        (void)hmap_remove(a->logins, hmap_key(e));
    }
}

void audit_login(struct control *c, struct conn *conn)
{
    struct audit *a = c->audit;
    struct audit_record r = {.count = 1};
    char host[ADDRESS_SIZE], key[sizeof(r.serial) + ADDRESS_SIZE + 1];
    if (!a || !conn)
        return;
    audit_who_conn(&r, conn);
    address_host(conn_peer_addr(conn), host);
    int n = snprintf(key, sizeof(key), "%s\n%s", r.serial, host);
    usec_t now = clock_mono(), *last = hmap_get(a->logins, (struct str){key, (size_t)n});
    bool fresh = !last || now - *last >= AUDIT_LOGIN_AGAIN;
    if (!last) {
        if (hmap_count(a->logins) >= AUDIT_LOGINS_MAX)
            forget_logins(a);
        last = NEW(usec_t);
        if (hmap_put(a->logins, (struct str){key, (size_t)n}, last, NULL) != 0) {
            free(last);
            return;
        }
    }
    *last = now;
    if (!fresh)
        return;
    audit_what(&r, "login", host);
    audit_how(&r, AUDIT_OK, NULL);
    audit_note(c, &r);
}

/* ---- the head outside of the table ---- */

struct head {
    char *path;
    uint64_t number;
    uint8_t hash[CHAIN_HASH_SIZE];
};

static int read_head(struct db *db, void *arg, struct err *err)
{
    struct head *h = arg;
    return audit_read_head(db, &h->number, h->hash, err);
}

static int write_head(void *arg)
{
    struct head *h = arg;
    char text[AUDIT_HEAD_SIZE];
    audit_head_format(h->number, h->hash, text);
    return fd_write_file(h->path, text, strlen(text), 0600, NULL);
}

static void keep_head(void *arg)
{
    struct audit *a = arg;
    struct control *c = a->control;
    struct head h = {.path = str_printf("%s/" AUDIT_HEAD_FILE, c->opt.state_dir)};
    int rc = store_read(c->store, read_head, &h, deadline_in(STORE_WAIT), NULL);
    if (rc == 0)
        rc = lane_call(c->fast, write_head, &h, deadline_in(STORE_WAIT));
    if (rc < 0)
        log_event(LOG_WARN, "the head of the audit log could not be kept", "path", h.path, NULL);
    free(h.path);
    a->head_running = false;
    control_fiber_end(c);
}

static void on_head(void *arg)
{
    struct audit *a = arg;
    if (!a->head_running && control_fiber(a->control, "audit head", keep_head, a) == 0)
        a->head_running = true;
    else
        timer_set(&a->head_timer, AUDIT_HEAD_EVERY);
}

void audit_touched(struct control *c)
{
    struct audit *a = c->audit;
    if (a && !timer_armed(&a->head_timer) && !c->stopping)
        timer_set(&a->head_timer, AUDIT_HEAD_EVERY);
}

int audit_file_head(const char *state_dir, uint64_t *ret_number, uint8_t ret_hash[CHAIN_HASH_SIZE])
{
    AUTO_FREE char *path = str_printf("%s/" AUDIT_HEAD_FILE, state_dir);
    AUTO_BUF text = BUF_INIT(256);
    *ret_number = 0;
    int rc = fd_read_file(path, &text, NULL);
    if (rc == -(int)ERR_NOT_FOUND)
        return 0;
    return rc < 0 ? rc : audit_head_parse(buf_str(&text), ret_number, ret_hash);
}

/* ---- start and end ---- */

static void note_start(struct control *c, const char *action, const char *outcome, const char *reason)
{
    struct audit_record r = {.count = 1};
    audit_who(&r, "davitd", NULL);
    audit_what(&r, action, DAVIT_VERSION);
    audit_how(&r, outcome, NULL);
    (void)str_copy(r.reason, sizeof(r.reason), str_from(reason));
    audit_note(c, &r);
}

/* A restore says so in the log that it put back: nobody could tell otherwise that this is not the log of before. */
static void note_restored(struct audit *a)
{
    AUTO_FREE char *path = str_printf("%s/" RESTORED_FILE, a->control->opt.state_dir);
    AUTO_BUF text = BUF_INIT(256);
    struct audit_record r = {.count = 1};
    struct head h = {.path = NULL};
    char who[32] = "davitd", at[CLOCK_TEXT_SIZE] = "-";
    uint64_t created, uid;
    if (fd_read_file(path, &text, NULL) == -(int)ERR_NOT_FOUND)
        return;
    struct str rest = buf_str(&text), line = str_cut(&rest, '\n'), first = str_cut(&line, ' ');
    if (str_to_u64(first, INT64_MAX, &created) == 0)
        clock_format(created, 0, at);
    if (str_to_u64(line, UINT32_MAX, &uid) == 0)
        (void)snprintf(who, sizeof(who), "uid:%" PRIu64, uid);
    int rc = store_read_sync(a->control->store, read_head, &h, NULL);
    audit_who(&r, who, NULL);
    audit_what(&r, "controlplane.restored", at);
    audit_how(&r, AUDIT_OK, NULL);
    (void)snprintf(r.reason, sizeof(r.reason), "the backup of this time took the place of what was here; its log ends with entry %" PRIu64,
                   rc == 0 ? h.number : 0);
    log_event(LOG_NOTICE, "this control plane was restored from a backup", "of", at, NULL);
    a->restored = true;
    audit_note(a->control, &r);
}

struct audit *audit_open(struct control *c)
{
    struct audit *a = NEW(struct audit);
    struct audit_judge j = {.file_number = 0};
    struct err err = ERR_INIT;
    a->control = c;
    list_init(&a->queue);
    event_init(&a->wake, c->loop);
    timer_init(&a->tick, c->loop, on_tick, a);
    timer_init(&a->head_timer, c->loop, on_head, a);
    a->refusals = refusals_new(emit, c);
    a->logins = hmap_new(AUDIT_LOGINS_MAX);
    c->audit = a;
    j.file_bad = audit_file_head(c->opt.state_dir, &j.file_number, j.file_hash) < 0;
    int rc = str_eq(str_from(store_engine()), STR("sqlite")) ? store_write_sync(c->store, audit_write_guard, NULL, &err) : 0;
    if (rc >= 0)
        rc = store_read_sync(c->store, audit_read_judge, &j, &err);
    if (rc < 0)
        log_err(LOG_ERROR, &err, "the audit log could not be checked", NULL);
    if (rc == 1) {
        log_event(LOG_ERROR, "the audit log is not what it was", "found", j.why, NULL);
        note_start(c, CHAIN_BROKEN, AUDIT_FAILED, j.why);
    }
    note_restored(a);
    note_start(c, CHAIN_STARTED, AUDIT_OK, "");
    return a;
}

void audit_stopping(struct control *c)
{
    if (c->audit)
        event_signal(&c->audit->wake);
}

static void close_head(struct audit *a)
{
    struct head h = {.path = str_printf("%s/" AUDIT_HEAD_FILE, a->control->opt.state_dir)};
    if (store_read_sync(a->control->store, read_head, &h, NULL) < 0 || write_head(&h) < 0)
        log_event(LOG_WARN, "the head of the audit log could not be kept", "path", h.path, NULL);
    free(h.path);
}

struct audit *audit_close(struct audit *a)
{
    if (!a)
        return NULL;
    struct batch *b = NEW(struct batch);
    struct err err = ERR_INIT;
    timer_stop(&a->tick);
    timer_stop(&a->head_timer);
    a->writing = true; /* no fiber any more */
    refusals_tick(a->refusals, clock_mono(), true);
    if (a->dropped)
        tell_dropped(a);
    while (take_batch(a, b)) {
        int rc = err_ensure(&err, store_write_sync(a->control->store, write_batch, b, &err));
        for (unsigned i = 0; i < b->n; i++)
            settle(a, b->items[i], rc, &err);
        if (rc < 0)
            log_err(LOG_ERROR, &err, "entries of the audit log are lost", NULL);
        else if (a->restored)
            (void)drop_mark(a);
        a->restored = false; /* that of a lost entry stays for the next start */
    }
    close_head(a);
    a->control->audit = NULL;
    forget_logins(a);
    a->logins = hmap_free(a->logins);
    a->refusals = refusals_free(a->refusals);
    event_release(&a->wake);
    free(b);
    free(a);
    return NULL;
}

uint64_t audit_dropped(const struct control *c)
{
    return c->audit ? c->audit->dropped_all : 0;
}
