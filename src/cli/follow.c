/* SPDX-License-Identifier: Apache-2.0 */
/* follow — see follow.h. */
#include "cli/follow.h"

#include <stdio.h>
#include <string.h>

#include "cli/out.h"
#include "davit/control/v1/workloads.davit.h"

enum { RECONNECTS_MAX = 100 };

typedef Davit__Control__V1__WatchDeploymentResponse event_message;

struct follow {
    struct cli *cli;
    const Davit__Common__V1__ServiceSpec *spec;
    const char *id;
    size_t seen;   /* events shown that are on record: after a reconnect the same ones come again */
    char step[64]; /* line that stands open on a terminal */
    bool open;
    int end; /* 0 not yet, 1 active, 2 failed, 3 it was removed or replaced before, 4 cancelled */
    char container[80];
};

static void end_line(struct follow *f)
{
    if (f->open)
        fputc('\n', stderr);
    f->open = false;
}

static const char *mark(const struct cli *cli, int state)
{
    if (!cli->progress)
        return state == DAVIT__COMMON__V1__STEP_STATE__STEP_STATE_FAILED ? "failed" : "";
    switch (state) {
    case DAVIT__COMMON__V1__STEP_STATE__STEP_STATE_DONE: return "\x1b[32m\xe2\x9c\x93\x1b[0m";
    case DAVIT__COMMON__V1__STEP_STATE__STEP_STATE_FAILED: return "\x1b[31m\xe2\x9c\x97\x1b[0m";
    case DAVIT__COMMON__V1__STEP_STATE__STEP_STATE_UNDONE: return "\x1b[33m\xe2\x86\xa9\x1b[0m";
    default: return "\x1b[2m\xe2\x80\xa6\x1b[0m";
    }
}

static const char *step_word(int state)
{
    static const char *const words[] = {"", "", "done", "failed", "undone"};

    return state >= 0 && state < (int)ARRAY_LEN(words) ? words[state] : "";
}

static void show_step(struct follow *f, const Davit__Common__V1__StepProgress *p)
{
    AUTO_FREE char *step = out_clean(str_from(p->step));
    AUTO_FREE char *text = out_clean(str_from(p->message));
    bool running = p->state == DAVIT__COMMON__V1__STEP_STATE__STEP_STATE_RUNNING;

    if (!f->cli->progress) {
        /* Plain output: the end of each step, before it one line if there is something to say, and none for every percent. */
        bool told = strcmp(f->step, p->step) == 0;
        if (!running || (*text && !told))
            fprintf(stderr, "[%u/%u] %s%s%s%s%s\n", p->index, p->total, step, *step_word((int)p->state) ? " " : "",
                    step_word((int)p->state), *text ? ": " : "", text);
        if (*text)
            (void)str_copy(f->step, sizeof f->step, str_from(p->step));
        return;
    }
    if (f->open && strcmp(f->step, p->step) != 0)
        end_line(f);
    fprintf(stderr, "\r\x1b[K%s %-10s %s", mark(f->cli, (int)p->state), step, text);
    fflush(stderr);
    f->open = true;
    (void)str_copy(f->step, sizeof f->step, str_from(p->step));
    if (!running)
        end_line(f);
}

static void show_failure(struct follow *f, const Davit__Common__V1__Failure *failure)
{
    AUTO_FREE char *message = out_clean(str_from(failure->message));
    AUTO_FREE char *hint = out_clean(str_from(failure->hint));
    AUTO_FREE char *reason = out_clean(str_from(failure->reason));
    struct str detail = str_from(failure->detail);

    end_line(f);
    fprintf(stderr, "davit: %s/%s was not deployed: %s%s%s%s\n", f->spec->project, f->spec->name, message, *reason ? " (" : "",
            reason, *reason ? ")" : "");
    if (*hint)
        fprintf(stderr, "  hint: %s\n", hint);
    if (detail.n > 0)
        fputs("  last output of the container:\n", stderr);
    while (detail.n > 0) {
        AUTO_FREE char *line = out_clean(str_cut(&detail, '\n'));
        fprintf(stderr, "    %s\n", line);
    }
}

static int on_event(struct follow *f, const event_message *e, struct err *err)
{
    if (e->container_id && *e->container_id)
        (void)str_copy(f->container, sizeof f->container, str_from(e->container_id));
    if (e->state == DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_ACTIVE)
        f->end = 1;
    if (e->state == DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_FAILED)
        f->end = 2;
    if (e->state == DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_REMOVED ||
        e->state == DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_SUPERSEDED ||
        e->state == DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_ROLLED_BACK)
        f->end = 3;
    if (e->state == DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_CANCELLED)
        f->end = 4;
    if (f->cli->json)
        return out_message(&e->base, err);
    if (e->progress)
        show_step(f, e->progress);
    else if (*e->waiting_for) {
        AUTO_FREE char *waiting = out_clean(str_from(e->waiting_for));
        out_note(f->cli, "waiting: %s", waiting);
    }
    if (f->end == 2 && e->failure)
        show_failure(f, e->failure);
    if (f->end == 3) {
        end_line(f);
        fprintf(stderr, "davit: %s/%s was not deployed: it or its server was removed meanwhile\n", f->spec->project, f->spec->name);
    }
    if (f->end == 4) {
        end_line(f);
        fprintf(stderr, "davit: %s/%s was not deployed: it was cancelled\n", f->spec->project, f->spec->name);
    }
    return 0;
}

/* One connection's worth of events. 0 the deployment ended; negative. */
static int watch(struct follow *f, usec_t deadline, struct err *err)
{
    Davit__Control__V1__WatchDeploymentRequest req = DAVIT__CONTROL__V1__WATCH_DEPLOYMENT_REQUEST__INIT;
    struct rpc_stream *stream = NULL;
    size_t at = 0;
    int rc = cli_connect(f->cli, err);

    req.deployment_id = (char *)(uintptr_t)f->id;
    if (rc == 0)
        rc = rpc_stream_open(f->cli->channel, &davit_control_v1_workload_service, "WatchDeployment", deadline, &stream, err);
    if (rc == 0)
        rc = rpc_stream_put(stream, &req.base, deadline, err);
    if (rc == 0)
        rpc_stream_half_close(stream);
    while (rc == 0 && f->end == 0) {
        ProtobufCMessage *message = NULL;
        if ((rc = rpc_stream_get(stream, deadline, &message, err)) != 0)
            break;
        const event_message *e = (const void *)message;
        /* What it waits for is said anew by each connection. */
        bool on_record = !*e->waiting_for;
        if (!on_record || at >= f->seen)
            rc = on_event(f, e, err);
        at += on_record;
        f->seen = at > f->seen ? at : f->seen;
        rpc_message_free(message);
    }
    rpc_stream_close(stream);
    if (rc == 1 && f->end == 0)
        rc = err_set(err, ERR_UNAVAILABLE, "the control plane ended the report before the deployment was over");
    return rc < 0 ? rc : 0;
}

static int gave_up(const struct follow *f, struct err *err)
{
    (void)err_set(err, ERR_DEADLINE, "the deployment of %s/%s is not over; it goes on without this program", f->spec->project,
                  f->spec->name);
    err_hint(err, "davit deployments --project %s shows its outcome, davit cancel %.8s ends it", f->spec->project, f->id);
    return -ERR_DEADLINE;
}

int follow_deployment(struct cli *cli, const Davit__Common__V1__ServiceSpec *spec,
                      const Davit__Control__V1__DeployResponse *response, usec_t deadline, struct err *err)
{
    struct follow f = {.cli = cli, .spec = spec, .id = response->deployment_id};
    int rc = -ERR_UNAVAILABLE;

    out_note(cli, "%s/%s on %s", spec->project, spec->name, response->server_name);
    for (unsigned attempt = 0; rc == -ERR_UNAVAILABLE && f.end == 0 && attempt < RECONNECTS_MAX; attempt++) {
        if (attempt > 0) {
            end_line(&f);
            out_note(cli, "the control plane is away; trying again");
            cli->channel = rpc_channel_close(cli->channel);
            if ((rc = fiber_sleep(USEC_SEC / 2 + backoff_wait(attempt, USEC_SEC / 4, 5 * USEC_SEC))) < 0)
                break;
        }
        rc = watch(&f, deadline, err);
        if (rc == -ERR_UNAVAILABLE && clock_mono() > deadline)
            rc = -ERR_DEADLINE;
    }
    end_line(&f);
    if (f.end == 0 && rc == -ERR_CANCELLED)
        out_note(cli, "The deployment goes on without this program. `davit cancel %.8s` ends it.", f.id);
    if (f.end == 0)
        return rc == -ERR_DEADLINE ? gave_up(&f, err) : rc;
    if (f.end == 1 && !cli->json) {
        AUTO_FREE char *container = out_clean(str_from(f.container));
        printf("%s%s/%s is active%s on %s (container %.12s)\n", out_color(cli, OUT_GREEN), spec->project, spec->name,
               out_color(cli, OUT_PLAIN), response->server_name, container);
        (void)fflush(stdout); /* before the steps of the next service */
    }
    return f.end == 1 ? 0 : 1;
}

int follow_skip(struct cli *cli, const Davit__Common__V1__ServiceSpec *spec, const Davit__Control__V1__DeployResponse *response,
                bool detached, struct err *err)
{
    if (cli->json)
        return out_message(&response->base, err);
    if (response->unchanged)
        printf("%s/%s is active and unchanged on %s\n", spec->project, spec->name, response->server_name);
    else if (detached)
        printf("%s/%s is on its way to %s (deployment %s)\n", spec->project, spec->name, response->server_name,
               response->deployment_id);
    return 0;
}
