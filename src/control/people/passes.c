/* SPDX-License-Identifier: Apache-2.0 */
/* passes — see passes.h. */
#include "control/people/passes.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/hmap.h"
#include "base/mem.h"
#include "control/backup.h"
#include "ident/token.h"

/* Rows of tokens that open nothing are shown for so long. */
#define DEAD_TOKENS_KEPT (30 * USEC_DAY)

struct passes {
    struct control *control;
    struct list all;
    struct hmap *by_key; /* hash of a session, id of a token */
    unsigned n[2];
    struct timer timer;
    bool writing;
};

static const char *const scopes[] = {"none", "read", "write", "admin"};

const char *scope_name(enum pass_scope scope)
{
    return scopes[scope];
}

enum pass_scope scope_of(const char *name)
{
    for (size_t i = SCOPE_READ; i < ARRAY_LEN(scopes); i++)
        if (str_eq(str_from(name), str_from(scopes[i])))
            return (enum pass_scope)i;
    return SCOPE_NONE;
}

/* --- Secrets --- */

void pass_secret(char hex[PASS_SECRET_TEXT + 1], uint8_t hash[PASS_HASH_SIZE])
{
    uint8_t bytes[PASS_SECRET_SIZE];
    rng_bytes(bytes, sizeof(bytes));
    str_hex(bytes, sizeof(bytes), hex);
    explicit_bzero(bytes, sizeof(bytes));
    token_secret_hash((struct str){hex, PASS_SECRET_TEXT}, hash);
}

static bool is_of_local(char first)
{
    return first < '8';
}

void session_secret(bool local, char hex[PASS_SECRET_TEXT + 1], uint8_t hash[PASS_HASH_SIZE])
{
    do
        pass_secret(hex, hash);
    while (is_of_local(hex[0]) != local);
}

static bool is_hex(struct str s, size_t n)
{
    for (size_t i = 0; s.n == n && i < n; i++)
        if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f')))
            return false;
    return s.n == n;
}

bool api_token_parse(struct str text, char id[API_TOKEN_ID_LEN + 1], uint8_t hash[PASS_HASH_SIZE])
{
    struct str rest = text, first = str_cut(&rest, '_'), second = str_cut(&rest, '_');
    if (!str_eq(first, STR("davit")) || !is_hex(second, API_TOKEN_ID_LEN) || !is_hex(rest, PASS_SECRET_TEXT))
        return false;
    (void)str_copy(id, API_TOKEN_ID_LEN + 1, second);
    token_secret_hash(rest, hash);
    return true;
}

/* --- The table --- */

static struct str key_of(const struct pass *pass)
{
    return pass->kind == PASS_SESSION ? (struct str){(const char *)pass->hash, sizeof(pass->hash)} : str_from(pass->id);
}

struct pass *pass_new(enum pass_kind kind)
{
    struct pass *pass = NEW(struct pass);
    pass->kind = kind;
    list_init(&pass->node);
    list_init(&pass->callers);
    return pass;
}

void pass_free(struct pass *pass)
{
    if (pass)
        explicit_bzero(pass->hash, sizeof(pass->hash));
    free(pass);
}

static usec_t end_of(const struct pass *pass)
{
    usec_t idle = clock_add(pass->used ? pass->used : pass->created, SESSION_IDLE);
    return pass->kind == PASS_SESSION && idle < pass->expires ? idle : pass->expires;
}

/* The timer stands at the next end, or at the next time to write. */
static void arm(struct passes *p)
{
    usec_t now = clock_real(), next = USEC_INFINITY;
    struct pass *pass;
    list_each(pass, &p->all, struct pass, node) {
        usec_t end = end_of(pass);
        if (pass->dirty || !list_empty(&pass->callers))
            end = end < now + PASSES_TOUCH_EVERY ? end : now + PASSES_TOUCH_EVERY;
        next = end < next ? end : next;
    }
    if (next == USEC_INFINITY) {
        timer_stop(&p->timer);
        return;
    }
    usec_t wait = next > now ? next - now : 0;
    wait = wait > USEC_HOUR ? USEC_HOUR : wait;
    if (!timer_armed(&p->timer) || p->timer.due > clock_mono() + wait)
        timer_set(&p->timer, wait);
}

void passes_add(struct passes *p, struct pass *pass)
{
    BUG_ON(hmap_put(p->by_key, key_of(pass), pass, NULL) != 0);
    list_push(&p->all, &pass->node);
    p->n[pass->kind]++;
    arm(p);
}

void passes_end(struct passes *p, struct pass *pass, const char *why, struct rpc_call *except)
{
    struct err err = ERR_INIT;
    struct list *node;
    (void)err_set(&err, ERR_UNAUTHENTICATED, "%s", why);
    (void)hmap_remove(p->by_key, key_of(pass));
    list_remove(&pass->node);
    p->n[pass->kind]--;
    while ((node = list_pop(&pass->callers)) != NULL) {
        struct caller *k = list_entry(node, struct caller, node);
        k->pass = NULL;
        if (k->call != except)
            rpc_stream_finish(k->call, &err);
    }
    pass_free(pass);
}

unsigned passes_end_sessions(struct passes *p, const struct pass *keep, const char *why, struct rpc_call *except)
{
    unsigned n = 0;
    struct pass *pass = passes_next(p, PASS_SESSION, NULL);
    while (pass) {
        struct pass *next = passes_next(p, PASS_SESSION, pass);
        if (pass != keep) {
            passes_end(p, pass, why, except);
            n++;
        }
        pass = next;
    }
    return n;
}

unsigned passes_count(const struct passes *p, enum pass_kind kind)
{
    return p->n[kind];
}

struct pass *passes_next(const struct passes *p, enum pass_kind kind, const struct pass *after)
{
    const struct list *node = after ? after->node.next : p->all.next;
    for (; node != &p->all; node = node->next) {
        struct pass *pass = list_entry(node, struct pass, node);
        if (pass->kind == kind)
            return pass;
    }
    return NULL;
}

struct pass *passes_stalest(const struct passes *p)
{
    struct pass *found = NULL;
    for (struct pass *s = passes_next(p, PASS_SESSION, NULL); s; s = passes_next(p, PASS_SESSION, s))
        if (!found || s->used < found->used)
            found = s;
    return found;
}

static struct pass *if_good(struct pass *pass)
{
    return pass && end_of(pass) > clock_real() ? pass : NULL;
}

struct pass *passes_session(struct passes *p, struct str secret, bool local)
{
    uint8_t hash[PASS_HASH_SIZE];
    if (!is_hex(secret, PASS_SECRET_TEXT) || is_of_local(*secret.p) != local)
        return NULL;
    token_secret_hash(secret, hash);
    struct pass *pass = hmap_get(p->by_key, (struct str){(const char *)hash, sizeof(hash)});
    return if_good(pass && pass->kind == PASS_SESSION ? pass : NULL);
}

struct pass *passes_token(struct passes *p, struct str text)
{
    char id[API_TOKEN_ID_LEN + 1];
    uint8_t hash[PASS_HASH_SIZE];
    if (!api_token_parse(text, id, hash))
        return NULL;
    struct pass *pass = hmap_get(p->by_key, str_from(id));
    if (!pass || pass->kind != PASS_API_TOKEN)
        return NULL;
    bool same = str_eq_secret((struct str){(const char *)hash, sizeof(hash)}, (struct str){(const char *)pass->hash, sizeof(pass->hash)});
    return same ? if_good(pass) : NULL;
}

usec_t passes_good_until(const struct pass *pass)
{
    return end_of(pass);
}

struct pass *passes_find(const struct passes *p, enum pass_kind kind, const char *name)
{
    struct str wanted = str_from(name);
    for (struct pass *pass = passes_next(p, kind, NULL); pass; pass = passes_next(p, kind, pass))
        if (str_eq(wanted, str_from(pass->id)) || (kind == PASS_API_TOKEN && str_eq(wanted, str_from(pass->name))))
            return pass;
    return NULL;
}

/* --- Calls --- */

static void caller_free(void *arg)
{
    struct caller *k = arg;
    list_remove(&k->node);
    free(k);
}

static void touch(struct passes *p, struct pass *pass, struct conn *conn)
{
    usec_t now = clock_real();
    char from[ADDRESS_SIZE];
    if (conn)
        address_host(conn_peer_addr(conn), from);
    else
        (void)str_copy(from, sizeof(from), str_from(pass->from));
    if (pass->used / PASSES_TOUCH_EVERY == now / PASSES_TOUCH_EVERY && strcmp(from, pass->from) == 0)
        return;
    pass->used = now > pass->used ? now : pass->used;
    (void)str_copy(pass->from, sizeof(pass->from), str_from(from));
    pass->dirty = true;
    arm(p);
}

struct caller *passes_bind(struct passes *p, struct pass *pass, struct rpc_call *call, bool local)
{
    struct caller *k = NEW(struct caller);
    list_init(&k->node);
    k->call = call;
    k->local = local;
    k->pass = pass;
    k->scope = pass ? pass->scope : SCOPE_NONE;
    if (pass) {
        (void)snprintf(k->actor, sizeof(k->actor), "%s:%s", pass->kind == PASS_SESSION ? "person" : "token", pass->name);
        (void)str_copy(k->serial, sizeof(k->serial), str_from(pass->id));
        list_push(&pass->callers, &k->node);
        touch(p, pass, rpc_call_conn(call));
        arm(p);
    }
    rpc_call_set_caller(call, k, caller_free);
    return k;
}

struct caller *caller_of(const struct rpc_call *call)
{
    return rpc_call_caller(call);
}

const char *caller_name(const struct rpc_call *call)
{
    const struct caller *k = caller_of(call);
    return k && *k->actor ? k->actor : "cli";
}

/* --- Time goes on --- */

struct touched {
    enum pass_kind kind;
    char id[PASS_ID_SIZE], from[ADDRESS_SIZE];
    usec_t used;
};
struct writing {
    struct touched *v;
    size_t n;
    usec_t now;
};

static int write_used(struct db *db, void *arg, struct err *err)
{
    const struct writing *w = arg;
    int64_t now = (int64_t)w->now, idle = (int64_t)(w->now - SESSION_IDLE), dead = (int64_t)(w->now - DEAD_TOKENS_KEPT);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < w->n; i++) {
        const struct touched *t = &w->v[i];
        const char *sql = t->kind == PASS_SESSION ? "UPDATE sessions SET used_us = ?, address = ? WHERE id = ?"
                                                  : "UPDATE api_tokens SET used_us = ?, used_from = ? WHERE id = ?";
        rc = db_exec(db, err, sql, "itt", (int64_t)t->used, t->from, t->id);
    }
    if (rc == 0)
        rc = db_exec(db, err, "DELETE FROM sessions WHERE expires_us < ? OR used_us < ?", "ii", now, idle);
    if (rc == 0)
        rc = db_exec(db, err, "DELETE FROM api_tokens WHERE expires_us < ? OR (revoked_us > 0 AND revoked_us < ?)", "ii", dead, dead);
    return rc;
}

static void collect(struct passes *p, struct writing *w)
{
    const size_t max = (size_t)SESSIONS_MAX + API_TOKENS_MAX;
    struct pass *pass;
    *w = (struct writing){.v = mem_zalloc(max, sizeof(*w->v)), .now = clock_real()};
    list_each(pass, &p->all, struct pass, node) {
        if (!pass->dirty || w->n == max)
            continue;
        struct touched *t = &w->v[w->n++];
        *t = (struct touched){.kind = pass->kind, .used = pass->used};
        (void)str_copy(t->id, sizeof(t->id), str_from(pass->id));
        (void)str_copy(t->from, sizeof(t->from), str_from(pass->from));
        pass->dirty = false;
    }
}

static void tell_lost(const struct err *err)
{
    log_err(LOG_WARN, err, "when sessions and tokens were used could not be written", NULL);
}

static void write_fiber(void *arg)
{
    struct passes *p = arg;
    struct control *c = p->control;
    struct writing w;
    struct err err = ERR_INIT;
    collect(p, &w);
    if (store_write(c->store, write_used, &w, deadline_in(STORE_WAIT), &err) < 0)
        tell_lost(&err);
    free(w.v);
    p->writing = false;
    control_fiber_end(c);
}

void passes_save(struct passes *p)
{
    struct writing w;
    struct err err = ERR_INIT;
    if (!p)
        return;
    timer_stop(&p->timer);
    collect(p, &w);
    if (w.n && store_write_sync(p->control->store, write_used, &w, &err) < 0)
        tell_lost(&err);
    free(w.v);
}

static void on_time(void *arg)
{
    struct passes *p = arg;
    usec_t now = clock_real();
    bool write = false;
    struct list *node, *next;
    for (node = p->all.next; node != &p->all; node = next) {
        struct pass *pass = list_entry(node, struct pass, node);
        next = node->next;
        /* A stream that is open is use. */
        struct caller *k;
        if (end_of(pass) > now)
            list_each(k, &pass->callers, struct caller, node)
                touch(p, pass, rpc_call_conn(k->call));
        write = write || pass->dirty;
        if (end_of(pass) > now)
            continue;
        write = true;
        passes_end(p, pass, pass->kind == PASS_SESSION ? "the session has expired" : "the API token has expired", NULL);
    }
    if (write && !p->writing && !p->control->stopping && control_fiber(p->control, "passes", write_fiber, p) == 0)
        p->writing = true;
    arm(p);
}

/* --- Start and end --- */

static void take_text(char *dst, size_t size, const struct rows *rows, int column)
{
    (void)str_copy(dst, size, row_text(rows, column));
}

static bool take_hash(struct pass *pass, const struct rows *rows, int column)
{
    struct str hash = row_blob(rows, column);
    if (hash.n == sizeof(pass->hash))
        memcpy(pass->hash, hash.p, sizeof(pass->hash));
    return hash.n == sizeof(pass->hash);
}

static int load_sessions(struct db *db, struct passes *p, struct err *err)
{
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err,
                      "SELECT s.id, s.hash, s.person_id, p.name, s.address, s.user_agent, s.created_us, s.used_us, s.expires_us"
                      " FROM sessions s JOIN people p ON p.id = s.person_id ORDER BY s.created_us, s.id",
                      "");
    while (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        struct pass *pass = pass_new(PASS_SESSION);
        pass->scope = SCOPE_ADMIN;
        take_text(pass->id, sizeof(pass->id), rows, 0);
        take_text(pass->person, sizeof(pass->person), rows, 2);
        take_text(pass->name, sizeof(pass->name), rows, 3);
        take_text(pass->from, sizeof(pass->from), rows, 4);
        take_text(pass->agent, sizeof(pass->agent), rows, 5);
        pass->created = (usec_t)row_i64(rows, 6);
        pass->used = (usec_t)row_i64(rows, 7);
        pass->expires = (usec_t)row_i64(rows, 8);
        if (take_hash(pass, rows, 1) && end_of(pass) > clock_real() && p->n[PASS_SESSION] < SESSIONS_MAX)
            passes_add(p, pass);
        else
            pass_free(pass);
        rc = 0;
    }
    return rc;
}

static int load_tokens(struct db *db, struct passes *p, struct err *err)
{
    AUTO_ROWS rows = NULL;
    int rc = db_query(db, &rows, err,
                      "SELECT id, hash, name, scope, created_by, used_from, created_us, used_us, expires_us FROM api_tokens"
                      " WHERE revoked_us = 0 ORDER BY created_us, id",
                      "");
    while (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        AUTO_FREE char *scope = str_dup(row_text(rows, 3));
        struct pass *pass = pass_new(PASS_API_TOKEN);
        pass->scope = scope_of(scope);
        take_text(pass->id, sizeof(pass->id), rows, 0);
        take_text(pass->name, sizeof(pass->name), rows, 2);
        take_text(pass->maker, sizeof(pass->maker), rows, 4);
        take_text(pass->from, sizeof(pass->from), rows, 5);
        pass->created = (usec_t)row_i64(rows, 6);
        pass->used = (usec_t)row_i64(rows, 7);
        pass->expires = (usec_t)row_i64(rows, 8);
        if (take_hash(pass, rows, 1) && end_of(pass) > clock_real() && p->n[PASS_API_TOKEN] < API_TOKENS_MAX)
            passes_add(p, pass);
        else
            pass_free(pass);
        rc = 0;
    }
    return rc;
}

static int load_all(struct db *db, void *arg, struct err *err)
{
    int rc = load_sessions(db, arg, err);
    return rc < 0 ? rc : load_tokens(db, arg, err);
}

/* A backup may hold what was ended after it was made. */
static int forget_sessions(struct db *db, void *arg, struct err *err)
{
    (void)arg;
    int rc = db_exec(db, err, "DELETE FROM sessions", "");
    return rc < 0 ? rc : db_exec(db, err, "DELETE FROM setup_links", "");
}

int passes_load(struct passes *p, struct err *err)
{
    AUTO_FREE char *restored = str_printf("%s/" RESTORED_FILE, p->control->opt.state_dir);
    int rc = access(restored, F_OK) == 0 ? store_write_sync(p->control->store, forget_sessions, NULL, err) : 0;
    return rc < 0 ? rc : store_read_sync(p->control->store, load_all, p, err);
}

struct passes *passes_new(struct control *c)
{
    struct passes *p = NEW(struct passes);
    p->control = c;
    list_init(&p->all);
    p->by_key = hmap_new((size_t)SESSIONS_MAX + API_TOKENS_MAX + 1);
    timer_init(&p->timer, c->loop, on_time, p);
    return p;
}

struct passes *passes_free(struct passes *p)
{
    struct list *node;
    if (!p)
        return NULL;
    timer_stop(&p->timer);
    while ((node = list_pop(&p->all)) != NULL) {
        struct pass *pass = list_entry(node, struct pass, node);
        while ((node = list_pop(&pass->callers)) != NULL)
            list_entry(node, struct caller, node)->pass = NULL;
        pass_free(pass);
    }
    (void)hmap_free(p->by_key);
    free(p);
    return NULL;
}
