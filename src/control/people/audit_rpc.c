/* SPDX-License-Identifier: Apache-2.0 */
/* audit_rpc — AuditService: what the log holds, whether it is whole, and all of it. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "control/people/audit_internal.h"
#include "davit/control/v1/audit.pb-c.h"

enum { LIST_DEFAULT = 50, LIST_MAX = 1000, PAGE = 500, FILTER_MAX = 256 };

typedef Davit__Control__V1__AuditEntry entry_message;

#define COLUMNS "number, time_us, actor, serial, action, object, outcome, code, reason, request, count, begun, hash"

struct page {
    const Davit__Control__V1__ListAuditRequest *filter; /* NULL: all from `after` on, oldest first */
    const char *actor, *action, *object;                /* patterns for LIKE */
    int64_t after, limit;
    entry_message *entries[LIST_MAX + 1]; /* owned */
    size_t n;
};

static entry_message *entry_from(const struct rows *rows)
{
    entry_message *m = NEW(entry_message);
    davit__control__v1__audit_entry__init(m);
    char **const texts[] = {&m->actor, &m->serial, &m->action, &m->object, &m->outcome, &m->code, &m->reason, &m->request_id};
    m->number = (uint64_t)row_i64(rows, 0);
    m->time_us = (uint64_t)row_i64(rows, 1);
    for (int i = 0; i < (int)ARRAY_LEN(texts); i++)
        *texts[i] = str_dup(row_text(rows, 2 + i));
    m->count = (uint64_t)row_i64(rows, 10);
    m->begun = (uint64_t)row_i64(rows, 11);
    struct str hash = row_blob(rows, 12);
    m->hash.len = hash.n;
    m->hash.data = hash.n ? memcpy(mem_zalloc(hash.n, 1), hash.p, hash.n) : NULL;
    return m;
}

static void page_clear(struct page *p)
{
    for (size_t i = 0; i < p->n; i++)
        (void)rpc_message_free(p->entries[i]);
    p->n = 0;
}

static int read_page(struct db *db, void *arg, struct err *err)
{
    struct page *p = arg;
    const Davit__Control__V1__ListAuditRequest *f = p->filter;
    AUTO_ROWS rows = NULL;
    int rc;
    page_clear(p); /* a unit of work may run twice */
    if (f)
        rc = db_query(db, &rows, err,
                      "SELECT " COLUMNS " FROM audit WHERE number < ? AND time_us >= ? AND actor LIKE ? ESCAPE '!' AND action LIKE ? ESCAPE '!'"
                      " AND object LIKE ? ESCAPE '!' AND (outcome = ? OR ? = '') ORDER BY number DESC LIMIT ?",
                      "iittttti", p->after, (int64_t)f->since_us, p->actor, p->action, p->object, text(f->outcome), text(f->outcome),
                      p->limit);
    else
        rc = db_query(db, &rows, err, "SELECT " COLUMNS " FROM audit WHERE number > ? ORDER BY number LIMIT ?", "ii", p->after, p->limit);
    while (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        p->entries[p->n++] = entry_from(rows);
        rc = 0;
    }
    return rc;
}

/* "shop*" -> "shop%", all else of it literal; empty: everything. The caller frees. */
static int pattern(const char *field, const char *given, char **ret, struct err *err)
{
    AUTO_BUF out = BUF_INIT(2 * FILTER_MAX + 2);
    struct str s = str_from(given);
    bool open = s.n == 0 || s.p[s.n - 1] == '*';
    if (s.n > FILTER_MAX)
        return err_set(err, ERR_INVALID, "%s: longer than %d bytes", field, FILTER_MAX);
    if (s.n && open)
        s.n--;
    for (size_t i = 0; i < s.n; i++)
        if ((strchr("%_!", s.p[i]) && buf_append_cstr(&out, "!") < 0) || buf_append_str(&out, (struct str){s.p + i, 1}) < 0)
            return err_set(err, ERR_INVALID, "%s: too long", field);
    if (open && buf_append_cstr(&out, "%") < 0)
        return err_set(err, ERR_INVALID, "%s: too long", field);
    *ret = str_dup(buf_str(&out));
    return 0;
}

static int check_outcome(const char *outcome, struct err *err)
{
    static const char *const known[] = {"", AUDIT_OK, AUDIT_REFUSED, AUDIT_FAILED, CHAIN_BEGUN};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (str_eq(str_from(outcome), str_from(known[i])))
            return 0;
    return err_set(err, ERR_INVALID, "outcome: \"%.20s\" is none; ok, refused, failed or begun", outcome);
}

static int list_audit(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__ListAuditRequest *r = (const void *)request;
    Davit__Control__V1__ListAuditResponse m = DAVIT__CONTROL__V1__LIST_AUDIT_RESPONSE__INIT;
    AUTO_FREE char *actor = NULL;
    AUTO_FREE char *action = NULL;
    AUTO_FREE char *object = NULL;
    int64_t limit = r->limit ? r->limit : LIST_DEFAULT;
    if (limit > LIST_MAX)
        return err_set(err, ERR_INVALID, "limit: %u is more than %d", r->limit, LIST_MAX);
    int rc = check_outcome(text(r->outcome), err);
    if (rc < 0 || (rc = pattern("actor", r->actor, &actor, err)) < 0 || (rc = pattern("action", r->action, &action, err)) < 0 ||
        (rc = pattern("object", r->object, &object, err)) < 0)
        return rc;
    if (r->since_us > INT64_MAX || r->before > INT64_MAX)
        return err_set(err, ERR_INVALID, "since_us, before: too large");
    struct page *p = NEW(struct page); /* not on the stack of a fiber */
    p->filter = r;
    p->actor = actor;
    p->action = action;
    p->object = object;
    p->after = r->before ? (int64_t)r->before : INT64_MAX;
    p->limit = limit + 1;
    rc = store_read(c->store, read_page, p, deadline_in(STORE_WAIT), err);
    if (rc == 0) {
        bool more = p->n > (size_t)limit;
        m.entries = p->entries;
        m.n_entries = more ? (size_t)limit : p->n;
        m.next_before = more ? p->entries[limit - 1]->number : 0;
        rc = rpc_send(call, &m.base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
    }
    page_clear(p);
    free(p);
    return rc;
}

/* ---- the whole ---- */

static struct chain_entry entry_of(const entry_message *m)
{
    struct chain_entry e = {.number = m->number,
                            .time_us = m->time_us,
                            .actor = str_from(m->actor),
                            .serial = str_from(m->serial),
                            .action = str_from(m->action),
                            .object = str_from(m->object),
                            .outcome = str_from(m->outcome),
                            .code = str_from(m->code),
                            .reason = str_from(m->reason),
                            .request = str_from(m->request_id),
                            .count = m->count,
                            .begun = m->begun};
    if (m->hash.len == CHAIN_HASH_SIZE)
        memcpy(e.hash, m->hash.data, CHAIN_HASH_SIZE);
    return e;
}

struct heads {
    const char *dir;
    uint64_t number, file_number;
    uint8_t hash[CHAIN_HASH_SIZE], file_hash[CHAIN_HASH_SIZE];
};

static int read_settings_head(struct db *db, void *arg, struct err *err)
{
    struct heads *h = arg;
    return audit_read_head(db, &h->number, h->hash, err);
}

static int read_file_head(void *arg)
{
    struct heads *h = arg;
    return audit_file_head(h->dir, &h->file_number, h->file_hash);
}

/* Entry by entry; the heads are compared where they point to. */
static bool judge_page(struct chain_check *k, const struct page *p, const struct heads *h)
{
    for (size_t i = 0; i < p->n; i++) {
        struct chain_entry e = entry_of(p->entries[i]);
        if (!chain_check_next(k, &e))
            return false;
        if (k->last == h->file_number && !chain_check_head(k, h->file_number, h->file_hash, false, "the file audit.head"))
            return false;
        if (k->last == h->number && !chain_check_head(k, h->number, h->hash, true, "the settings"))
            return false;
    }
    return true;
}

/* @h was read before the first page: what is appended meanwhile is behind both heads. */
static int walk(struct control *c, struct chain_check *k, struct page *p, const struct heads *h, struct err *err)
{
    do {
        p->after = (int64_t)k->last;
        int rc = store_read(c->store, read_page, p, deadline_in(STORE_WAIT), err);
        if (rc < 0)
            return rc;
    } while (judge_page(k, p, h) && p->n == (size_t)p->limit);
    (void)chain_check_head(k, h->number, h->hash, false, "the settings");
    (void)chain_check_head(k, h->file_number, h->file_hash, false, "the file audit.head");
    return 0;
}

static int verify(struct control *c, struct chain_check *k, struct err *err)
{
    struct heads h = {.dir = c->opt.state_dir};
    int rc = store_read(c->store, read_settings_head, &h, deadline_in(STORE_WAIT), err);
    if (rc == 0)
        rc = err_ensure(err, lane_call(c->fast, read_file_head, &h, deadline_in(STORE_WAIT)));
    if (rc == -(int)ERR_DATA_LOSS) { /* one of the heads is no head */
        k->bad = 1;
        (void)snprintf(k->why, sizeof(k->why), "the head of the log, in the settings or in the file audit.head, is damaged");
        return 0;
    }
    if (rc < 0)
        return rc;
    struct page *p = NEW(struct page);
    p->limit = PAGE;
    rc = walk(c, k, p, &h, err);
    page_clear(p);
    free(p);
    return rc;
}

static int verify_audit(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    Davit__Control__V1__VerifyAuditResponse m = DAVIT__CONTROL__V1__VERIFY_AUDIT_RESPONSE__INIT;
    struct chain_check *k = NEW(struct chain_check);
    (void)request;
    chain_check_init(k);
    int rc = verify(ctx, k, err);
    m.ok = k->bad == 0;
    m.entries = k->entries;
    m.first_bad = k->bad;
    m.why = k->why;
    m.interrupted = k->interrupted;
    m.first_interrupted = k->first_interrupted;
    m.head = (ProtobufCBinaryData){CHAIN_HASH_SIZE, k->hash};
    if (rc == 0 && rpc_send(call, &m.base) != 0)
        rc = err_set(err, ERR_CANCELLED, "the caller went away");
    free(k);
    return rc;
}

/* Going on behind an entry that is not there would make one file of two logs: a restored one ends where its backup did. */
static int must_have(struct control *c, struct page *p, uint64_t number, struct err *err)
{
    p->after = (int64_t)number - 1;
    p->limit = 1;
    int rc = store_read(c->store, read_page, p, deadline_in(STORE_WAIT), err);
    if (rc < 0 || (p->n && p->entries[0]->number == number))
        return rc;
    (void)err_set(err, ERR_PRECONDITION, "this log has no entry %llu: it is not the one that was exported, or was restored from an older backup",
                  (unsigned long long)number);
    err_hint(err, "keep that export as it is and make a new one from the beginning");
    return -(int)ERR_PRECONDITION;
}

static int export_audit(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__ExportAuditRequest *r = (const void *)request;
    int rc = 0;
    if (r->after > INT64_MAX)
        return err_set(err, ERR_INVALID, "after: too large");
    struct page *p = NEW(struct page);
    if (r->after)
        rc = must_have(c, p, r->after, err);
    p->after = (int64_t)r->after;
    p->limit = PAGE;
    while (rc == 0) {
        Davit__Control__V1__ExportAuditResponse m = DAVIT__CONTROL__V1__EXPORT_AUDIT_RESPONSE__INIT;
        rc = store_read(c->store, read_page, p, deadline_in(STORE_WAIT), err);
        if (rc < 0 || p->n == 0)
            break;
        p->after = (int64_t)p->entries[p->n - 1]->number;
        m.entries = p->entries;
        m.n_entries = p->n;
        if (rpc_send(call, &m.base) != 0)
            rc = err_set(err, ERR_CANCELLED, "the caller went away");
        if (p->n < (size_t)p->limit)
            break;
    }
    page_clear(p);
    free(p);
    return rc;
}

CONTROL_HANDLER(list_audit)
CONTROL_HANDLER(verify_audit)
CONTROL_HANDLER(export_audit)

const struct rpc_handler audit_handlers[] = {
    {.run = list_audit_tracked},
    {.run = verify_audit_tracked},
    {.run = export_audit_tracked},
};
