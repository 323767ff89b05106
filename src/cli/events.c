/* SPDX-License-Identifier: Apache-2.0 */
/* events — what happened on all servers: one line an event, or one JSON object; what is kept first, then with --follow what comes. */
#include <inttypes.h>
#include <stdio.h>

#include "base/json.h"
#include "cli/out.h"
#include "davit/control/v1/events.davit.h"
#include "davit/control/v1/events.pb-c.h"

enum { EVENT_LINE_MAX = 64 * 1024 };

static const usec_t CALL_TIMEOUT = 15 * USEC_SEC;

typedef Davit__Control__V1__Event event_message;
typedef Davit__Control__V1__EventGap gap_message;

struct events_options {
    struct cli_common common;
    const char *kind, *project, *sandbox;
    int64_t since;
    bool follow;
};

#define AT(field) offsetof(struct events_options, field)
static const struct opt events_opts[] = {
    {.name = "follow", .letter = 'f', .type = OPT_BOOL, .offset = AT(follow), .help = "go on with events as they happen"},
    {.name = "since", .type = OPT_INT, .offset = AT(since), .min = 0, .max = INT64_MAX, .def = "0", .arg = "SEQ",
     .help = "only events from this number on; 0: all that are kept"},
    {.name = "kind", .letter = 'k', .type = OPT_ENUM, .offset = AT(kind),
     .choices = "server|container|deployment|sandbox|session|registry|exec", .arg = "KIND", .help = "only those of this kind"},
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .arg = "NAME", .help = "only those of this project", .env = true},
    {.name = "sandbox", .type = OPT_STRING, .offset = AT(sandbox), .arg = "NAME", .help = "only those of this sandbox"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static void field(struct jsonw *w, const char *key, const char *value)
{
    if (!value || !*value)
        return;
    jsonw_key(w, key);
    jsonw_string(w, value);
}

static void number(struct jsonw *w, const char *key, uint64_t value)
{
    if (!value)
        return;
    jsonw_key(w, key);
    jsonw_u64(w, value);
}

static void event_fields(struct jsonw *w, const event_message *e)
{
    number(w, "sequence", e->sequence);
    field(w, "type", e->kind);
    field(w, "action", e->action);
    number(w, "time", e->time_ns / 1000000000U);
    number(w, "timeNano", e->time_ns);
    field(w, "server", e->server);
    field(w, "server_id", e->server_id);
    field(w, "project", e->project);
    field(w, "service", e->service);
    field(w, "deployment_id", e->deployment_id);
    field(w, "container_id", e->container_id);
    field(w, "container", e->container);
    field(w, "sandbox_id", e->sandbox_id);
    field(w, "sandbox", e->sandbox);
    field(w, "reason", e->reason);
    field(w, "detail", e->detail);
    number(w, "attempts", e->attempts);
    field(w, "step_name", e->step_name);
    number(w, "step_index", e->step_index);
    number(w, "step_count", e->step_count);
    if (e->exited) {
        jsonw_key(w, "exit_code");
        jsonw_i64(w, e->exit_code);
    }
    number(w, "duration", e->duration_ns);
    if (e->resync) {
        jsonw_key(w, "resync");
        jsonw_bool(w, true);
    }
}

static void gap_fields(struct jsonw *w, const gap_message *g)
{
    field(w, "type", "gap");
    field(w, "reason", g->reason);
    number(w, "from_sequence", g->from_sequence);
    number(w, "to_sequence", g->to_sequence);
    number(w, "dropped", g->dropped);
}

static int print_json(const event_message *e, const gap_message *g, struct err *err)
{
    AUTO_BUF text = BUF_INIT(EVENT_LINE_MAX);
    struct jsonw w;

    jsonw_init(&w, &text);
    jsonw_object(&w);
    if (e)
        event_fields(&w, e);
    else
        gap_fields(&w, g);
    jsonw_object_end(&w);
    if (jsonw_end(&w) < 0)
        return err_set(err, ERR_EXHAUSTED, "an event is too long for a line");
    (void)fwrite(text.data, 1, text.len, stdout);
    (void)fputc('\n', stdout);
    return 0;
}

/* " shop/web" of a service, else the sandbox, the container or the server. */
static void print_subject(const event_message *e)
{
    const char *what = *e->service ? e->service : *e->sandbox ? e->sandbox : *e->container ? e->container : e->server;
    AUTO_FREE char *project = out_clean(str_from(e->project));
    AUTO_FREE char *name = out_clean(str_from(what));
    AUTO_FREE char *server = out_clean(str_from(e->server));

    printf(" %s%s%s", project, *project ? "/" : "", name);
    if (*server && what != e->server)
        printf(" on %s", server);
}

static void print_text(const event_message *e)
{
    char at[CLOCK_TEXT_SIZE];
    AUTO_FREE char *detail = out_clean(str_from(e->detail));
    AUTO_FREE char *reason = out_clean(str_from(e->reason));
    AUTO_FREE char *step = out_clean(str_from(e->step_name));

    clock_format(e->time_ns / 1000, 3, at);
    printf("%" PRIu64 " %s %-10s %-15s", e->sequence, at, e->kind, e->action);
    print_subject(e);
    if (*e->deployment_id)
        printf(" %.8s", e->deployment_id);
    if (*step)
        printf(" step %u/%u %s", e->step_index, e->step_count, step);
    if (e->attempts > 1)
        printf(" attempt %u", e->attempts);
    if (e->exited)
        printf(" exit code %" PRId64, e->exit_code);
    if (e->duration_ns)
        printf(" after %.1f s", (double)e->duration_ns / 1e9);
    if (*reason)
        printf(" (%s)", reason);
    if (*detail)
        printf(": %s", detail);
    (void)fputc('\n', stdout);
}

static void note_gap(struct cli *cli, const gap_message *g)
{
    const char *why = *g->reason == 'r'   ? "the control plane was started anew; what is kept begins here"
                      : *g->reason == 'f' ? "older events are kept no longer"
                                          : "events came faster than they were read";

    if (g->dropped)
        out_note(cli, "davit: %" PRIu64 " events are missing here: %s.", g->dropped, why);
    else
        out_note(cli, "davit: events are missing here: %s.", why);
}

static int print_one(struct cli *cli, const Davit__Control__V1__WatchEventsResponse *m, struct err *err)
{
    const event_message *e = m->what_case == DAVIT__CONTROL__V1__WATCH_EVENTS_RESPONSE__WHAT_EVENT ? m->event : NULL;
    const gap_message *g = m->what_case == DAVIT__CONTROL__V1__WATCH_EVENTS_RESPONSE__WHAT_GAP ? m->gap : NULL;
    int rc = (e || g) && cli->json ? print_json(e, g, err) : 0;

    if (!cli->json && e)
        print_text(e);
    if (!cli->json && g) {
        (void)fflush(stdout); /* both may go into one pipe, and there the order stays */
        note_gap(cli, g);
    }
    if (fflush(stdout) != 0)
        return err_set(err, ERR_CANCELLED, "standard output is closed");
    return rc;
}

static int run_events(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct events_options *o = options;
    Davit__Control__V1__WatchEventsRequest req = DAVIT__CONTROL__V1__WATCH_EVENTS_REQUEST__INIT;
    struct rpc_stream *stream = NULL;
    char *kind = (char *)(uintptr_t)o->kind;
    int rc = cli_connect(cli, err);

    (void)operands;
    (void)n;
    if (rc < 0)
        return rc;
    req.from_sequence = (uint64_t)o->since;
    req.follow = o->follow;
    req.kinds = &kind;
    req.n_kinds = kind != NULL;
    req.project = (char *)(uintptr_t)(o->project ? o->project : "");
    req.sandbox = (char *)(uintptr_t)(o->sandbox ? o->sandbox : "");
    rc = rpc_stream_open(cli->channel, &davit_control_v1_event_service, "WatchEvents", USEC_INFINITY, &stream, err);
    if (rc == 0)
        rc = rpc_stream_put(stream, &req.base, deadline_in(CALL_TIMEOUT), err);
    if (rc == 0)
        rpc_stream_half_close(stream);
    while (rc == 0) {
        ProtobufCMessage *message = NULL;
        if ((rc = rpc_stream_get(stream, USEC_INFINITY, &message, err)) == 0)
            rc = print_one(cli, (const void *)message, err);
        rpc_message_free(message);
    }
    rpc_stream_close(stream);
    return rc < 0 ? rc : 0;
}

const struct verb verb_events = {
    .name = "events",
    .group = "Control plane",
    .usage = "[OPTIONS]",
    .about = "show what happened: servers, containers, deployments, sandboxes",
    .example = "davit events --follow\ndavit events --kind deployment --project shop --output json",
    .opts = events_opts,
    .opts_size = sizeof(struct events_options),
    .max_operands = 0,
    .run = run_events,
};
