/* SPDX-License-Identifier: Apache-2.0 */
/* variables — see variables.h: the store, the merge into a spec, and how often secrets may be looked at. */
#include "control/work/variables.h"

#include <string.h>

#include "base/hmap.h"
#include "base/mem.h"
#include "control/bucket.h"
#include "control/sealed.h"
#include "ident/digest.h"
#include "ident/seal.h"

enum { ENV_WIRE_MAX = SPEC_ENV_VALUE_MAX + SPEC_ENV_NAME_MAX + SPEC_FILE_MAX + 64 };

static Davit__Common__V1__EnvVar *env_free(Davit__Common__V1__EnvVar *env)
{
    if (env && env->value && *env->value)
        explicit_bzero(env->value, strlen(env->value));
    return rpc_message_free(env);
}

static void clear(struct variables *v)
{
    while (v->n)
        (void)env_free(v->v[--v->n].env);
}

struct variables *variables_new(const struct control *c, const char *project, const char *service)
{
    struct variables *v = NEW(struct variables);
    v->c = c;
    v->project = text(project);
    v->service = text(service);
    return v;
}

struct variables *variables_free(struct variables *v)
{
    if (!v)
        return NULL;
    clear(v);
    free(v);
    return NULL;
}

struct variable *variables_find(struct variables *v, struct str name)
{
    for (size_t i = 0; i < v->n; i++)
        if (str_eq(str_from(v->v[i].env->name), name))
            return &v->v[i];
    return NULL;
}

/* --- The store ---------------------------------------------------------------------------------------------------------------------- */

/* Binds the envelope to its service and name. The three parts hold no "/". */
static void id_of(const struct variables *v, const char *name, char ret[DIGEST_HEX_SIZE])
{
    AUTO_FREE char *whole = str_printf("%s/%s/%s", v->project, v->service, name);
    AUTO_DIGEST d = digest_new();
    digest_add(d, whole, strlen(whole));
    digest_hex(d, ret);
}

static int from_row(const struct variables *v, const struct rows *r, struct variable *ret, struct err *err)
{
    AUTO_SECRET wire = NULL;
    ProtobufCMessage *m = NULL;
    char id[DIGEST_HEX_SIZE];
    id_of(v, row_text(r, 0).p, id);
    int rc = sealed_get(v->c, SEALED_VARIABLE, id, row_blob(r, 1), &wire, err);
    if (rc < 0)
        return rc;
    if (rpc_unpack(&davit__common__v1__env_var__descriptor, secret_reveal(wire), &m, NULL) < 0)
        return err_set(err, ERR_DATA_LOSS, "the variable " STR_FMT " cannot be read", STR_ARG(row_text(r, 0)));
    ret->env = (Davit__Common__V1__EnvVar *)m;
    ret->changed = (uint64_t)row_i64(r, 2);
    (void)str_copy(ret->by, sizeof(ret->by), row_text(r, 3));
    return 0;
}

int variables_read(struct db *db, void *arg, struct err *err)
{
    struct variables *v = arg;
    AUTO_ROWS rows = NULL;
    clear(v);
    int rc = db_query(db, &rows, err,
                      "SELECT name, content, changed_us, changed_by FROM variables WHERE project = ? AND service = ? ORDER BY name LIMIT 512",
                      "tt", v->project, v->service);
    while (rc == 0 && (rc = rows_next(rows, err)) == 1) {
        rc = from_row(v, rows, &v->v[v->n], err);
        v->n += rc == 0;
    }
    return rc;
}

/* What it becomes, given what there is. */
static void judge(struct variable *w, const struct variable *old, bool only_new)
{
    if (!old) {
        w->fate = VARIABLE_NEW;
        return;
    }
    w->env->secret = w->env->secret || old->env->secret;
    if (!*w->env->file && *old->env->file)
        w->env->file = str_dup(str_from(old->env->file));
    bool same = str_eq(str_from(w->env->value), str_from(old->env->value)) && w->env->secret == old->env->secret &&
                str_eq(str_from(w->env->file), str_from(old->env->file));
    w->fate = only_new || same ? VARIABLE_SKIPPED : VARIABLE_CHANGED;
}

static size_t bytes_of(const struct variable *w)
{
    return strlen(w->env->name) + strlen(w->env->value);
}

static int put(struct db *db, const struct variables_change *j, const struct variable *w, struct err *err)
{
    const struct variables *v = j->wanted;
    AUTO_SECRET_BUF wire = BUF_INIT(ENV_WIRE_MAX);
    AUTO_BUF sealed = BUF_INIT(ENV_WIRE_MAX + SEAL_OVERHEAD);
    char id[DIGEST_HEX_SIZE];
    BUG_ON(!buf_reserve(&wire, ENV_WIRE_MAX));
    if (rpc_pack(&w->env->base, &wire) != 0)
        return err_set(err, ERR_EXHAUSTED, "%s is too large", w->env->name);
    id_of(v, w->env->name, id);
    int rc = sealed_put(v->c, SEALED_VARIABLE, id, buf_str(&wire), &sealed, err);
    if (rc < 0)
        return rc;
    return db_exec(db, err,
                   "INSERT INTO variables (id, project, service, name, content, changed_us, changed_by) VALUES (?, ?, ?, ?, ?, ?, ?)"
                   " ON CONFLICT (id) DO UPDATE SET content = excluded.content, changed_us = excluded.changed_us,"
                   " changed_by = excluded.changed_by",
                   "ttttbit", id, v->project, v->service, w->env->name, buf_str(&sealed), (int64_t)j->now, j->by);
}

/* Would what there is then be within the limits, and no two share a file? */
static int check_sum(struct variables *now, struct variables *wanted, struct err *err)
{
    size_t n = now->n, bytes = 0;
    for (size_t i = 0; i < now->n; i++) {
        const struct variable *w = variables_find(wanted, str_from(now->v[i].env->name));
        bytes += bytes_of(w && w->fate == VARIABLE_CHANGED ? w : &now->v[i]);
    }
    for (size_t i = 0; i < wanted->n; i++) {
        const struct variable *w = &wanted->v[i];
        n += w->fate == VARIABLE_NEW;
        bytes += w->fate == VARIABLE_NEW ? bytes_of(w) : 0;
        for (size_t k = 0; *w->env->file && w->fate != VARIABLE_SKIPPED && k < now->n; k++)
            if (str_eq(str_from(now->v[k].env->file), str_from(w->env->file)) &&
                !str_eq(str_from(now->v[k].env->name), str_from(w->env->name)))
                return err_set(err, ERR_INVALID, "%s has the file name \"%s\" already", now->v[k].env->name, w->env->file);
    }
    if (n > VARIABLES_MAX)
        return err_set(err, ERR_EXHAUSTED, "that would be %zu variables; a service has %d at most", n, VARIABLES_MAX);
    if (bytes > VARIABLES_BYTES_MAX)
        return err_set(err, ERR_EXHAUSTED, "that would be %zu bytes of variables; a service has %d at most", bytes, VARIABLES_BYTES_MAX);
    return 0;
}

int variables_write(struct db *db, void *arg, struct err *err)
{
    struct variables_change *j = arg;
    struct variables *w = j->wanted;
    AUTO_VARIABLES now = variables_new(w->c, w->project, w->service);
    int rc = variables_read(db, now, err);
    for (size_t i = 0; rc == 0 && i < w->n; i++)
        judge(&w->v[i], variables_find(now, str_from(w->v[i].env->name)), j->only_new);
    if (rc == 0)
        rc = check_sum(now, w, err);
    for (size_t i = 0; rc == 0 && i < w->n; i++)
        if (w->v[i].fate != VARIABLE_SKIPPED)
            rc = put(db, j, &w->v[i], err);
    return rc;
}

int variables_remove(struct db *db, const char *project, const char *service, char *const *names, size_t n, uint32_t *ret_n, struct err *err)
{
    int rc = 0;
    *ret_n = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = db_exec(db, err, "DELETE FROM variables WHERE project = ? AND service = ? AND name = ?", "ttt", project, service, names[i]);
        *ret_n += rc == 0 ? (uint32_t)db_changes(db) : 0;
    }
    return rc;
}

int variables_drop(struct db *db, const char *project, const char *service, struct err *err)
{
    return db_exec(db, err, "DELETE FROM variables WHERE project = ? AND service = ?", "tt", project, service);
}

/* --- The merge ------------------------------------------------------------------------------------------------------------------------ */

static bool has(const Davit__Common__V1__ServiceSpec *spec, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq(str_from(spec->env[i]->name), str_from(name)))
            return true;
    return false;
}

int variables_merge(struct control *c, Davit__Common__V1__ServiceSpec *spec, struct err *err)
{
    AUTO_VARIABLES v = variables_new(c, spec->project, spec->name);
    size_t own = spec->n_env;
    int rc = store_read(c->store, variables_read, v, deadline_in(STORE_WAIT), err);
    if (rc < 0 || !v->n)
        return rc;
    spec->env = mem_resize(spec->env, own + v->n, sizeof(Davit__Common__V1__EnvVar *));
    for (size_t i = 0; i < v->n; i++) {
        if (has(spec, own, v->v[i].env->name))
            continue;
        spec->env[spec->n_env++] = v->v[i].env;
        v->v[i].env = NULL; /* handed over */
    }
    rc = spec_check(spec, err);
    if (rc < 0)
        err_hint(err, "the variables stored for %s/%s count too: davit env ls %s/%s", spec->project, spec->name, spec->project, spec->name);
    return rc;
}

/* --- Looks at secrets ------------------------------------------------------------------------------------------------------------------- */

/* Who has not looked for a while needs no entry. */
static void forget_full(struct hmap *m, usec_t now)
{
    for (struct hmap_entry *e = hmap_first(m), *next; e; e = next) {
        usec_t *full = hmap_value(e);
        next = hmap_next(e);
        if (*full <= now)
            free(hmap_remove(m, hmap_key(e)));
    }
}

int variables_may_reveal(struct control *c, const char *actor, struct err *err)
{
    usec_t now = clock_mono(), wait = REVEAL_EVERY;
    if (!c->reveals)
        c->reveals = hmap_new(REVEALERS_MAX);
    usec_t *full = hmap_get(c->reveals, str_from(actor));
    if (!full) {
        if (hmap_count(c->reveals) >= REVEALERS_MAX)
            forget_full(c->reveals, now);
        full = NEW(usec_t);
        if (hmap_put(c->reveals, str_from(actor), full, NULL) < 0) {
            free(full);
            full = NULL;
        }
    }
    if (full && bucket_take(full, now, REVEAL_EVERY, REVEALS_BURST, &wait) == 0)
        return 0;
    (void)err_set(err, ERR_EXHAUSTED, "too many secrets were looked at; try again in %llu s", (unsigned long long)((wait + USEC_SEC - 1) / USEC_SEC));
    return -(int)ERR_EXHAUSTED;
}

void variables_stop(struct control *c)
{
    if (!c->reveals)
        return;
    for (struct hmap_entry *e = hmap_first(c->reveals); e; e = hmap_next(e))
        free(hmap_value(e));
    c->reveals = hmap_free(c->reveals);
}
