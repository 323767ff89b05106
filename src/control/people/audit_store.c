/* SPDX-License-Identifier: Apache-2.0 */
/* audit_store — see audit.h: rows of the log, its head, and what is compared at the start. Runs inside the store. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "control/people/audit.h"

#define HEAD_KEY "audit.head"

void audit_head_format(uint64_t number, const uint8_t hash[CHAIN_HASH_SIZE], char dst[AUDIT_HEAD_SIZE])
{
    int n = snprintf(dst, AUDIT_HEAD_SIZE, "%" PRIu64 " ", number);
    str_hex(hash, CHAIN_HASH_SIZE, dst + n);
    dst[n + 2 * CHAIN_HASH_SIZE] = '\n';
    dst[n + 2 * CHAIN_HASH_SIZE + 1] = '\0';
}

int audit_head_parse(struct str text, uint64_t *ret_number, uint8_t ret_hash[CHAIN_HASH_SIZE])
{
    size_t n = 0;
    if (text.n && text.p[text.n - 1] == '\n')
        text.n--;
    struct str number = str_cut(&text, ' ');
    if (str_to_u64(number, INT64_MAX, ret_number) < 0 || text.n != 2 * (size_t)CHAIN_HASH_SIZE ||
        str_unhex(text, ret_hash, CHAIN_HASH_SIZE, &n) < 0)
        return -(int)ERR_DATA_LOSS;
    return 0;
}

int audit_read_head(struct db *db, uint64_t *ret_number, uint8_t ret_hash[CHAIN_HASH_SIZE], struct err *err)
{
    AUTO_ROWS rows = NULL;
    *ret_number = 0;
    memset(ret_hash, 0, CHAIN_HASH_SIZE);
    int rc = db_query(db, &rows, err, "SELECT value FROM settings WHERE key = ?", "t", HEAD_KEY);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc <= 0)
        return rc;
    if (audit_head_parse(row_text(rows, 0), ret_number, ret_hash) < 0)
        return err_set(err, ERR_DATA_LOSS, "the head of the audit log in settings is no head");
    return 0;
}

/* The row with the highest number. */
static int read_last(struct db *db, uint64_t *ret_number, uint8_t ret_hash[CHAIN_HASH_SIZE], struct err *err)
{
    AUTO_ROWS rows = NULL;
    *ret_number = 0;
    memset(ret_hash, 0, CHAIN_HASH_SIZE);
    int rc = db_query(db, &rows, err, "SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1", "");
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc <= 0)
        return rc;
    *ret_number = (uint64_t)row_i64(rows, 0);
    if (row_blob(rows, 1).n == CHAIN_HASH_SIZE)
        memcpy(ret_hash, row_blob(rows, 1).p, CHAIN_HASH_SIZE);
    return 0;
}

static struct chain_entry entry_of(const struct audit_record *r)
{
    struct chain_entry e = {.number = r->number,
                            .time_us = r->time_us,
                            .actor = str_from(r->actor),
                            .serial = str_from(r->serial),
                            .action = str_from(r->action),
                            .object = str_from(r->object),
                            .outcome = str_from(r->outcome),
                            .code = str_from(r->code),
                            .reason = str_from(r->reason),
                            .request = str_from(r->request),
                            .count = r->count,
                            .begun = r->begun};
    return e;
}

int audit_append(struct db *db, struct audit_record *r, struct err *err)
{
    uint8_t previous[CHAIN_HASH_SIZE];
    char head[AUDIT_HEAD_SIZE];
    int rc = read_last(db, &r->number, previous, err);
    if (rc < 0)
        return rc;
    r->number++;
    r->count = r->count ? r->count : 1;
    r->time_us = r->time_us ? r->time_us : clock_real();
    struct chain_entry e = entry_of(r);
    chain_hash(previous, &e, r->hash);
    rc = db_exec(db, err,
                 "INSERT INTO audit (number, time_us, actor, serial, action, object, outcome, code, reason, request, count, begun, hash)"
                 " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                 "iittttttttiib", (int64_t)r->number, (int64_t)r->time_us, r->actor, r->serial, r->action, r->object, r->outcome, r->code,
                 r->reason, r->request, (int64_t)r->count, (int64_t)r->begun, (struct str){(const char *)r->hash, CHAIN_HASH_SIZE});
    if (rc < 0)
        return rc;
    audit_head_format(r->number, r->hash, head);
    return db_exec(db, err, "INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", "tt",
                   HEAD_KEY, head);
}

static struct chain_entry entry_at(const struct rows *rows)
{
    struct chain_entry e = {.number = (uint64_t)row_i64(rows, 0),
                            .time_us = (uint64_t)row_i64(rows, 1),
                            .actor = row_text(rows, 2),
                            .serial = row_text(rows, 3),
                            .action = row_text(rows, 4),
                            .object = row_text(rows, 5),
                            .outcome = row_text(rows, 6),
                            .code = row_text(rows, 7),
                            .reason = row_text(rows, 8),
                            .request = row_text(rows, 9),
                            .count = (uint64_t)row_i64(rows, 10),
                            .begun = (uint64_t)row_i64(rows, 11)};
    if (row_blob(rows, 12).n == CHAIN_HASH_SIZE)
        memcpy(e.hash, row_blob(rows, 12).p, CHAIN_HASH_SIZE);
    return e;
}

/* The last two rows, oldest of them first, into @k as if those before had been read. */
static int judge_rows(struct db *db, struct chain_check *k, struct err *err)
{
    AUTO_ROWS rows = NULL;
    uint64_t last;
    uint8_t hash[CHAIN_HASH_SIZE];
    int rc = read_last(db, &last, hash, err);
    if (rc < 0)
        return rc;
    rc = db_query(db, &rows, err,
                  "SELECT number, time_us, actor, serial, action, object, outcome, code, reason, request, count, begun, hash FROM audit"
                  " WHERE number > ? ORDER BY number",
                  "i", (int64_t)(last > 2 ? last - 2 : 0));
    bool first = last > 2;
    while (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        struct chain_entry e = entry_at(rows);
        if (first) { /* what is before it was compared when it was written */
            k->last = e.number;
            memcpy(k->hash, e.hash, sizeof(k->hash));
        } else if (!str_eq(e.action, STR(CHAIN_BROKEN))) {
            (void)chain_check_next(k, &e);
        } else {
            k->last = e.number;
            memcpy(k->hash, e.hash, sizeof(k->hash));
        }
        first = false;
        rc = 0;
    }
    return rc;
}

/* The row that the file remembers, if it is there. */
static int judge_file(struct db *db, struct audit_judge *j, struct chain_check *k, struct err *err)
{
    AUTO_ROWS rows = NULL;
    struct chain_check at = {.last = j->file_number};
    if (!j->file_number || j->file_number > k->last) {
        (void)chain_check_head(k, j->file_number, j->file_hash, false, "the file audit.head");
        return 0;
    }
    int rc = db_query(db, &rows, err, "SELECT hash FROM audit WHERE number = ?", "i", (int64_t)j->file_number);
    if (rc == 0)
        rc = rows_next(rows, err);
    if (rc < 0)
        return rc;
    if (rc == 1 && row_blob(rows, 0).n == CHAIN_HASH_SIZE)
        memcpy(at.hash, row_blob(rows, 0).p, CHAIN_HASH_SIZE);
    if (!chain_check_head(&at, j->file_number, j->file_hash, false, "the file audit.head") && !k->bad) {
        k->bad = at.bad;
        memcpy(k->why, at.why, sizeof(k->why));
    }
    return 0;
}

int audit_read_judge(struct db *db, void *arg, struct err *err)
{
    struct audit_judge *j = arg;
    struct chain_check k;
    uint64_t number = 0;
    uint8_t hash[CHAIN_HASH_SIZE] = {0};
    chain_check_init(&k);
    int rc = judge_rows(db, &k, err);
    if (rc == 0)
        rc = audit_read_head(db, &number, hash, err);
    /* The next entry writes a good one over it: what it was must be in the log before. */
    if (rc == -(int)ERR_DATA_LOSS) {
        (void)snprintf(j->why, sizeof(j->why), "%s", k.bad ? k.why : "the head of the log in the settings is damaged");
        return 1;
    }
    if (rc < 0)
        return rc;
    (void)chain_check_head(&k, number, hash, true, "the settings");
    if (j->file_bad && !k.bad) {
        (void)snprintf(j->why, sizeof(j->why), "the file audit.head is damaged");
        return 1;
    }
    rc = judge_file(db, j, &k, err);
    if (rc < 0 || !k.bad)
        return rc;
    memcpy(j->why, k.why, sizeof(j->why));
    return 1;
}

int audit_write_guard(struct db *db, void *arg, struct err *err)
{
    (void)arg;
    int rc = db_exec(db, err,
                     "CREATE TRIGGER IF NOT EXISTS audit_no_update BEFORE UPDATE ON audit"
                     " BEGIN SELECT RAISE(ABORT, 'the audit log is only appended to'); END",
                     "");
    return rc < 0 ? rc
                  : db_exec(db, err,
                            "CREATE TRIGGER IF NOT EXISTS audit_no_delete BEFORE DELETE ON audit"
                            " BEGIN SELECT RAISE(ABORT, 'the audit log is only appended to'); END",
                            "");
}
