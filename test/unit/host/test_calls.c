/* SPDX-License-Identifier: Apache-2.0 */
/* test_calls — credit both ways, limits and ends of the calls of an agent. calls.c alone: what it needs of the rest of its folder is made here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "host/work/calls.h"
#include "rpc/rpc.h"

/* --- The rest of work ---- */

static void worker_run(void *arg)
{
    struct worker *k = arg;
    k->fn(k->arg);
    list_remove(&k->node);
    (void)fiber_unref(k->fiber);
    free(k);
}

struct worker *work_spawn(struct work *w, const char *name, void (*fn)(void *arg), void *arg)
{
    struct worker *k = NEW(struct worker);
    *k = (struct worker){.w = w, .fn = fn, .arg = arg};
    list_init(&k->node);
    if (fiber_spawn(w->loop, name, worker_run, k, &k->fiber) < 0) {
        free(k);
        return NULL;
    }
    list_push(&w->workers, &k->node);
    return k;
}

void work_send(struct work *w, const Davit__Link__V1__AgentMessage *msg)
{
    w->send(w->arg, msg);
}

const char *reason_of(const struct err *err)
{
    return err->code == ERR_EXHAUSTED ? "limit" : "other";
}

/* --- What a call does here ---- */

static struct said {
    size_t data, credit, ends;
    uint32_t code;
    char reason[32];
    int exit_code;
} said;

static size_t to_send, input_seen;
static int input_end;

static void on_send(void *arg, const Davit__Link__V1__AgentMessage *m)
{
    (void)arg;
    if (m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CALL_DATA) {
        assert_true(m->call_data->data.len > 0 && m->call_data->data.len <= CALL_PIECE);
        said.data += m->call_data->data.len;
    } else if (m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CALL_CREDIT) {
        said.credit += m->call_credit->bytes;
    } else if (m->body_case == DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CALL_END) {
        said.ends++;
        said.code = m->call_end->failure ? m->call_end->failure->code : 0;
        (void)str_copy(said.reason, sizeof(said.reason), str_from(m->call_end->failure ? m->call_end->failure->reason : ""));
        said.exit_code = m->call_end->result_case == DAVIT__LINK__V1__CALL_END__RESULT_EXEC ? m->call_end->exec->exit_code : -1;
    }
}

/* Sends to_send bytes, then takes all input. */
int call_exec(struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err)
{
    static const char bytes[1000];
    Davit__Link__V1__ExecEnd e = DAVIT__LINK__V1__EXEC_END__INIT;
    ProtobufCMessage *copy = NULL;
    struct str input;
    (void)reason;
    for (size_t left = to_send; left > 0; left -= left < sizeof(bytes) ? left : sizeof(bytes)) {
        int rc = call_send(c, 1, (struct str){bytes, left < sizeof(bytes) ? left : sizeof(bytes)});
        if (rc < 0)
            return err_set(err, (enum err_code)-rc, "given up");
    }
    while ((input_end = call_input(c, &input, USEC_INFINITY)) == 0)
        input_seen += input.n;
    if (input_end < 0)
        return err_set(err, (enum err_code)-input_end, "given up");
    e.exit_code = 42;
    assert_int_equal(rpc_copy(&e.base, &copy), 0);
    end->result_case = DAVIT__LINK__V1__CALL_END__RESULT_EXEC;
    end->exec = (Davit__Link__V1__ExecEnd *)copy;
    return 0;
}

#define OTHER(name)                                                                                             \
    int name(struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err)               \
    {                                                                                                           \
        (void)c, (void)end, (void)reason;                                                                       \
        return err_set(err, ERR_INTERNAL, "not here");                                                          \
    }
OTHER(call_image_list)
OTHER(call_image_pull)
OTHER(call_image_check)
OTHER(call_image_remove)
OTHER(call_prune_plan)
OTHER(call_prune_apply)
OTHER(call_volume_list)
OTHER(call_volume_remove)
OTHER(call_container)

/* Bytes that are not all taken. */
int call_file(struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err)
{
    (void)end;
    (void)reason;
    int rc = call_send_within(c, 0, STR("1234567890"), 20 * USEC_MSEC);
    return err_set(err, rc < 0 ? (enum err_code)-rc : ERR_INTERNAL, "not taken");
}

/* --- Around a test ---- */

static int setup(void **state)
{
    struct work *w = NEW(struct work);
    w->loop = loop_new();
    w->send = on_send;
    list_init(&w->workers);
    calls_start(w);
    memset(&said, 0, sizeof(said));
    to_send = input_seen = 0;
    input_end = 0;
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct work *w = *state;
    work_calls_reset(w);
    loop_run(w->loop);
    assert_true(list_empty(&w->workers));
    calls_free(w);
    (void)loop_free(w->loop);
    free(w);
    return 0;
}

static void open_call(struct work *w, uint64_t id, uint32_t credit)
{
    Davit__Link__V1__CallOpen m = DAVIT__LINK__V1__CALL_OPEN__INIT;
    Davit__Link__V1__ExecCall exec = DAVIT__LINK__V1__EXEC_CALL__INIT;
    m.call_id = id;
    m.credit_bytes = credit;
    m.body_case = DAVIT__LINK__V1__CALL_OPEN__BODY_EXEC;
    m.exec = &exec;
    work_call_open(w, &m);
}

static void give_input(struct work *w, uint64_t id, size_t n, bool last)
{
    static uint8_t bytes[CALL_CREDIT + 1];
    Davit__Link__V1__CallData m = DAVIT__LINK__V1__CALL_DATA__INIT;
    m.call_id = id;
    m.data = (ProtobufCBinaryData){n, bytes};
    m.last = last;
    work_call_data(w, &m);
}

/* Until nothing happens by itself. */
static void settle(struct work *w)
{
    loop_run(w->loop);
}

/* req: WK-3 */
static void test_output_stops_where_the_credit_ends(void **state)
{
    struct work *w = *state;
    Davit__Link__V1__CallCredit more = DAVIT__LINK__V1__CALL_CREDIT__INIT;
    to_send = 100000;
    open_call(w, 7, 1234);
    settle(w);
    assert_int_equal(said.data, 1234);
    more.call_id = 7;
    more.bytes = 66;
    work_call_credit(w, &more);
    settle(w);
    assert_int_equal(said.data, 1300);
    more.bytes = UINT32_MAX;
    work_call_credit(w, &more);
    work_call_credit(w, &more);
    give_input(w, 7, 0, true);
    settle(w);
    assert_int_equal(said.data, 100000);
    assert_int_equal(said.ends, 1);
    assert_int_equal(said.exit_code, 42);
}

/* req: WK-3 */
static void test_input_is_taken_up_to_the_credit_and_given_back(void **state)
{
    struct work *w = *state;
    to_send = 1; /* without credit for it nothing is taken */
    open_call(w, 1, 0);
    settle(w);
    assert_int_equal(said.credit, CALL_CREDIT);
    give_input(w, 1, CALL_CREDIT, false);
    settle(w);
    assert_int_equal(said.ends, 0);
    Davit__Link__V1__CallCredit more = DAVIT__LINK__V1__CALL_CREDIT__INIT;
    more.call_id = 1;
    more.bytes = 1;
    work_call_credit(w, &more);
    settle(w);
    assert_int_equal(input_seen, CALL_CREDIT);
    assert_int_equal(said.credit, 2 * CALL_CREDIT);
    give_input(w, 1, 5, true);
    give_input(w, 1, 5, false); /* behind the last: passed over */
    settle(w);
    assert_int_equal(input_seen, CALL_CREDIT + 5);
    assert_int_equal(said.exit_code, 42);
}

/* req: WK-3 */
static void test_a_byte_beyond_ends_the_call(void **state)
{
    struct work *w = *state;
    to_send = 1;
    open_call(w, 1, 0);
    give_input(w, 1, CALL_CREDIT, false);
    give_input(w, 1, 1, false);
    settle(w);
    assert_int_equal(said.ends, 1);
    assert_int_equal(said.code, ERR_INVALID);
    assert_int_equal(input_seen, 0);
}

/* req: WK-3 */
static void test_so_many_at_once_and_no_more(void **state)
{
    struct work *w = *state;
    for (uint64_t i = 1; i <= CALLS_MAX; i++)
        open_call(w, i, 0);
    assert_int_equal(said.ends, 0);
    open_call(w, CALLS_MAX + 1, 0);
    assert_int_equal(said.ends, 1);
    assert_int_equal(said.code, ERR_EXHAUSTED);
    give_input(w, 3, 0, true);
    settle(w);
    assert_int_equal(said.ends, 2);
    open_call(w, CALLS_MAX + 2, 0);
    open_call(w, 5, 0); /* a number that is in use */
    assert_int_equal(said.ends, 3);
    assert_int_equal(said.code, ERR_INVALID);
}

/* req: WK-3 */
static void test_what_is_closed_says_no_more(void **state)
{
    struct work *w = *state;
    Davit__Link__V1__CallClose m = DAVIT__LINK__V1__CALL_CLOSE__INIT;
    to_send = 10;
    open_call(w, 1, 5);
    open_call(w, 2, 5);
    settle(w);
    m.call_id = 1;
    work_call_close(w, &m);
    settle(w);
    work_calls_reset(w);
    settle(w);
    assert_int_equal(said.data, 10);
    assert_int_equal(said.ends, 0);
    assert_true(list_empty(&w->workers));
    open_call(w, 1, 100); /* the numbers are free again */
    give_input(w, 1, 0, true);
    settle(w);
    assert_int_equal(said.exit_code, 42);
}

/* req: WK-4 */
static void test_who_takes_nothing_is_waited_for_so_long_and_no_longer(void **state)
{
    struct work *w = *state;
    Davit__Link__V1__CallOpen m = DAVIT__LINK__V1__CALL_OPEN__INIT;
    Davit__Link__V1__FileCall file = DAVIT__LINK__V1__FILE_CALL__INIT;
    m.call_id = 1;
    m.credit_bytes = 5;
    m.body_case = DAVIT__LINK__V1__CALL_OPEN__BODY_FILE;
    m.file = &file;
    work_call_open(w, &m);
    settle(w);
    assert_int_equal(said.data, 5);
    assert_int_equal(said.ends, 1);
    assert_int_equal(said.code, ERR_DEADLINE);
}

/* req: WK-3 */
static void test_a_kind_that_is_not_known(void **state)
{
    struct work *w = *state;
    Davit__Link__V1__CallOpen m = DAVIT__LINK__V1__CALL_OPEN__INIT;
    m.call_id = 1;
    work_call_open(w, &m);
    assert_int_equal(said.ends, 1);
    assert_int_equal(said.code, ERR_UNIMPLEMENTED);
    assert_string_equal(said.reason, "unimplemented");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_output_stops_where_the_credit_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_input_is_taken_up_to_the_credit_and_given_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_byte_beyond_ends_the_call, setup, teardown),
        cmocka_unit_test_setup_teardown(test_so_many_at_once_and_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_closed_says_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_takes_nothing_is_waited_for_so_long_and_no_longer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_kind_that_is_not_known, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
