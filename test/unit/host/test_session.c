/* SPDX-License-Identifier: Apache-2.0 */
/* The link against a control plane made here with src/rpc, and a work made here that does as it is told. */
#include "host/session_fixture.h"

#include <string.h>

#include "host/link/tunnel.h"

static void hello_body(struct ctx *x)
{
    const Davit__Link__V1__AgentMessage *m = NULL;
    struct session_status st;
    make_session(x);
    WAIT(HEARD(x, HEARTBEAT) == 1);
    assert_int_equal(x->heard[0]->body_case, DAVIT__LINK__V1__AGENT_MESSAGE__BODY_HELLO);
    const Davit__Link__V1__Hello *h = x->heard[0]->hello;
    assert_int_equal(h->protocol_min, 1);
    assert_true(*h->instance_id && *h->boot_id && h->epoch == 1 && h->clock_us > 0);
    assert_true(*h->system->hostname && *h->system->kernel && *h->system->arch && h->system->cpu_count && h->system->memory_bytes);
    assert_string_equal(h->system->agent_version, DAVIT_VERSION);
    assert_int_equal(LAST(x, HEARTBEAT, &m), 1);
    assert_non_null(m->heartbeat->system);
    assert_int_equal(m->heartbeat->containers_running, 3);
    assert_int_equal(x->work.fulls, 1);
    session_status(x->session, &st);
    assert_int_equal(st.state, SESSION_ONLINE);
    WAIT((session_status(x->session, &st), st.heartbeat > 0));
}

/* req: CL-46 */
static void test_hello_then_at_once_a_heartbeat_with_everything(void **state)
{
    run(*state, hello_body);
}

static void journal_body(struct ctx *x)
{
    const Davit__Link__V1__AgentMessage *m = NULL;
    struct journal_entry e = {0};
    struct err err = ERR_INIT;
    uint64_t last;
    make_session(x);
    WAIT(x->work.fulls == 1);
    command(x, 1, "a", NULL);
    WAIT(HEARD(x, RECEIVED) == 1);
    assert_int_equal(journal_pending(x->journal, 0, &e, &err), 0);
    assert_string_equal(e.id, "a");
    journal_entry_release(&e);
    assert_int_equal(HEARD(x, RESULT), 0);
    command(x, 1, "a", NULL); /* twice is once */
    WAIT(HEARD(x, RECEIVED) == 2);
    event_signal(&x->work.go);
    WAIT(HEARD(x, RESULT) == 1);
    (void)LAST(x, RESULT, &m);
    assert_string_equal(m->result->outcome, "done");
    assert_null(m->result->failure);
    assert_int_equal(x->work.started, 1);
    /* The acknowledged result is forgotten, its number is not. */
    WAIT(journal_unacked(x->journal, 0, &e, &err) == 1 || (journal_entry_release(&e), false));
    assert_int_equal(journal_last_seq(x->journal, &last, &err), 0);
    assert_int_equal(last, 1);
    /* What the journal does not take does not run. */
    command(x, 2, "an id that is longer than any that the journal takes", NULL);
    WAIT(HEARD(x, RESULT) == 2);
    (void)LAST(x, RESULT, &m);
    assert_int_equal(m->result->failure->code, ERR_INVALID);
    assert_int_equal(HEARD(x, RECEIVED), 2);
    assert_int_equal(x->work.started, 1);
}

/* req: CL-8 */
static void test_a_command_is_in_the_journal_before_it_is_received(void **state)
{
    run(*state, journal_body);
}

static void resend_body(struct ctx *x)
{
    struct journal_entry e = {0};
    struct err err = ERR_INIT;
    x->ack_results = false;
    event_signal(&x->work.go);
    make_session(x);
    WAIT(x->work.fulls == 1);
    command(x, 1, "a", NULL);
    WAIT(HEARD(x, RESULT) == 1);
    cut(x);
    WAIT(x->work.fulls == 2);
    assert_int_equal(x->work.resets, 1);
    assert_int_equal(x->last_seq, 1);
    WAIT(HEARD(x, RESULT) == 2);
    x->ack_results = true;
    cut(x);
    WAIT(HEARD(x, RESULT) == 3);
    WAIT(journal_unacked(x->journal, 0, &e, &err) == 1 || (journal_entry_release(&e), false));
    unsigned beats = HEARD(x, HEARTBEAT);
    cut(x);
    WAIT(HEARD(x, HEARTBEAT) > beats);
    assert_int_equal(HEARD(x, RESULT), 3);
    assert_int_equal(x->work.started, 1);
}

static void test_a_result_goes_again_until_it_is_acknowledged(void **state)
{
    run(*state, resend_body);
}

static void offline_body(struct ctx *x)
{
    make_session(x);
    WAIT(x->work.fulls == 1);
    command(x, 1, "a", NULL);
    WAIT(x->work.started == 1);
    cut(x);
    event_signal(&x->work.go); /* ends while there is no link */
    WAIT(HEARD(x, RESULT) == 1);
    assert_int_equal(x->work.started, 1);
}

/* req: CL-29 */
static void test_work_goes_on_while_the_link_is_down(void **state)
{
    run(*state, offline_body);
}

static void resume_body(struct ctx *x)
{
    make_session(x);
    WAIT(x->work.fulls == 1);
    command(x, 1, "plain", NULL);
    command(x, 2, "secret", "hunter2");
    WAIT(x->work.started == 2);
    assert_string_equal(x->work.auth, "hunter2");
    end_session(x);
    x->work.started = 0;
    x->work.auth[0] = '\0';
    make_session(x);
    WAIT(x->work.started == 1); /* the one without credentials */
    assert_int_equal(x->work.resume_step, 0);
    WAIT(x->work.fulls == 2);
    assert_int_equal(x->last_seq, 2);
    command(x, 2, "secret", "hunter2");
    WAIT(x->work.started == 2);
    assert_string_equal(x->work.auth, "hunter2");
    assert_int_equal(x->work.resume_step, 0);
    event_signal(&x->work.go);
    WAIT(HEARD(x, RESULT) == 2);
}

static void test_commands_are_resumed_and_credentials_never_stored(void **state)
{
    run(*state, resume_body);
}

static void order_body(struct ctx *x)
{
    make_session(x);
    WAIT(x->work.fulls == 1);
    command(x, 1, "a", "hunter2");
    command(x, 2, "b", NULL);
    WAIT(x->work.started == 2);
    end_session(x);
    x->work.started = 0;
    x->work.order[0] = '\0';
    make_session(x);
    WAIT(x->work.fulls == 2);
    command(x, 3, "c", NULL); /* anew, and for the same service */
    WAIT(HEARD(x, RECEIVED) == 3);
    assert_int_equal(fiber_sleep(200 * USEC_MSEC), 0);
    assert_string_equal(x->work.order, ""); /* the first one has no credentials yet */
    command(x, 1, "a", "hunter2");
    WAIT(x->work.started == 3);
    assert_string_equal(x->work.order, "abc");
    event_signal(&x->work.go);
    WAIT(HEARD(x, RESULT) == 3);
}

static void test_commands_of_a_service_keep_their_order_through_a_crash(void **state)
{
    run(*state, order_body);
}

static void cancel(struct ctx *x, uint64_t seq, const char *id)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__CancelCommand c = DAVIT__LINK__V1__CANCEL_COMMAND__INIT;
    c.seq = seq;
    c.id = (char *)(uintptr_t)id;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_CANCEL_COMMAND;
    m.cancel_command = &c;
    tell(x, &m);
}

static const Davit__Link__V1__CommandResult *last_result(struct ctx *x)
{
    const Davit__Link__V1__AgentMessage *last = NULL;
    (void)LAST(x, RESULT, &last);
    assert_non_null(last);
    return last->result;
}

static void cancel_body(struct ctx *x)
{
    make_session(x);
    WAIT(x->work.fulls == 1);
    cancel(x, 7, "g"); /* nothing is known of it */
    command(x, 1, "a", "hunter2");
    WAIT(x->work.started == 1);
    cancel(x, 1, "b"); /* another id: not this one */
    cancel(x, 1, "a");
    WAIT(*x->work.cancelled);
    assert_string_equal(x->work.cancelled, "a");
    assert_int_equal(x->work.cancelled_seq, 1);
    end_session(x);
    x->work.started = 0;
    make_session(x);
    WAIT(x->work.fulls == 2);
    command(x, 2, "b", NULL); /* the same service: it waits for the first one, which waits for its credentials */
    WAIT(HEARD(x, RECEIVED) == 2);
    cancel(x, 2, "b");
    WAIT(HEARD(x, RESULT) == 1);
    assert_string_equal(last_result(x)->id, "b");
    assert_int_equal(last_result(x)->failure->code, ERR_CANCELLED);
    assert_string_equal(last_result(x)->failure->reason, "cancelled");
    assert_int_equal(x->work.started, 0);
    /* The first one has begun and has to be undone: it goes to the work without its credentials, which hears of the wish. */
    cancel(x, 1, "a");
    WAIT(x->work.started == 1);
    assert_true(x->work.cancel_known && x->work.resume_step == 0);
    cancel(x, 1, "a"); /* again: harmless */
    event_signal(&x->work.go);
    WAIT(HEARD(x, RESULT) == 2);
}

/* req: CX-4 */
static void test_a_command_that_is_not_wanted_any_more(void **state)
{
    run(*state, cancel_body);
}

static void waits_for(void *arg)
{
    (void)event_wait(arg, USEC_INFINITY);
}

static void fibers_body(struct ctx *x)
{
    struct event end;
    unsigned n = 0;
    make_session(x);
    WAIT(x->work.fulls == 1 && HEARD(x, HEARTBEAT) == 1);
    event_init(&end, x->loop);
    event_signal(&x->work.go);
    /* Fibers of the session's own that end meanwhile leave room: it is full when nothing of it comes free any more. */
    for (unsigned quiet = 0; quiet < 10; quiet++) {
        for (; fiber_spawn(x->loop, "crowd", waits_for, &end, NULL) == 0; quiet = 0)
            n++;
        assert_int_equal(fiber_sleep(10 * USEC_MSEC), 0);
    }
    assert_true(n > 100);
    command(x, 1, "a", NULL);
    WAIT(HEARD(x, RECEIVED) == 1);
    assert_int_equal(fiber_sleep(100 * USEC_MSEC), 0);
    assert_int_equal(x->work.started, 0);
    event_signal(&end);
    WAIT(HEARD(x, RESULT) == 1);
    assert_int_equal(x->work.started, 1);
    assert_int_equal(x->hellos, 1); /* without a new connection */
    event_release(&end);
}

static void test_a_command_that_got_no_fiber_starts_when_there_is_one(void **state)
{
    run(*state, fibers_body);
}

static void fenced_body(struct ctx *x)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__Fenced f = DAVIT__LINK__V1__FENCED__INIT;
    struct session_status st;
    make_session(x);
    WAIT(x->work.fulls == 1);
    f.reason = (char *)(uintptr_t)"another one came";
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_FENCED;
    m.fenced = &f;
    tell(x, &m);
    WAIT(x->fenced[0]);
    assert_string_equal(x->fenced, "another one came");
    session_status(x->session, &st);
    assert_int_equal(st.state, SESSION_FENCED);
    assert_int_equal(fiber_sleep(100 * USEC_MSEC), 0);
    assert_int_equal(x->opened, 1);
    /* It asks again, with the epoch that it had; this control plane has nobody else any more. */
    uint64_t epoch = x->epoch;
    WAIT(x->hellos == 2);
    assert_int_equal(x->epoch, epoch);
    WAIT(x->work.fulls == 2);
    cut(x);
    WAIT(x->hellos == 3);
    assert_int_equal(x->epoch, epoch + 1);
}

/* req: CB-8 */
static void test_a_fenced_agent_takes_over_from_nobody(void **state)
{
    run(*state, fenced_body);
}

static void on_fenced_in_a_tunnel(void *arg, const char *reason)
{
    struct ctx *x = arg;
    (void)str_copy(x->fenced, sizeof(x->fenced), str_from(reason));
}

static void fenced_tunnel_body(struct ctx *x)
{
    struct agent_config c;
    struct session_status st;
    assert_int_equal(agent_config_init(&c, x->dir, NULL), 0);
    struct tunnel *t = tunnel_new(x->loop, &c); /* has no access token */
    const struct session_config config = {.loop = x->loop,
                                          .journal = x->journal,
                                          .sysinfo = x->sysinfo,
                                          .endpoint = x->addr,
                                          .tunnel = t,
                                          .was_fenced = true,
                                          .fenced = on_fenced_in_a_tunnel,
                                          .arg = x};
    x->session = session_new(&config);
    assert_int_equal(session_start(x->session), 0);
    WAIT(x->fenced[0]);
    assert_non_null(strstr(x->fenced, "enroll it anew"));
    session_status(x->session, &st);
    assert_int_equal(st.state, SESSION_FENCED);
    end_session(x);
    (void)tunnel_free(t);
    agent_config_release(&c);
}

/* The key of a copy is the same in tunnel mode: a new token would take the place back. */
/* req: CB-8 */
static void test_a_fenced_agent_in_tunnel_mode_asks_for_no_other_token(void **state)
{
    run(*state, fenced_tunnel_body);
}

static void limit_body(struct ctx *x)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__UsageBatch u = DAVIT__LINK__V1__USAGE_BATCH__INIT;
    struct session_status st;
    make_session(x);
    WAIT(x->work.fulls == 1);
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_USAGE;
    m.usage = &u;
    session_status(x->session, &st);
    assert_int_equal(st.dropped, 0);
    WAIT(HEARD(x, HEARTBEAT) == 1);
    for (unsigned i = 0; i < SESSION_ITEMS_SOFT + 10; i++)
        session_send(x->session, &m);
    session_status(x->session, &st);
    assert_int_equal(st.dropped, 10);
    WAIT(HEARD(x, USAGE) == SESSION_ITEMS_SOFT);
}

static void test_usage_is_dropped_and_counted_when_the_queue_is_full(void **state)
{
    run(*state, limit_body);
}

/* The end of a test on the fake clock, once the time is real again. */
static void nothing(struct ctx *x)
{
    (void)x;
}

/* req: CL-27 */
static void test_a_heartbeat_every_30_seconds(void **state)
{
    struct ctx *x = *state;
    clock_fake(1000 * USEC_SEC, 1700000000 * USEC_SEC);
    make_session(x);
    loop_advance(x->loop, USEC_SEC);
    assert_int_equal(HEARD(x, HEARTBEAT), 1);
    for (unsigned i = 2; i <= 6; i++) {
        loop_advance(x->loop, 28 * USEC_SEC);
        assert_int_equal(HEARD(x, HEARTBEAT), i - 1);
        loop_advance(x->loop, 2 * USEC_SEC);
        assert_int_equal(HEARD(x, HEARTBEAT), i);
    }
    assert_int_equal(x->opened, 1);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    run(x, nothing);
}

/* req: CL-2 CL-7 */
static void test_silence_is_noticed_within_a_minute_and_the_link_made_anew(void **state)
{
    struct ctx *x = *state;
    struct session_status st;
    clock_fake(1000 * USEC_SEC, 1700000000 * USEC_SEC);
    make_session(x);
    loop_advance(x->loop, USEC_SEC);
    session_status(x->session, &st);
    assert_int_equal(st.state, SESSION_ONLINE);
    x->ack_beats = false; /* right after the last answer: the worst moment */
    x->deaf_once = true;
    loop_advance(x->loop, 46 * USEC_SEC);
    session_status(x->session, &st);
    assert_true(st.state != SESSION_ONLINE || st.connections > 1);
    assert_non_null(strstr(st.error, "heartbeat"));
    loop_advance(x->loop, 14 * USEC_SEC);
    session_status(x->session, &st);
    assert_int_equal(st.state, SESSION_ONLINE);
    assert_int_equal(x->hellos, 2);
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    run(x, nothing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hello_then_at_once_a_heartbeat_with_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_command_is_in_the_journal_before_it_is_received, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_result_goes_again_until_it_is_acknowledged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_work_goes_on_while_the_link_is_down, setup, teardown),
        cmocka_unit_test_setup_teardown(test_commands_are_resumed_and_credentials_never_stored, setup, teardown),
        cmocka_unit_test_setup_teardown(test_commands_of_a_service_keep_their_order_through_a_crash, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_command_that_is_not_wanted_any_more, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_command_that_got_no_fiber_starts_when_there_is_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_fenced_agent_takes_over_from_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_fenced_agent_in_tunnel_mode_asks_for_no_other_token, setup, teardown),
        cmocka_unit_test_setup_teardown(test_usage_is_dropped_and_counted_when_the_queue_is_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_heartbeat_every_30_seconds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_silence_is_noticed_within_a_minute_and_the_link_made_anew, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
