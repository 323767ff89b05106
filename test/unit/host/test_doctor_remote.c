/* SPDX-License-Identifier: Apache-2.0 */
/* The doctor as a process of its own: what it prints becomes a report, whatever else it does becomes one check that says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fd.h"
#include "host/link/doctor_remote.h"
#include "loop/loop.h"
#include "rpc/rpc.h"

struct seen {
    struct loop *loop;
    struct event came;
    uint64_t ids[DOCTOR_ASKERS_MAX + 2];
    size_t n;
    char last[400];
    Davit__Common__V1__DoctorVerdict verdict;
    size_t checks;
    struct doctor_remote *d;
    const char *script;
    char path[64];
    unsigned asks;
};

static void on_send(void *arg, const Davit__Link__V1__AgentMessage *m)
{
    struct seen *s = arg;
    assert_int_equal(m->body_case, DAVIT__LINK__V1__AGENT_MESSAGE__BODY_DOCTOR_REPORT);
    assert_true(s->n < ARRAY_LEN(s->ids));
    s->ids[s->n++] = m->doctor_report->request_id;
    s->checks = m->doctor_report->n_checks;
    s->verdict = m->doctor_report->checks[0]->verdict;
    (void)str_copy(s->last, sizeof s->last, str_from(m->doctor_report->checks[0]->message));
    event_signal(&s->came);
}

static void drive(void *arg)
{
    struct seen *s = arg;
    const struct doctor_remote_config config = {
        .loop = s->loop, .program = s->path, .config_dir = "/nonexistent", .docker = "unix:/nonexistent", .send = on_send, .arg = s};
    unsigned wanted = s->asks < DOCTOR_ASKERS_MAX ? s->asks : DOCTOR_ASKERS_MAX;
    s->d = doctor_remote_new(&config);
    for (unsigned i = 0; i < s->asks; i++)
        doctor_remote_ask(s->d, 100 + i);
    while (s->script && s->n < wanted)
        assert_int_equal(event_wait(&s->came, deadline_in(20 * USEC_SEC)), 0);
    assert_int_equal(doctor_remote_stop(s->d, deadline_in(10 * USEC_SEC)), 0);
    s->d = doctor_remote_free(s->d);
    loop_stop(s->loop);
}

/* Runs @script as the program; NULL: one that hangs, and the agent is stopped meanwhile. */
static struct seen ask(const char *script, unsigned asks)
{
    struct seen s = {.loop = loop_new(), .script = script, .asks = asks, .path = "/tmp/davit-doctor.XXXXXX"};
    AUTO_FREE char *text = str_printf("#!/bin/sh\n%s\n", script ? script : "exec sleep 60");
    assert_non_null(mkdtemp(s.path));
    AUTO_FREE char *dir = str_dup(str_from(s.path));
    (void)snprintf(s.path, sizeof s.path, "%s/p", dir);
    assert_int_equal(fd_write_file(s.path, text, str_from(text).n, 0700, NULL), 0);
    event_init(&s.came, s.loop);
    assert_int_equal(fiber_spawn(s.loop, "drive", drive, &s, NULL), 0);
    loop_run(s.loop);
    event_release(&s.came);
    (void)loop_free(s.loop);
    (void)unlink(s.path);
    (void)rmdir(dir);
    return s;
}

#define ONE "{\"version\":\"1\",\"ok\":false,\"checks\":[{\"name\":\"docker\",\"result\":\"WARN\",\"message\":\"m\",\"fix\":\"f\"}]}"

static void test_one_run_answers_all_who_ask_meanwhile_up_to_the_limit(void **state)
{
    (void)state;
    struct seen s = ask("echo '" ONE "'; exit 1", DOCTOR_ASKERS_MAX + 1);
    assert_int_equal(s.n, DOCTOR_ASKERS_MAX);
    for (size_t i = 0; i < s.n; i++)
        assert_int_equal(s.ids[i], 100 + i);
    assert_int_equal(s.checks, 1);
    assert_int_equal(s.verdict, DAVIT__COMMON__V1__DOCTOR_VERDICT__DOCTOR_VERDICT_WARN);
    assert_string_equal(s.last, "m");
}

static void test_what_is_no_report_becomes_a_fail_that_says_so(void **state)
{
    (void)state;
    static const struct {
        const char *script, *says;
    } cases[] = {
        {"exit 2", "exit status 2"},
        {"kill -9 $$", "exit status 137"},
        {"echo nonsense", ""},
        {"echo '" ONE "' junk", ""},
        {"echo '{\"checks\":[]}'", "no check at all"},
        {"echo '{\"checks\":[{\"name\":\"x\",\"result\":\"GOOD\"}]}'", "without name or result"},
        {"echo '{\"checks\":[{\"result\":\"OK\"}]}'", "without name or result"},
        {"head -c 70000 /dev/zero | tr '\\0' x", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct seen s = ask(cases[i].script, 1);
        assert_int_equal(s.n, 1);
        assert_int_equal(s.checks, 1);
        assert_int_equal(s.verdict, DAVIT__COMMON__V1__DOCTOR_VERDICT__DOCTOR_VERDICT_FAIL);
        if (!strstr(s.last, cases[i].says))
            fail_msg("%s: %s", cases[i].script, s.last);
    }
}

static void test_an_agent_that_ends_kills_it_and_sends_nothing(void **state)
{
    (void)state;
    usec_t began = clock_mono();
    struct seen s = ask(NULL, 1);
    assert_int_equal(s.n, 0);
    assert_true(clock_mono() - began < 15 * USEC_SEC);
}

static void test_a_report_has_a_limit(void **state)
{
    (void)state;
    for (int over = 0; over < 2; over++) {
        AUTO_BUF text = BUF_INIT(DOCTOR_OUTPUT_MAX);
        Davit__Link__V1__DoctorReport *r = calloc(1, sizeof *r);
        assert_non_null(r);
        davit__link__v1__doctor_report__init(r);
        assert_int_equal(buf_append_cstr(&text, "{\"checks\":["), 0);
        for (int i = 0; i < DOCTOR_ROWS_MAX + over; i++)
            assert_int_equal(buf_printf(&text, "%s{\"name\":\"n\",\"result\":\"OK\"}", i ? "," : ""), 0);
        assert_int_equal(buf_append_cstr(&text, "]}"), 0);
        assert_int_equal(doctor_remote_parse(buf_str(&text), r, NULL), over ? -(int)ERR_INVALID : 0);
        assert_int_equal(r->n_checks, DOCTOR_ROWS_MAX);
        (void)rpc_message_free(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_run_answers_all_who_ask_meanwhile_up_to_the_limit),
        cmocka_unit_test(test_what_is_no_report_becomes_a_fail_that_says_so),
        cmocka_unit_test(test_an_agent_that_ends_kills_it_and_sends_nothing),
        cmocka_unit_test(test_a_report_has_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
