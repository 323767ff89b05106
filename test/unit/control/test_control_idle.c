/* SPDX-License-Identifier: Apache-2.0 */
/* The end of an idle control plane: what follows from what, with the times of the product. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "control/link/commands.h"
#include "control/idle.h"
#include "control_fixture.h"

struct run {
    struct idle_machine m;
    usec_t now;
};

static void begin(struct run *r)
{
    *r = (struct run){.m = {.grace = IDLE_GRACE}};
}

/* The next poll. */
static enum idle_state poll(struct run *r, enum idle_input in)
{
    r->now += IDLE_POLL;
    return idle_step(&r->m, in, r->now);
}

/* req: CW-31 CW-32 */
static void test_two_zero_polls_after_the_grace(void **state)
{
    struct run r;
    (void)state;
    assert_int_equal(IDLE_POLL, 30 * USEC_SEC);
    assert_int_equal(IDLE_GRACE, 60 * USEC_SEC);
    begin(&r);
    assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_ZERO);
    assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_DRAINING); /* 60 s: what was found within the grace counts */
    assert_int_equal(poll(&r, IDLE_BUSY), IDLE_DRAINING);
    begin(&r);
    r.m.grace = 4 * IDLE_POLL;
    assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_ZERO);
    assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_READY);
    assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_READY);
    assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_DRAINING);
}

/* req: CW-31 */
static void test_what_happens_between_begins_the_count_anew(void **state)
{
    static const enum idle_input news[] = {IDLE_BUSY, IDLE_FAILED, IDLE_TOUCHED};
    struct run r;
    (void)state;
    for (size_t i = 0; i < sizeof(news) / sizeof(news[0]); i++) {
        begin(&r);
        for (int k = 0; k < 50; k++) {
            assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_ZERO);
            assert_int_equal(idle_step(&r.m, news[i], r.now + 1), IDLE_WATCHING);
        }
        assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_ZERO);
        assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_DRAINING);
    }
}

static void test_twenty_failures_in_a_row_are_an_error(void **state)
{
    struct run r;
    (void)state;
    begin(&r);
    for (int i = 1; i < IDLE_FAILED_MAX; i++)
        assert_int_equal(poll(&r, IDLE_FAILED), IDLE_WATCHING);
    assert_int_equal(poll(&r, IDLE_BUSY), IDLE_WATCHING);
    for (int i = 1; i < IDLE_FAILED_MAX; i++) {
        assert_int_equal(poll(&r, IDLE_FAILED), IDLE_WATCHING);
        assert_int_equal(idle_step(&r.m, IDLE_TOUCHED, r.now), IDLE_WATCHING); /* no poll: the row goes on */
    }
    assert_int_equal(poll(&r, IDLE_FAILED), IDLE_BROKEN);
    assert_int_equal(poll(&r, IDLE_NOTHING), IDLE_BROKEN);
}

/* --- A whole control plane that ends when nothing is to do --- */

#define POLL (20 * USEC_MSEC)

static int ended; /* 1: not; else what on_idle was told */

static void on_idle(void *arg, int rc)
{
    (void)arg;
    ended = rc;
}

static void begin_anew(struct fixture *f)
{
    ended = 1;
    f->options.idle_exit = IDLE_EXIT_ALWAYS;
    f->options.idle_poll = POLL;
    f->options.idle_grace = POLL;
    f->options.on_idle = on_idle;
    fixture_restart(f);
    f->c->calls++; /* somebody's call, so that it waits for the agent */
}

/* The local agent, which runs sandboxes. */
static void connect_agent(struct fixture *f, struct agent *a, bool counts)
{
    const struct agent_self self = {.epoch = 1, .sandboxes = true, .counts = counts};
    struct err err = ERR_INIT;
    CHECK_OK(agent_open(f, a, NULL, &err));
    agent_hello_as(a, &self);
    (void)rpc_message_free(&agent_get(a, DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_WELCOME, &err)->base);
    agent_heartbeat(a);
    fixture_until(work_online, f);
}

static uint64_t question(struct agent *a)
{
    struct err err = ERR_INIT;
    for (uint64_t id = 0;;) {
        ProtobufCMessage *m = NULL;
        CHECK(rpc_stream_get(a->stream, SOON, &m, &err) == 0);
        Davit__Link__V1__ControlMessage *q = (Davit__Link__V1__ControlMessage *)m;
        if (q->body_case == DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_SANDBOX_COUNT)
            id = q->sandbox_count->request_id;
        (void)rpc_message_free(m);
        if (id)
            return id;
    }
}

static void answer(struct agent *a, uint64_t id, const char *failure)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__SandboxCounted n = DAVIT__LINK__V1__SANDBOX_COUNTED__INIT;
    Davit__Common__V1__Failure why = DAVIT__COMMON__V1__FAILURE__INIT;
    n.request_id = id;
    why.message = W(failure ? failure : "");
    n.failure = failure ? &why : NULL;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_SANDBOX_COUNTED;
    m.sandbox_counted = &n;
    CHECK(agent_put(a, &m) == 0);
}

static bool has_ended(void *arg)
{
    (void)arg;
    return ended != 1;
}

/* More polls than failures would be an error. */
static void stays(void)
{
    CHECK(fiber_sleep((IDLE_FAILED_MAX + 5) * POLL) == 0);
    CHECK(ended == 1);
}

static void old_agent_body(struct fixture *f)
{
    struct agent a;
    begin_anew(f);
    connect_agent(f, &a, false);
    f->c->calls--;
    stays();
    agent_close(&a);
}

static void test_an_agent_that_cannot_count_keeps_it(void **state)
{
    (void)state;
    fixture_run(old_agent_body);
}

/* What is sent to @a at the end: is it told to end as well? */
static bool is_told(struct fixture *f, struct agent *a)
{
    struct err err = ERR_INIT;
    ProtobufCMessage *m = NULL;
    bool told = false;
    idle_leave(f->c);
    while (!told && rpc_stream_get(a->stream, deadline_in(200 * USEC_MSEC), &m, &err) == 0) {
        told = ((Davit__Link__V1__ControlMessage *)m)->body_case == DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_DRAINED;
        (void)rpc_message_free(m);
    }
    return told;
}

static void drained_body(struct fixture *f)
{
    struct agent a;
    begin_anew(f);
    connect_agent(f, &a, true);
    f->c->calls--;
    answer(&a, question(&a), NULL);
    uint64_t second = question(&a);
    f->c->calls++; /* begins while the agent counts */
    answer(&a, second, NULL);
    stays();
    f->c->calls--;
    answer(&a, question(&a), NULL);
    answer(&a, question(&a), NULL);
    fixture_until(has_ended, NULL);
    CHECK(ended == 0 && is_told(f, &a));
    agent_close(&a);
}

static void test_the_agent_ends_with_one_that_has_nothing_to_do(void **state)
{
    (void)state;
    fixture_run(drained_body);
}

static void broken_body(struct fixture *f)
{
    struct agent a;
    begin_anew(f);
    connect_agent(f, &a, true);
    f->c->calls--;
    while (ended == 1) {
        answer(&a, question(&a), "the engine is away");
        CHECK(fiber_sleep(POLL) == 0);
    }
    CHECK(ended == -(int)ERR_UNAVAILABLE && !is_told(f, &a));
    agent_close(&a);
}

static void test_the_agent_stays_where_sandboxes_may_run(void **state)
{
    (void)state;
    fixture_run(broken_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_zero_polls_after_the_grace),
        cmocka_unit_test(test_what_happens_between_begins_the_count_anew),
        cmocka_unit_test(test_twenty_failures_in_a_row_are_an_error),
        cmocka_unit_test(test_an_agent_that_cannot_count_keeps_it),
        cmocka_unit_test(test_the_agent_ends_with_one_that_has_nothing_to_do),
        cmocka_unit_test(test_the_agent_stays_where_sandboxes_may_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
