/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_remote — see doctor_remote.h. */
#include "host/link/doctor_remote.h"

#include "base/json.h"
#include "base/mem.h"
#include "loop/child.h"
#include "rpc/rpc.h"

struct doctor_remote {
    struct loop *loop;
    char *program, *config_dir, *link, *docker, *tailscale;
    void (*send)(void *arg, const Davit__Link__V1__AgentMessage *m);
    void *arg;
    struct fiber *fiber; /* of the run */
    bool running, stopping;
    struct event ended;
    uint64_t ids[DOCTOR_ASKERS_MAX];
    size_t n_ids;
};

static char *copy(const char *s)
{
    return s ? str_dup(str_from(s)) : NULL;
}

struct doctor_remote *doctor_remote_new(const struct doctor_remote_config *config)
{
    struct doctor_remote *d = NEW(struct doctor_remote);
    d->loop = config->loop;
    d->program = copy(config->program ? config->program : "/proc/self/exe");
    d->config_dir = copy(config->config_dir);
    d->link = copy(config->link);
    d->docker = copy(config->docker);
    d->tailscale = copy(config->tailscale);
    d->send = config->send;
    d->arg = config->arg;
    event_init(&d->ended, d->loop);
    return d;
}

struct doctor_remote *doctor_remote_free(struct doctor_remote *d)
{
    if (!d)
        return NULL;
    BUG_ON(d->running);
    (void)fiber_unref(d->fiber);
    event_release(&d->ended);
    free(d->program);
    free(d->config_dir);
    free(d->link);
    free(d->docker);
    free(d->tailscale);
    free(d);
    return NULL;
}

/* --- The report ---- */

static int verdict_of(struct str word)
{
    static const char *const words[] = {[DAVIT__COMMON__V1__DOCTOR_VERDICT__DOCTOR_VERDICT_OK] = "OK",
                                        [DAVIT__COMMON__V1__DOCTOR_VERDICT__DOCTOR_VERDICT_WARN] = "WARN",
                                        [DAVIT__COMMON__V1__DOCTOR_VERDICT__DOCTOR_VERDICT_FAIL] = "FAIL"};
    for (size_t i = 1; i < ARRAY_LEN(words); i++)
        if (str_eq(word, str_from(words[i])))
            return (int)i;
    return 0;
}

static int read_text(struct json *j, char **at, struct err *err)
{
    struct str s;
    int rc = json_read_str(j, &s, err);
    if (rc == 0 && s.n && *at == (char *)(uintptr_t)protobuf_c_empty_string)
        *at = str_dup(s);
    return rc;
}

static int read_check(struct json *j, Davit__Common__V1__DoctorCheck *c, struct err *err)
{
    struct str key, word;
    int rc = json_enter(j, JSON_OBJECT, err);
    while (rc >= 0 && (rc = json_key(j, &key, err)) == 1) {
        if (str_eq(key, STR("name"))) {
            rc = read_text(j, &c->name, err);
        } else if (str_eq(key, STR("message"))) {
            rc = read_text(j, &c->message, err);
        } else if (str_eq(key, STR("fix"))) {
            rc = read_text(j, &c->fix, err);
        } else if (str_eq(key, STR("result"))) {
            if ((rc = json_read_str(j, &word, err)) == 0)
                c->verdict = (Davit__Common__V1__DoctorVerdict)verdict_of(word);
        } else {
            rc = json_skip(j, err);
        }
    }
    if (rc == 0 && (!*c->name || !c->verdict))
        return err_set(err, ERR_INVALID, "a check without name or result");
    return rc;
}

static int read_checks(struct json *j, Davit__Link__V1__DoctorReport *ret, struct err *err)
{
    int rc = json_enter(j, JSON_ARRAY, err);
    if (rc == 0 && !ret->checks)
        ret->checks = mem_zalloc(DOCTOR_ROWS_MAX, sizeof(*ret->checks));
    while (rc >= 0 && (rc = json_item(j, err)) == 1) {
        if (ret->n_checks == DOCTOR_ROWS_MAX)
            return err_set(err, ERR_INVALID, "more than %d checks", DOCTOR_ROWS_MAX);
        Davit__Common__V1__DoctorCheck *c = NEW(Davit__Common__V1__DoctorCheck);
        davit__common__v1__doctor_check__init(c);
        ret->checks[ret->n_checks++] = c;
        rc = read_check(j, c, err);
    }
    return rc;
}

int doctor_remote_parse(struct str json, Davit__Link__V1__DoctorReport *ret, struct err *err)
{
    AUTO_JSON j = {0};
    enum json_type end = JSON_END;
    struct str key;
    json_init(&j, json);
    int rc = json_enter(&j, JSON_OBJECT, err);
    while (rc >= 0 && (rc = json_key(&j, &key, err)) == 1)
        rc = str_eq(key, STR("checks")) ? read_checks(&j, ret, err) : json_skip(&j, err);
    if (rc == 0)
        rc = json_next(&j, &end, err);
    if (rc == 0 && (end != JSON_END || ret->n_checks == 0))
        return err_set(err, ERR_INVALID, end != JSON_END ? "more than one document" : "no check at all");
    return rc < 0 ? rc : 0;
}

/* --- The run ---- */

static int run_program(struct doctor_remote *d, struct child_result *ret, struct err *err)
{
    const char *argv[12] = {d->program, "doctor", "--json", "--config-dir", d->config_dir};
    size_t n = 5;
    const char *const more[][2] = {{"--link", d->link}, {"--docker", d->docker}, {"--tailscale", d->tailscale}};
    for (size_t i = 0; i < ARRAY_LEN(more); i++) {
        if (!more[i][1])
            continue;
        argv[n++] = more[i][0];
        argv[n++] = more[i][1];
    }
    struct child_spec spec = {.argv = argv, .output_max = DOCTOR_OUTPUT_MAX};
    return child_run(d->loop, &spec, deadline_in(DOCTOR_REMOTE_WAIT), ret, err);
}

static int collect(struct doctor_remote *d, Davit__Link__V1__DoctorReport *report, struct err *err)
{
    struct child_result result = {0};
    int rc = run_program(d, &result, err);
    if (rc < 0)
        return rc;
    /* 0 and 1 are verdicts. */
    if (result.exit_status > 1 || result.truncated)
        rc = err_set(err, ERR_INTERNAL, "the doctor ended with exit status %d", result.exit_status);
    else
        rc = doctor_remote_parse(buf_str(&result.out), report, err);
    child_result_release(&result);
    return rc;
}

static void say_no_report(Davit__Link__V1__DoctorReport *report, const struct err *why)
{
    Davit__Common__V1__DoctorCheck *c = NEW(Davit__Common__V1__DoctorCheck);
    davit__common__v1__doctor_check__init(c);
    c->name = str_dup(STR("doctor"));
    c->verdict = DAVIT__COMMON__V1__DOCTOR_VERDICT__DOCTOR_VERDICT_FAIL;
    c->message = str_dup(str_from(*why->msg ? why->msg : err_code_name(why->code)));
    c->fix = str_dup(STR("run davit-agent doctor on the machine itself"));
    report->checks = mem_zalloc(1, sizeof(*report->checks));
    report->checks[report->n_checks++] = c;
}

static Davit__Link__V1__DoctorReport *report_new(void)
{
    Davit__Link__V1__DoctorReport *r = NEW(Davit__Link__V1__DoctorReport);
    davit__link__v1__doctor_report__init(r);
    return r;
}

static void run_main(void *arg)
{
    struct doctor_remote *d = arg;
    Davit__Link__V1__AgentMessage m = DAVIT__LINK__V1__AGENT_MESSAGE__INIT;
    Davit__Link__V1__DoctorReport *report = report_new();
    struct err err = ERR_INIT;
    int rc = collect(d, report, &err);
    if (rc < 0) {
        (void)err_ensure(&err, rc);
        (void)rpc_message_free(report);
        report = report_new();
        say_no_report(report, &err);
    }
    m.body_case = DAVIT__LINK__V1__AGENT_MESSAGE__BODY_DOCTOR_REPORT;
    m.doctor_report = report;
    for (size_t i = 0; i < d->n_ids && !d->stopping; i++) {
        report->request_id = d->ids[i];
        d->send(d->arg, &m);
    }
    (void)rpc_message_free(report);
    d->n_ids = 0;
    d->running = false;
    event_pulse(&d->ended);
}

void doctor_remote_ask(struct doctor_remote *d, uint64_t request_id)
{
    if (d->stopping || d->n_ids == DOCTOR_ASKERS_MAX)
        return;
    d->ids[d->n_ids++] = request_id;
    if (d->running)
        return;
    d->fiber = fiber_unref(d->fiber);
    d->running = fiber_spawn(d->loop, "doctor", run_main, d, &d->fiber) == 0;
    if (!d->running) /* the caller there is told by its deadline */
        d->n_ids = 0;
}

int doctor_remote_stop(struct doctor_remote *d, usec_t deadline)
{
    if (!d)
        return 0;
    d->stopping = true;
    if (d->running)
        fiber_cancel(d->fiber);
    while (d->running) {
        int rc = event_wait(&d->ended, deadline);
        if (rc < 0)
            return rc;
    }
    return 0;
}
