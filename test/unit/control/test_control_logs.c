/* SPDX-License-Identifier: Apache-2.0 */
/* Logs through an agent that speaks the link by hand: credit, resuming, the end, slow callers, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "control/link/commands.h"
#include "control/link/links.h"
#include "control_fixture.h"

#define GET(a, kind) agent_get((a), DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_##kind, &err)
#define WORK         (&davit_control_v1_workload_service)

/* --- Logs ------------------------------------------------------------------------------------------------------------------------- */

static void send_logs(struct agent *a, uint64_t stream, uint64_t from_ns, size_t n, size_t size)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__LogBatch b = DAVIT__LINK__V1__LOG_BATCH__INIT;
    Davit__Common__V1__LogEntry *e = mem_zalloc(n, sizeof(*e));
    Davit__Common__V1__LogEntry **list = mem_zalloc(n, sizeof(*list));
    uint8_t *line = mem_zalloc(size + 1, 1);
    memset(line, 'x', size);
    for (size_t i = 0; i < n; i++) {
        davit__common__v1__log_entry__init(&e[i]);
        e[i].stream = i % 2 ? DAVIT__COMMON__V1__LOG_STREAM__LOG_STREAM_STDERR : DAVIT__COMMON__V1__LOG_STREAM__LOG_STREAM_STDOUT;
        e[i].at_ns = from_ns + i;
        e[i].line = (ProtobufCBinaryData){size, line};
        list[i] = &e[i];
    }
    b.stream_id = stream;
    b.entries = list;
    b.n_entries = n;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_LOGS;
    m.logs = &b;
    CHECK(agent_put(a, &m) == 0);
    free(line);
    free(list);
    free(e);
}

static void end_logs(struct agent *a, uint64_t stream)
{
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__LogEnd e = DAVIT__LINK__V1__LOG_END__INIT;
    e.stream_id = stream;
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_LOG_END;
    m.log_end = &e;
    CHECK(agent_put(a, &m) == 0);
}

static struct rpc_stream *open_logs(struct fixture *f, bool follow, int64_t tail)
{
    struct err err = ERR_INIT;
    struct rpc_stream *s = NULL;
    Davit__Control__V1__LogsRequest r = DAVIT__CONTROL__V1__LOGS_REQUEST__INIT;
    r.project = W("shop");
    r.service = W("web");
    r.follow = follow;
    r.tail = tail;
    CHECK_OK(rpc_stream_open(f->api, WORK, "Logs", USEC_INFINITY, &s, &err));
    CHECK_OK(rpc_stream_put(s, &r.base, SOON, &err));
    rpc_stream_half_close(s);
    return s;
}

/* Entries of the next answer that has some; notices are passed over. -1: the end. */
static int next_entries(struct rpc_stream *s, uint64_t *ret_last_ns)
{
    struct err err = ERR_INIT;
    for (;;) {
        ProtobufCMessage *m = NULL;
        int rc = rpc_stream_get(s, SOON, &m, &err);
        if (rc != 0)
            return -1;
        const Davit__Control__V1__LogsResponse *l = (const Davit__Control__V1__LogsResponse *)m;
        int n = (int)l->n_entries;
        if (n)
            *ret_last_ns = l->entries[n - 1]->at_ns;
        (void)rpc_message_free(m);
        if (n)
            return n;
    }
}

static void logs_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    uint64_t at = 0;
    work_connect(f, &a, 1, 0);
    (void)rpc_message_free(work_deploy(f, "web", false));
    work_obey(&a, "c1", "d1");
    struct rpc_stream *s = open_logs(f, true, 10);
    Davit__Link__V1__ControlMessage *m = GET(&a, LOG_OPEN);
    CHECK(m && m->log_open->tail == 10 && m->log_open->follow && m->log_open->credit_bytes > 0);
    CHECK_STR(m->log_open->container_id, "c1");
    send_logs(&a, m->log_open->stream_id, 1000, 4, 10);
    (void)rpc_message_free(m);
    CHECK(next_entries(s, &at) == 4 && at == 1003);
    m = GET(&a, LOG_CREDIT);
    CHECK(m && m->log_credit->bytes == 40);
    (void)rpc_message_free(m);

    /* The link is lost: the caller stays, and the next link is asked for what comes behind the last entry. */
    agent_close(&a);
    work_connect(f, &a, 2, 1);
    m = GET(&a, LOG_OPEN);
    CHECK(m && m->log_open->stdout_from && m->log_open->stdout_from->at_ns == 1002 && m->log_open->stdout_from->entries == 1);
    CHECK(m->log_open->stderr_from && m->log_open->stderr_from->at_ns == 1003 && m->log_open->stderr_from->entries == 1);
    send_logs(&a, m->log_open->stream_id, 1004, 1, 10);
    CHECK(next_entries(s, &at) == 1 && at == 1004);
    (void)rpc_message_free(GET(&a, LOG_CREDIT));

    /* Another container takes over. It started while the one before still wrote: it is read from its start. */
    uint64_t late = (clock_real() + 60 * USEC_SEC) * 1000;
    send_logs(&a, m->log_open->stream_id, late, 1, 10);
    CHECK(next_entries(s, &at) == 1 && at == late);
    (void)rpc_message_free(GET(&a, LOG_CREDIT));
    Davit__Link__V1__AgentMessage gone = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__ContainerStates states = DAVIT__LINK__V1__CONTAINER_STATES__INIT;
    char *removed[] = {W("c1")};
    states.removed_ids = removed;
    states.n_removed_ids = 1;
    gone.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_CONTAINERS;
    gone.containers = &states;
    end_logs(&a, m->log_open->stream_id);
    (void)rpc_message_free(m);
    CHECK(agent_put(&a, &gone) == 0);
    agent_container(&a, "c2", "shop", "web", "d2");
    m = GET(&a, LOG_OPEN);
    CHECK(m);
    CHECK_STR(m->log_open->container_id, "c2");
    CHECK(m->log_open->stdout_from && m->log_open->stdout_from->at_ns > 1004 && m->log_open->stdout_from->at_ns < late);
    CHECK(m->log_open->stderr_from && m->log_open->stderr_from->at_ns == m->log_open->stdout_from->at_ns);
    (void)rpc_message_free(m);
    /* The caller goes: the agent is told to stop. */
    (void)rpc_stream_close(s);
    m = GET(&a, LOG_CLOSE);
    CHECK(m);
    (void)rpc_message_free(m);
    agent_close(&a);
}

/* req: CL-15 */
static void logs(void **state)
{
    (void)state;
    fixture_run(logs_body);
}

static void logs_end_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    uint64_t at = 0;
    work_connect(f, &a, 1, 0);
    (void)rpc_message_free(work_deploy(f, "web", false));
    work_obey(&a, "c1", "d1");
    struct rpc_stream *s = open_logs(f, false, -1);
    Davit__Link__V1__ControlMessage *m = GET(&a, LOG_OPEN);
    send_logs(&a, m->log_open->stream_id, 1, 3, 5);
    end_logs(&a, m->log_open->stream_id);
    (void)rpc_message_free(m);
    CHECK(next_entries(s, &at) == 3);
    CHECK(next_entries(s, &at) == -1);
    (void)rpc_stream_close(s);
    agent_close(&a);
    /* Without an agent, and for what is not there: told at once. */
    for (int i = 0; servers_local(f->c)->link; i++)
        CHECK(i < 100 && fiber_sleep(20 * USEC_MSEC) == 0);
    s = open_logs(f, false, -1);
    ProtobufCMessage *none = NULL;
    CHECK(rpc_stream_get(s, SOON, &none, &err) == -(int)ERR_UNAVAILABLE);
    (void)rpc_stream_close(s);
}

static void logs_end(void **state)
{
    (void)state;
    fixture_run(logs_end_body);
}

/* A caller that does not read: the agent gets no more credit than what has gone out, and memory stays bounded. */
static void backpressure_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    uint64_t at = 0;
    work_connect(f, &a, 1, 0);
    (void)rpc_message_free(work_deploy(f, "web", false));
    work_obey(&a, "c1", "d1");
    struct rpc_stream *s = open_logs(f, true, -1);
    Davit__Link__V1__ControlMessage *m = GET(&a, LOG_OPEN);
    CHECK(m);
    uint64_t id = m->log_open->stream_id, credit = m->log_open->credit_bytes, sent = 0;
    enum { LINE = 1000, LINES = 16 };
    (void)rpc_message_free(m);
    /* Keeps to its credit; stops when none has come for a while. */
    for (;;) {
        while (credit >= LINE * LINES) {
            send_logs(&a, id, sent + 1, LINES, LINE);
            sent += LINES;
            credit -= LINE * LINES;
        }
        ProtobufCMessage *got = NULL;
        int rc = rpc_stream_get(a.stream, deadline_in(700 * USEC_MSEC), &got, &err);
        if (rc == -(int)ERR_DEADLINE)
            break;
        CHECK(rc == 0);
        const Davit__Link__V1__ControlMessage *c = (const Davit__Link__V1__ControlMessage *)got;
        if (c->body_case == DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_LOG_CREDIT)
            credit += c->log_credit->bytes;
        (void)rpc_message_free(got);
        CHECK(sent * LINE < 64 << 20); /* nobody reads: it must come to a halt */
    }
    CHECK(sent > 0);
    /* All that was sent arrives, in order, once it is read. */
    uint64_t got = 0;
    while (got < sent) {
        int n = next_entries(s, &at);
        CHECK(n > 0);
        got += (uint64_t)n;
        CHECK(at == got);
    }
    (void)rpc_stream_close(s);
    agent_close(&a);
}

static void backpressure(void **state)
{
    (void)state;
    fixture_run(backpressure_body);
}

static void reader_limit_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    struct rpc_stream *s[LINK_LOGS_MAX + 1];
    ProtobufCMessage *none = NULL;
    work_connect(f, &a, 1, 0);
    (void)rpc_message_free(work_deploy(f, "web", false));
    work_obey(&a, "c1", "d1");
    for (int i = 0; i < LINK_LOGS_MAX; i++) {
        s[i] = open_logs(f, false, -1);
        (void)rpc_message_free(GET(&a, LOG_OPEN));
    }
    s[LINK_LOGS_MAX] = open_logs(f, false, -1);
    CHECK(rpc_stream_get(s[LINK_LOGS_MAX], SOON, &none, &err) == -(int)ERR_EXHAUSTED);
    for (int i = 0; i <= LINK_LOGS_MAX; i++)
        (void)rpc_stream_close(s[i]);
    agent_close(&a);
}

static void reader_limit(void **state)
{
    (void)state;
    fixture_run(reader_limit_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logs),
        cmocka_unit_test(logs_end),
        cmocka_unit_test(backpressure),
        cmocka_unit_test(reader_limit),
    };
    return cmocka_run_group_tests_name("control_logs", tests, NULL, NULL);
}
