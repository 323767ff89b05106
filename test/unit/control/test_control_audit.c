/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log: no method that changes something runs without its entry, limits of refusals and of the queue, texts, the chain. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "control/people/audit_internal.h"
#include "control_fixture.h"
#include "davit/control/v1/audit.davit.h"

/* ---- what the table holds ---- */

struct look {
    const char *action, *outcome;
    int64_t rows, count;
};

static int read_look(struct db *db, void *arg, struct err *err)
{
    struct look *l = arg;
    int rc = db_get_i64(db, &l->rows, err, "SELECT COUNT(*) FROM audit WHERE action = ? AND outcome = ?", "tt", l->action, l->outcome);
    return rc < 0 ? rc
                  : db_get_i64(db, &l->count, err, "SELECT coalesce(sum(count), 0) FROM audit WHERE action = ? AND outcome = ?", "tt",
                               l->action, l->outcome);
}

static int64_t rows_of(struct control *c, const char *action, const char *outcome)
{
    struct err err = ERR_INIT;
    struct look l = {.action = action, .outcome = outcome};
    CHECK_OK(store_read(c->store, read_look, &l, SOON, &err));
    return l.rows;
}

/* ---- every method ---- */

struct probe {
    struct control *c;
    const char *action;
    unsigned runs;
    int64_t begun; /* rows when the handler ran */
    int rc;
};

static int probe_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct probe *p = ctx;
    (void)call;
    (void)request;
    p->runs++;
    p->begun = rows_of(p->c, p->action, CHAIN_BEGUN);
    return p->rc < 0 ? err_set(err, ERR_DENIED, "no") : 0;
}

static int probe(struct control *c, const struct rpc_service *service, const struct rpc_method *m, struct probe *p, struct err *err)
{
    struct audit_record r = {.count = 1};
    audit_who(&r, "tester", NULL);
    return audit_run(c, &r, NULL, service, m, NULL, probe_run, p, err);
}

static void one_method(struct control *c, const struct rpc_service *service, const struct rpc_method *m)
{
    char action[96];
    struct err err = ERR_INIT;
    bool enroll = strcmp(m->scope, "enroll") == 0;
    audit_action(service, m, action, sizeof(action));
    struct probe p = {.c = c, .action = action};
    CHECK(rows_of(c, action, CHAIN_BEGUN) == 0); /* and so no two methods have one name */
    CHECK(rows_of(c, action, AUDIT_OK) == 0);
    CHECK_OK(probe(c, service, m, &p, &err));
    CHECK(p.runs == 1 && p.begun == (enroll ? 0 : 1));
    CHECK(rows_of(c, action, AUDIT_OK) == 1);
    p.rc = -1;
    CHECK(probe(c, service, m, &p, &err) == -(int)ERR_DENIED);
    CHECK(p.runs == 2);
    if (enroll) /* counted, and written soon */
        CHECK_OK(fiber_sleep(100 * USEC_MSEC));
    CHECK(rows_of(c, action, AUDIT_REFUSED) == 1);
}

static unsigned each_method(struct control *c, void (*fn)(struct control *, const struct rpc_service *, const struct rpc_method *))
{
    unsigned n = 0;
    for (size_t i = 0; i < control_n_services; i++)
        for (size_t k = 0; k < control_services[i].service->n_methods; k++) {
            const struct rpc_method *m = &control_services[i].service->methods[k];
            bool changes = strcmp(m->scope, "public") != 0 && strcmp(m->scope, "read") != 0;
            CHECK(*m->scope && *m->object);
            CHECK(audit_concerns(m) == (changes && strcmp(m->scope, "link") != 0));
            if (!audit_concerns(m))
                continue;
            CHECK(control_services[i].handlers[k].run); /* no stream without a stack gets by */
            fn(c, control_services[i].service, m);
            n++;
        }
    return n;
}

static void every_method_body(struct fixture *f)
{
    CHECK(each_method(f->c, one_method) >= 10);
}

/* req: MA-4 */
static void test_no_method_without_entry(void **state)
{
    (void)state;
    fixture_run(every_method_body);
}

/* ---- over the wire: the hook is there ---- */

static void call_empty(struct fixture *f, const struct rpc_service *service, const struct rpc_method *m)
{
    struct err err = ERR_INIT;
    struct rpc_stream *s = NULL;
    ProtobufCMessage *q = mem_zalloc(m->input->sizeof_message, 1), *answer = NULL;
    int rc = 0;
    m->input->message_init(q);
    if (m->server_streams) {
        CHECK_OK(rpc_stream_open(f->api, service, m->name, USEC_INFINITY, &s, &err));
        CHECK_OK(rpc_stream_put(s, q, SOON, &err));
        rpc_stream_half_close(s);
        while (rc == 0) {
            rc = rpc_stream_get(s, SOON, &answer, &err);
            answer = rpc_message_free(answer);
        }
        s = rpc_stream_close(s);
    } else {
        (void)fixture_call(f, service, m->name, q, &answer, &err);
        (void)rpc_message_free(answer);
    }
    free(q);
}

static void wire_body(struct fixture *f)
{
    for (size_t i = 0; i < control_n_services; i++)
        for (size_t k = 0; !control_services[i].link && k < control_services[i].service->n_methods; k++) {
            const struct rpc_service *service = control_services[i].service;
            const struct rpc_method *m = &service->methods[k];
            char action[96];
            audit_action(service, m, action, sizeof(action));
            if (m->client_streams || (!audit_concerns(m) && m->server_streams))
                continue;
            call_empty(f, service, m);
            CHECK(rows_of(f->c, action, CHAIN_BEGUN) == (audit_concerns(m) ? 1 : 0));
            CHECK(rows_of(f->c, action, AUDIT_OK) + rows_of(f->c, action, AUDIT_FAILED) == (audit_concerns(m) ? 1 : 0));
        }
}

/* req: PE-7 MA-4 */
static void test_every_call_of_the_api(void **state)
{
    (void)state;
    fixture_run(wire_body);
}

/* ---- when it cannot be written ---- */

static int break_log(struct db *db, void *arg, struct err *err)
{
    (void)arg;
    return db_exec(db, err, "ALTER TABLE audit RENAME TO audit_away", "");
}

static int mend_log(struct db *db, void *arg, struct err *err)
{
    (void)arg;
    return db_exec(db, err, "ALTER TABLE audit_away RENAME TO audit", "");
}

static void refused_method(struct control *c, const struct rpc_service *service, const struct rpc_method *m)
{
    struct err err = ERR_INIT;
    struct audit_record r = {.count = 1};
    struct probe p = {.c = c, .action = m->name};
    if (strcmp(m->scope, "enroll") == 0) /* its entry is in its own transaction: test_audit.py */
        return;
    CHECK(audit_run(c, &r, NULL, service, m, NULL, probe_run, &p, &err) == -(int)ERR_UNAVAILABLE);
    CHECK(p.runs == 0);
    CHECK(strstr(err.msg, "nothing was changed") && *err.hint);
}

static bool queue_empty(void *arg)
{
    struct fixture *f = arg;
    return list_empty(&f->c->audit->queue) && !f->c->audit->writing && f->c->audit->notes == 0;
}

static void broken_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct audit_record r = {.count = 1};
    struct look l = {.action = "audit.dropped", .outcome = AUDIT_FAILED};
    fixture_until(queue_empty, f);
    CHECK_OK(store_write(f->c->store, break_log, NULL, SOON, &err));
    CHECK(each_method(f->c, refused_method) >= 10);
    /* What has happened is kept up to the limit; what is beyond it is counted. */
    audit_who(&r, "davitd", NULL);
    audit_what(&r, "test.note", "-");
    audit_how(&r, AUDIT_OK, NULL);
    for (int i = 0; i < AUDIT_QUEUE_MAX; i++)
        audit_note(f->c, &r);
    CHECK(audit_dropped(f->c) == 0 && f->c->audit->notes == AUDIT_QUEUE_MAX);
    for (int i = 0; i < 10; i++)
        audit_note(f->c, &r);
    CHECK(audit_dropped(f->c) == 10 && f->c->audit->notes == AUDIT_QUEUE_MAX);
    CHECK_OK(store_write(f->c->store, mend_log, NULL, SOON, &err));
    event_signal(&f->c->audit->wake);
    fixture_until(queue_empty, f);
    CHECK(rows_of(f->c, "test.note", AUDIT_OK) == AUDIT_QUEUE_MAX);
    CHECK_OK(store_read(f->c->store, read_look, &l, SOON, &err));
    CHECK(l.rows == 1 && l.count == 10);
}

/* req: PE-7 MA-4 */
static void test_nothing_runs_when_it_cannot_be_written(void **state)
{
    (void)state;
    fixture_run(broken_body);
}

/* ---- refusals ---- */

struct told {
    unsigned entries;
    uint64_t count;
    char last[sizeof(((struct audit_record *)0)->actor)];
};

static void tell(void *ctx, const struct audit_record *r)
{
    struct told *t = ctx;
    t->entries++;
    t->count += r->count;
    (void)str_copy(t->last, sizeof(t->last), str_from(r->actor));
}

static struct audit_record refusal(unsigned from)
{
    struct audit_record r = {.count = 1};
    char actor[64];
    (void)snprintf(actor, sizeof(actor), "addr:10.0.%u.%u", from / 256, from % 256);
    audit_who(&r, actor, NULL);
    audit_what(&r, "EnrollService/Enroll", "-");
    audit_how(&r, AUDIT_REFUSED, NULL);
    return r;
}

/* req: PE-7 */
static void test_refusals_of_one_kind(void **state)
{
    (void)state;
    struct told t = {0};
    struct audit_record r = refusal(1);
    struct refusals *all = refusals_new(tell, &t);
    usec_t now = USEC_HOUR;
    for (int i = 0; i < 10000; i++)
        refusals_add(all, &r, now + (usec_t)i);
    assert_int_equal(t.entries, 1);
    refusals_tick(all, now + REFUSALS_WINDOW - 1, false);
    assert_int_equal(t.entries, 1);
    refusals_tick(all, now + REFUSALS_WINDOW, false);
    assert_int_equal(t.entries, 2);
    assert_int_equal(t.count, 10000);
    assert_true(refusals_pending(all));
    refusals_tick(all, now + 2 * REFUSALS_WINDOW, false); /* silent for a minute: forgotten */
    assert_false(refusals_pending(all));
    refusals_add(all, &r, now + 2 * REFUSALS_WINDOW);
    assert_int_equal(t.entries, 3);
    all = refusals_free(all);
}

/* req: PE-7 */
static void test_refusals_of_many(void **state)
{
    (void)state;
    struct told t = {0};
    struct refusals *all = refusals_new(tell, &t);
    usec_t now = USEC_HOUR;
    enum { STRANGERS = 5000 };
    for (unsigned i = 0; i < REFUSALS_PER_MINUTE; i++) {
        struct audit_record r = refusal(i);
        refusals_add(all, &r, now);
    }
    assert_int_equal(t.entries, REFUSALS_PER_MINUTE); /* at the limit: each is told */
    for (unsigned i = REFUSALS_PER_MINUTE; i < STRANGERS; i++) {
        struct audit_record r = refusal(i);
        refusals_add(all, &r, now);
    }
    assert_int_equal(t.entries, REFUSALS_PER_MINUTE); /* and nothing more in this minute */
    refusals_tick(all, now + REFUSALS_WINDOW, false);
    assert_true(t.entries <= 2 * REFUSALS_PER_MINUTE + 1);
    refusals_tick(all, now + 2 * REFUSALS_WINDOW, true);
    assert_true(t.entries <= 3 * REFUSALS_PER_MINUTE + 2);
    assert_int_equal(t.count, STRANGERS); /* none is lost */
    assert_string_equal(t.last, "others");
    all = refusals_free(all);
}

/* ---- texts ---- */

static void test_texts_are_plain(void **state)
{
    (void)state;
    struct audit_record r = {.count = 1};
    char longest[1000];
    audit_who(&r, "a\nb\x1b[31m\x7f\xff\xc3\xa4\xe2\x80\xae", "");
    assert_string_equal(r.actor, "a?b?[31m??\xc3\xa4?");
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    audit_what(&r, longest, "");
    assert_int_equal(strlen(r.action), sizeof(r.action) - 1);
    assert_string_equal(r.object, "-");
}

static void test_objects_of_requests(void **state)
{
    (void)state;
    Davit__Control__V1__DeployRequest q = DAVIT__CONTROL__V1__DEPLOY_REQUEST__INIT;
    Davit__Common__V1__ServiceSpec spec = DAVIT__COMMON__V1__SERVICE_SPEC__INIT;
    struct rpc_method m = {.name = "Deploy", .scope = "write", .object = "spec.project/spec.name"};
    char object[32];
    audit_object(&m, &q.base, object, sizeof(object));
    assert_string_equal(object, "-");
    q.spec = &spec;
    spec.project = W("shop");
    spec.name = W("web");
    audit_object(&m, &q.base, object, sizeof(object));
    assert_string_equal(object, "shop/web");
    audit_object(&m, NULL, object, sizeof(object));
    assert_string_equal(object, "-");
    m.object = "-";
    audit_object(&m, &q.base, object, sizeof(object));
    assert_string_equal(object, "-");
    m.object = "spec.nothing/server";
    q.server = W("a-name-that-is-longer-than-what-there-is-room-for");
    audit_object(&m, &q.base, object, sizeof(object));
    assert_int_equal(strlen(object), sizeof(object) - 1);
}

/* ---- the chain ---- */

static struct chain_entry link_entry(struct chain_check *k, const char *action, const char *outcome, uint64_t begun)
{
    struct chain_entry e = {.number = k->last + 1, .action = str_from(action), .outcome = str_from(outcome), .count = 1, .begun = begun};
    chain_hash(k->hash, &e, e.hash);
    return e;
}

/* req: PE-7 */
static void test_chain(void **state)
{
    (void)state;
    struct chain_check k, copy;
    struct chain_entry e;
    chain_check_init(&k);
    e = link_entry(&k, CHAIN_STARTED, "ok", 0);
    assert_true(chain_check_next(&k, &e));
    for (int i = 0; i < 3; i++) { /* 2, 3, 4 begin; 3 ends */
        e = link_entry(&k, "X/Y", CHAIN_BEGUN, 0);
        assert_true(chain_check_next(&k, &e));
    }
    e = link_entry(&k, "X/Y", "ok", 3);
    assert_true(chain_check_next(&k, &e));
    assert_int_equal(k.n_open, 2);
    assert_int_equal(k.interrupted, 0);
    e = link_entry(&k, CHAIN_STARTED, "ok", 0);
    assert_true(chain_check_next(&k, &e));
    assert_int_equal(k.interrupted, 2);
    assert_int_equal(k.first_interrupted, 2);
    /* Heads. */
    assert_true(chain_check_head(&k, 6, k.hash, true, "x"));
    copy = k;
    assert_false(chain_check_head(&copy, 7, k.hash, false, "x"));
    assert_int_equal(copy.bad, 7);
    copy = k;
    assert_false(chain_check_head(&copy, 6, (const uint8_t[CHAIN_HASH_SIZE]){0}, false, "x"));
    copy = k;
    assert_false(chain_check_head(&copy, 5, k.hash, true, "x"));
    /* A number too many, one too few, any other text. */
    copy = k;
    e = link_entry(&k, "X/Y", "ok", 0);
    e.number++;
    assert_false(chain_check_next(&copy, &e));
    assert_int_equal(copy.bad, 7);
    copy = k;
    e.number -= 2;
    assert_false(chain_check_next(&copy, &e));
    copy = k;
    e = link_entry(&k, "X/Y", "ok", 0);
    e.object = STR("other");
    assert_false(chain_check_next(&copy, &e));
    assert_false(chain_check_next(&copy, &e)); /* and so it stays */
    /* Texts cannot run into each other. */
    struct chain_entry a = {.actor = STR("ab"), .serial = STR("c")}, b = {.actor = STR("a"), .serial = STR("bc")};
    chain_hash(k.hash, &a, a.hash);
    chain_hash(k.hash, &b, b.hash);
    assert_memory_not_equal(a.hash, b.hash, CHAIN_HASH_SIZE);
    e = link_entry(&k, CHAIN_BROKEN, "failed", 0);
    assert_false(chain_check_next(&k, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_method_without_entry),
        cmocka_unit_test(test_every_call_of_the_api),
        cmocka_unit_test(test_nothing_runs_when_it_cannot_be_written),
        cmocka_unit_test(test_refusals_of_one_kind),
        cmocka_unit_test(test_refusals_of_many),
        cmocka_unit_test(test_texts_are_plain),
        cmocka_unit_test(test_objects_of_requests),
        cmocka_unit_test(test_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
