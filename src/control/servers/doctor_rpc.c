/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_rpc — DoctorService: asks the agent of a server for what its doctor says, over the live link, and waits for it. Nothing of it is kept.
 * Limits: LINK_DOCTORS_MAX callers wait for one server, each DOCTOR_REPLY_WAIT; DOCTOR_ROWS_MAX checks of a report are passed on.
 * Input trust: the report is a peer's; whoever shows it makes it harmless. */
#include "control/link/links_internal.h"
#include "davit/control/v1/doctor.pb-c.h"

enum { LINK_DOCTORS_MAX = 8, DOCTOR_ROWS_MAX = 64 };
/* The agent gives its doctor 25 s, see host/link/doctor_remote.h. */
#define DOCTOR_REPLY_WAIT (30 * USEC_SEC)

/* A caller that waits, on its stack. */
struct doctor_wait {
    struct list node;
    uint64_t id;
    bool over;
    struct event news;
    Davit__Link__V1__DoctorReport *report; /* NULL at the end: the link is gone */
};

static void settle(struct link *l, struct doctor_wait *w)
{
    list_remove(&w->node);
    l->n_doctors--;
    w->over = true;
    event_signal(&w->news);
}

void link_doctor_report(struct link *l, const Davit__Link__V1__DoctorReport *m)
{
    struct doctor_wait *w, *found = NULL;
    ProtobufCMessage *copy = NULL;
    list_each(w, &l->doctors, struct doctor_wait, node)
        if (w->id == m->request_id)
            found = w;
    if (!found) /* its caller did not wait for it */
        return;
    if (rpc_copy(&m->base, &copy) == 0)
        found->report = (Davit__Link__V1__DoctorReport *)copy;
    settle(l, found);
}

void link_doctors_lost(struct link *l)
{
    while (!list_empty(&l->doctors))
        settle(l, list_entry(l->doctors.next, struct doctor_wait, node));
}

static int ask(struct link *l, struct doctor_wait *w, struct err *err)
{
    Davit__Link__V1__ControlMessage m = DAVIT__LINK__V1__CONTROL_MESSAGE__INIT;
    Davit__Link__V1__DoctorRun run = DAVIT__LINK__V1__DOCTOR_RUN__INIT;
    if (l->n_doctors >= LINK_DOCTORS_MAX)
        return err_set(err, ERR_EXHAUSTED, "%d callers wait for the doctor of server \"%s\" already", LINK_DOCTORS_MAX, l->server->name);
    w->id = run.request_id = ++l->next_doctor;
    m.body_case = DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_DOCTOR_RUN;
    m.doctor_run = &run;
    if (links_send(l, &m) != 0)
        return err_set(err, ERR_UNAVAILABLE, "the link of server \"%s\" takes nothing now", l->server->name);
    list_push(&l->doctors, &w->node);
    l->n_doctors++;
    return 0;
}

static int offline(const struct server *s, struct err *err)
{
    (void)err_set(err, ERR_UNAVAILABLE, "server \"%s\" is not connected, so its doctor cannot be asked from here", s->name);
    err_hint(err, "run davit-agent doctor on that machine");
    return -(int)ERR_UNAVAILABLE;
}

static int wait_for(struct server *s, struct doctor_wait *w, struct err *err)
{
    struct link *l = s->link;
    if (!l)
        return offline(s, err);
    int rc = ask(l, w, err);
    if (rc < 0)
        return rc;
    rc = event_wait(&w->news, deadline_in(DOCTOR_REPLY_WAIT));
    if (w->report)
        return 0;
    if (!w->over) {
        /* It waits in the list of a link that has not ended, else it would be over. */
        list_remove(&w->node);
        l->n_doctors--;
    }
    if (w->over)
        return err_set(err, ERR_UNAVAILABLE, "the link of server \"%s\" broke before its doctor was done", s->name);
    if (rc == -(int)ERR_DEADLINE) {
        (void)err_set(err, ERR_DEADLINE, "the agent of server \"%s\" did not say how it is within 30 s", s->name);
        err_hint(err, "one that is older than this control plane knows no doctor from here: davit-agent doctor on that machine");
    } else if (rc < 0) {
        (void)err_set(err, (enum err_code)-rc, "the caller went away");
    }
    return rc;
}

static int reply(struct rpc_call *call, const struct server *s, Davit__Link__V1__DoctorReport *report, struct err *err)
{
    Davit__Control__V1__RunDoctorResponse m = DAVIT__CONTROL__V1__RUN_DOCTOR_RESPONSE__INIT;
    m.n_checks = report->n_checks < DOCTOR_ROWS_MAX ? report->n_checks : DOCTOR_ROWS_MAX;
    m.checks = report->checks;
    m.ok = m.n_checks > 0;
    for (size_t i = 0; i < m.n_checks; i++)
        m.ok = m.ok && (m.checks[i]->verdict == DAVIT__COMMON__V1__DOCTOR_VERDICT__DOCTOR_VERDICT_OK ||
                        m.checks[i]->verdict == DAVIT__COMMON__V1__DOCTOR_VERDICT__DOCTOR_VERDICT_WARN);
    m.agent_version = lend(s->system ? s->system->agent_version : NULL);
    return rpc_send(call, &m.base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

static int run_doctor(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const char *name = ((const Davit__Control__V1__RunDoctorRequest *)request)->server;
    struct control *c = ctx;
    struct doctor_wait w = {0};
    struct server *s = NULL;
    if (!*text(name))
        return err_set(err, ERR_INVALID, "server: name one");
    int rc = servers_find(c, name, &s, err);
    if (rc < 0)
        return rc;
    (void)server_ref(s);
    list_init(&w.node);
    event_init(&w.news, c->loop);
    rc = wait_for(s, &w, err);
    if (rc == 0)
        rc = reply(call, s, w.report, err);
    (void)rpc_message_free(w.report);
    event_release(&w.news);
    server_unref(s);
    return rc;
}

const struct rpc_handler doctor_handlers[] = {{.run = run_doctor}};
