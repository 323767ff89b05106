/* SPDX-License-Identifier: Apache-2.0 */
/* Upgrades of the schema, for each engine: a database at every earlier version, with a row in every table, comes up to the present one and loses
 * nothing; one of a newer program is refused. The steps are taken from the table of migrations itself, so a new one is tested by being there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "control/work/prune.h"
#include "control/schema.h"
#include "store/place.h"
#include "store/tables.h"

enum { NAMES_MAX = 1000, FIXTURE_MAX = 1024 * 1024 };

struct fixture {
    struct place place;
    struct store *store;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    place_make(&f->place);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    (void)store_close(f->store);
    place_remove(&f->place);
    free(f);
    return 0;
}

static int at_version(struct fixture *f, size_t n, struct err *err)
{
    f->store = store_close(f->store);
    return store_open(NULL, f->place.target, schema_migrations, n, &f->store, err);
}

/* What stands in column @c of the row made for @t: a value that the checks of a column may not like is tried until one fits. */
static struct value value_for(const struct table *t, size_t c, int64_t try, char text[ARCHIVE_NAME_MAX + 16])
{
    struct value v = {.letter = t->columns[c].letter};
    bool key = strstr(t->columns[c].name, "_id") || strcmp(t->columns[c].name, "id") == 0;
    (void)snprintf(text, ARCHIVE_NAME_MAX + 16, "%s", key ? "00000000-0000-4000-8000-000000000001" : t->columns[c].name);
    v.i = try;
    v.s = str_from(text);
    return v;
}

struct fill {
    const struct table *table;
    int64_t try;
};

static int insert_fn(struct db *db, void *arg, struct err *err)
{
    const struct fill *f = arg;
    const struct table *t = f->table;
    struct value values[VALUES_MAX];
    char texts[VALUES_MAX][ARCHIVE_NAME_MAX + 16];
    AUTO_BUF sql = BUF_INIT(STORE_SQL_MAX);
    assert_int_equal(buf_printf(&sql, "INSERT INTO \"%s\" VALUES (", t->name), 0);
    for (size_t i = 0; i < t->n; i++) {
        values[i] = value_for(t, i, f->try, texts[i]);
        assert_int_equal(buf_append_cstr(&sql, i ? ", ?" : "?"), 0);
    }
    assert_int_equal(buf_append_byte(&sql, ')'), 0);
    return db_exec_values(db, buf_cstr(&sql), values, t->n, err);
}

static int tables_fn(struct db *db, void *arg, struct err *err)
{
    return tables_read(db, arg, err);
}

static int count_fn(struct db *db, void *arg, struct err *err)
{
    struct tables *t = arg;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < t->n; i++) {
        AUTO_FREE char *sql = str_printf("SELECT count(*) FROM \"%s\"", t->v[i]->name);
        int64_t n = -1;
        rc = db_get_i64(db, &n, err, sql, "");
        t->v[i]->n = (size_t)n; /* the columns are not needed any more */
    }
    return rc;
}

/* A row in every table of this version. Tables come in the order in which they were made, so what a row refers to is there. */
static void fill_all(struct fixture *f)
{
    struct tables tables = {0};
    struct err err = ERR_INIT;
    assert_int_equal(store_read_sync(f->store, tables_fn, &tables, NULL), 0);
    for (size_t i = 0; i < tables.n; i++) {
        struct fill fill = {tables.v[i], 1};
        int rc = store_write_sync(f->store, insert_fn, &fill, &err);
        /* A column that holds a flag or a small number. */
        if (rc == -ERR_PRECONDITION) {
            fill.try = 0;
            rc = store_write_sync(f->store, insert_fn, &fill, &err);
        }
        if (rc != 0)
            print_message("%s: %d %s\n", tables.v[i]->name, rc, err.msg);
        assert_true(rc == 0 || rc == -ERR_EXISTS);
    }
    tables_release(&tables);
}

static void count_all(struct fixture *f, struct tables *ret)
{
    assert_int_equal(store_read_sync(f->store, tables_fn, ret, NULL), 0);
    assert_int_equal(store_read_sync(f->store, count_fn, ret, NULL), 0);
}

static const struct table *named(const struct tables *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->v[i]->name, name) == 0)
            return t->v[i];
    return NULL;
}

/* req: PR-14 */
static void test_from_every_version(void **state)
{
    struct fixture *f = *state;
    for (size_t from = 1; from <= schema_n_migrations; from++) {
        struct err err = ERR_INIT;
        struct tables before = {0}, after = {0};
        place_remove(&f->place);
        place_make(&f->place);
        assert_int_equal(at_version(f, from, &err), 0);
        fill_all(f);
        count_all(f, &before);
        assert_int_equal(at_version(f, schema_n_migrations, &err), 0);
        count_all(f, &after);
        for (size_t i = 0; i < before.n; i++) {
            const struct table *t = named(&after, before.v[i]->name);
            if (t) /* a step may replace a table by others */
                assert_true(before.v[i]->n >= 1 && t->n >= before.v[i]->n);
        }
        assert_true(after.n >= 8);
        tables_release(&before);
        tables_release(&after);
        f->store = store_close(f->store);
    }
}

/* req: PR-14 */
static void test_newer_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct store_migration *more = calloc(schema_n_migrations + 1, sizeof(*more));
    memcpy(more, schema_migrations, schema_n_migrations * sizeof(*more));
    more[schema_n_migrations] = (struct store_migration){"of-tomorrow", "CREATE TABLE tomorrow (x INTEGER) STRICT"};
    assert_int_equal(store_open(NULL, f->place.target, more, schema_n_migrations + 1, &f->store, NULL), 0);
    assert_int_equal(at_version(f, schema_n_migrations, &err), -ERR_PRECONDITION);
    assert_non_null(strstr(err.msg, "newer version"));
    /* And one that went another way. */
    place_remove(&f->place);
    place_make(&f->place);
    more[0] = (struct store_migration){"another-beginning", "CREATE TABLE x (x INTEGER) STRICT"};
    assert_int_equal(store_open(NULL, f->place.target, more, 1, &f->store, NULL), 0);
    assert_int_equal(at_version(f, schema_n_migrations, &err), -ERR_PRECONDITION);
    assert_non_null(strstr(err.msg, "another-beginning"));
    free(more);
}

/* Statements that end with ";" at the end of a line; a text may have lines. */
static int script_fn(struct db *db, void *arg, struct err *err)
{
    char *at = arg, *end;
    int rc = 0;
    while (rc == 0 && (end = strstr(at, ";\n"))) {
        *end = '\0';
        rc = db_exec(db, err, at, "");
        at = end + 2;
    }
    return rc;
}

static int web_fn(struct db *db, void *arg, struct err *err)
{
    int64_t *n = arg;
    int rc = db_get_i64(db, &n[0], err, "SELECT count(*) FROM deployments WHERE service = 'web'", "");
    if (rc == 0)
        rc = db_get_i64(db, &n[1], err, "SELECT count(*) FROM deployments d JOIN services s ON s.active = d.id WHERE s.name = 'web'", "");
    return rc ? rc : db_get_i64(db, &n[2], err, "SELECT count(*) FROM servers", "");
}

/* The first version as it was given to users, with two servers, one that was never enrolled, and a service that was deployed twice. */
/* req: PR-14 */
static void test_first_release(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    AUTO_BUF text = BUF_INIT(FIXTURE_MAX);
    int64_t n[3] = {0};
    assert_int_equal(fd_read_file("test/unit/control/v1.sql", &text, &err), 0);
    assert_int_equal(at_version(f, 1, &err), 0);
    int rc = store_write_sync(f->store, script_fn, text.data, &err);
    if (rc != 0)
        print_message("%s\n", err.msg);
    assert_int_equal(rc, 0);
    assert_int_equal(at_version(f, schema_n_migrations, &err), 0);
    assert_int_equal(store_read_sync(f->store, web_fn, n, &err), 0);
    assert_true(n[0] == 2 && n[1] == 1 && n[2] == 3);
}

/* --- What is kept of the past ------------------------------------------------------------------------------------------------------- */

/* Three services: "busy" with 450 deployments, of which the oldest is the active one and one in the middle goes on; "few" with 3; and "gone",
 * which has no row any more. Each deployment has 20 events. */
static int past_fn(struct db *db, void *arg, struct err *err)
{
    static const char *const names[] = {"busy", "few", "gone"};
    static const int counts[] = {450, 3, 230};
    (void)arg;
    int rc = db_exec(db, err, "INSERT INTO servers VALUES ('s', 's', 1, '', 1, '', 0, ?, '', '', 1, 1, 1, 0, 1, 0, 1, '')", "b", STR(""));
    for (size_t s = 0; rc == 0 && s < ARRAY_LEN(names); s++)
        for (int n = 0; rc == 0 && n < counts[s]; n++) {
            char id[32];
            int64_t state = s == 0 && n == 0 ? 4 : s == 0 && n == 100 ? 2 : 5 + n % 5;
            (void)snprintf(id, sizeof(id), "%s-%d", names[s], n);
            rc = db_exec(db, err, "INSERT INTO deployments VALUES (?, NULL, 'p', ?, 's', 's', ?, ?, ?, '', '', '', ?, 0, '', 0)", "ttbibi", id,
                         names[s], STR(""), state, STR(""), (int64_t)(1000 + n));
            for (int64_t e = 1; rc == 0 && e <= 20; e++)
                rc = db_exec(db, err, "INSERT INTO deployment_events VALUES (?, ?, 1, ?)", "tib", id, e, STR(""));
        }
    /* Old, and active once. */
    if (rc == 0)
        rc = db_exec(db, err, "UPDATE deployments SET activated_us = 1 WHERE id = 'busy-6'", "");
    if (rc == 0)
        rc = db_exec(db, err, "INSERT INTO services VALUES ('p', 'busy', 's', 'busy-449', 'busy-0', 1, 1)", "");
    return rc ? rc : db_exec(db, err, "INSERT INTO services VALUES ('p', 'few', 's', 'few-2', '', 1, 1)", "");
}

struct left {
    int64_t busy, few, gone, active, going_on, events, without, active_events;
};

static int left_fn(struct db *db, void *arg, struct err *err)
{
    struct left *l = arg;
    const struct {
        int64_t *to;
        const char *sql;
    } ask[] = {
        {&l->busy, "SELECT count(*) FROM deployments WHERE service = 'busy'"},
        {&l->few, "SELECT count(*) FROM deployments WHERE service = 'few'"},
        {&l->gone, "SELECT count(*) FROM deployments WHERE service = 'gone'"},
        {&l->active, "SELECT count(*) FROM deployments WHERE id = 'busy-0'"},
        {&l->going_on, "SELECT count(*) FROM deployments WHERE id = 'busy-100'"},
        {&l->events, "SELECT count(*) FROM deployment_events"},
        {&l->without, "SELECT count(*) FROM deployments d WHERE NOT EXISTS (SELECT 1 FROM deployment_events e WHERE e.deployment_id = d.id"
                      " AND e.number = 20)"},
        {&l->active_events, "SELECT count(*) FROM deployment_events WHERE deployment_id = 'busy-0'"},
    };
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(ask); i++)
        rc = db_get_i64(db, ask[i].to, err, ask[i].sql, "");
    return rc;
}

static void test_the_past_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct left left = {0};
    int64_t removed = 1;
    int rounds = 0;
    assert_int_equal(at_version(f, schema_n_migrations, NULL), 0);
    assert_int_equal(store_write_sync(f->store, past_fn, NULL, NULL), 0);
    for (; removed > 0; rounds++) {
        assert_int_equal(store_write_sync(f->store, prune_fn, &removed, NULL), 0);
        assert_true(rounds < 20);
    }
    assert_int_equal(store_read_sync(f->store, left_fn, &left, NULL), 0);
    /* The newest 200, the two that are not over, and the one that was active once. */
    assert_int_equal(left.busy, PRUNE_DEPLOYMENTS_KEPT + 3);
    assert_int_equal(left.few, 3);
    assert_int_equal(left.gone, PRUNE_DEPLOYMENTS_KEPT);
    assert_true(left.active == 1 && left.going_on == 1 && left.active_events == 20);
    /* Every deployment still has its last event. */
    assert_int_equal(left.without, 0);
    assert_in_range(left.events, PRUNE_EVENTS_KEPT - 20, PRUNE_EVENTS_KEPT + 20 + 2 * PRUNE_DEPLOYMENTS_KEPT);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_from_every_version), T(test_newer_refused), T(test_first_release), T(test_the_past_is_bounded)};
    return place_available() ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
