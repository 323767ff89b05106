/* SPDX-License-Identifier: Apache-2.0 */
/* server_update — brings servers to a release, and shows how far that is: `davit server update`. */
#include <stdio.h>
#include <string.h>

#include "cli/out.h"
#include "cli/server.h"
#include "davit/control/v1/updates.davit.h"

static const usec_t CALL_TIMEOUT = 30 * USEC_SEC, WATCH_MAX = 8 * USEC_DAY, RECONNECT_WAIT = 1 * USEC_SEC;
enum { RECONNECTS_MAX = 120, LABEL_MAX = 63 };

typedef Davit__Control__V1__Rollout rollout_message;
typedef Davit__Control__V1__RolloutStep step_message;

#define AT(field) offsetof(struct server_update_options, field)
const struct opt server_update_opts[] = {
    {.name = "all", .type = OPT_BOOL, .offset = AT(all), .help = "every server that was ever connected"},
    {.name = "version", .type = OPT_STRING, .offset = AT(version), .arg = "VERSION", .help = "to this release (default: the newest stable one)"},
    {.name = "max-parallel", .type = OPT_INT, .offset = AT(max_parallel), .min = 1, .max = 100, .arg = "N", .def = "1",
     .help = "so many servers at a time"},
    {.name = "halt-on-failure", .type = OPT_BOOL, .offset = AT(halt), .help = "begin no further server after one failed"},
    {.name = "offline-wait", .type = OPT_USEC, .offset = AT(offline_wait), .max = 604800000000, .arg = "TIME", .def = "1m",
     .help = "wait so long for servers that are not connected, then pass them over"},
    {.name = "detach", .letter = 'd', .type = OPT_BOOL, .offset = AT(detach), .help = "do not wait for the end"},
    {.name = "status", .type = OPT_BOOL, .offset = AT(status), .help = "show the newest rollout instead of starting one"},
    {.name = "cancel", .type = OPT_BOOL, .offset = AT(cancel), .help = "begin no further server of the present rollout"},
    {.name = "releases", .type = OPT_BOOL, .offset = AT(releases), .help = "list the releases that the control plane has"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static int call(struct cli *cli, const char *method, const ProtobufCMessage *request, ProtobufCMessage **ret, struct err *err)
{
    return cli_call(cli, &davit_control_v1_update_service, method, request, CALL_TIMEOUT, ret, err);
}

/* --- Words ---------------------------------------------------------------------------------------------------------------------- */

const char *server_update_state(int state)
{
    static const char *const names[] = {"-", "waiting", "running", "confirming", "done", "failed", "skipped"};
    return state > 0 && state < (int)ARRAY_LEN(names) ? names[state] : names[0];
}

static const char *rollout_state(int state)
{
    static const char *const names[] = {"-", "running", "done", "failed", "halted", "cancelled"};
    return state > 0 && state < (int)ARRAY_LEN(names) ? names[state] : names[0];
}

char *server_update_text(const step_message *s)
{
    AUTO_BUF b = BUF_INIT(2048);
    bool over = s->state >= DAVIT__CONTROL__V1__ROLLOUT_STEP_STATE__ROLLOUT_STEP_STATE_DONE;
    bool failed = s->state == DAVIT__CONTROL__V1__ROLLOUT_STEP_STATE__ROLLOUT_STEP_STATE_FAILED;
    (void)buf_append_cstr(&b, server_update_state((int)s->state));
    if (*s->phase && (failed || !over))
        (void)buf_printf(&b, "%s%s", failed ? " at " : ": ", s->phase);
    if (*s->reason)
        (void)buf_printf(&b, " (%s)", s->reason);
    if (*s->message && (failed || *s->reason))
        (void)buf_printf(&b, ": %s", s->message);
    return out_clean(buf_str(&b));
}

static const char *update_color(const struct cli *cli, int state)
{
    if (state == DAVIT__CONTROL__V1__ROLLOUT_STEP_STATE__ROLLOUT_STEP_STATE_FAILED)
        return out_color(cli, OUT_RED);
    return out_color(cli, state == DAVIT__CONTROL__V1__ROLLOUT_STEP_STATE__ROLLOUT_STEP_STATE_DONE ? OUT_GREEN : OUT_PLAIN);
}

static void print_table(struct cli *cli, const rollout_message *r, step_message *const *steps, size_t n)
{
    static const char *const heads[] = {"SERVER", "FROM", "TO", "RESULT", NULL};
    struct out_table t;
    out_table_init(&t, heads);
    for (size_t i = 0; i < n; i++) {
        char *cells[] = {str_dup(str_from(steps[i]->server_name)), str_dup(str_from(steps[i]->from_version)),
                         str_dup(str_from(steps[i]->to_version)), server_update_text(steps[i])};
        out_table_row(&t, cells);
    }
    out_table_print(cli, &t);
    out_table_release(&t);
    printf("Rollout of %s is %s: %u of %u done, %u failed, %u skipped.\n", r->version, rollout_state((int)r->state), r->done, r->servers,
           r->failed, r->skipped);
}

/* Exit status of what is over: all are where they shall be, or were passed over. */
static int verdict(const rollout_message *r)
{
    return r->state == DAVIT__CONTROL__V1__ROLLOUT_STATE__ROLLOUT_STATE_DONE || r->state == DAVIT__CONTROL__V1__ROLLOUT_STATE__ROLLOUT_STATE_RUNNING
               ? 0
               : 1;
}

/* The whole rollout on stdout. *ret_verdict may be NULL. */
static int show(struct cli *cli, const char *id, int *ret_verdict, struct err *err)
{
    Davit__Control__V1__GetRolloutRequest req = DAVIT__CONTROL__V1__GET_ROLLOUT_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    req.rollout = (char *)(uintptr_t)id;
    int rc = call(cli, "GetRollout", &req.base, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__GetRolloutResponse *r = (const void *)message;
    if (cli->json)
        rc = out_message(message, err);
    else
        print_table(cli, r->rollout, r->steps, r->n_steps);
    if (ret_verdict)
        *ret_verdict = verdict(r->rollout);
    rpc_message_free(message);
    return rc;
}

/* --- Following ------------------------------------------------------------------------------------------------------------------ */

struct follow_update {
    struct cli *cli;
    const char *id;
    int width; /* of the longest name so far */
    bool over;
};

static void tell_step(const struct follow_update *f, const step_message *s)
{
    AUTO_FREE char *text = server_update_text(s);
    AUTO_FREE char *name = out_clean(str_from(s->server_name));
    if (s->state != DAVIT__CONTROL__V1__ROLLOUT_STEP_STATE__ROLLOUT_STEP_STATE_WAITING)
        fprintf(stderr, "%-*s %s%s%s\n", f->width, name, f->cli->progress ? update_color(f->cli, (int)s->state) : "", text,
                f->cli->progress ? out_color(f->cli, OUT_PLAIN) : "");
}

static int read_changes(struct follow_update *f, struct rpc_stream *stream, usec_t deadline, struct err *err)
{
    int rc = 0;
    while (rc == 0 && !f->over) {
        ProtobufCMessage *message = NULL;
        rc = rpc_stream_get(stream, deadline, &message, err);
        if (rc == 0) {
            const Davit__Control__V1__WatchRolloutResponse *r = (const void *)message;
            for (size_t i = 0; i < r->n_steps; i++) {
                int width = (int)strnlen(r->steps[i]->server_name, LABEL_MAX);
                f->width = width > f->width ? width : f->width;
            }
            for (size_t i = 0; !f->cli->json && i < r->n_steps; i++)
                tell_step(f, r->steps[i]);
            f->over = r->rollout && r->rollout->state != DAVIT__CONTROL__V1__ROLLOUT_STATE__ROLLOUT_STATE_RUNNING;
        }
        rpc_message_free(message);
    }
    return rc;
}

/* One connection's worth. 0 ended or cut off. */
static int watch(struct follow_update *f, usec_t deadline, struct err *err)
{
    Davit__Control__V1__WatchRolloutRequest req = DAVIT__CONTROL__V1__WATCH_ROLLOUT_REQUEST__INIT;
    struct rpc_stream *stream = NULL;
    int rc = cli_connect(f->cli, err);
    req.rollout = (char *)(uintptr_t)f->id;
    if (rc == 0)
        rc = rpc_stream_open(f->cli->channel, &davit_control_v1_update_service, "WatchRollout", deadline, &stream, err);
    if (rc == 0)
        rc = rpc_stream_put(stream, &req.base, deadline, err);
    if (rc == 0)
        rpc_stream_half_close(stream);
    if (rc == 0)
        rc = read_changes(f, stream, deadline, err);
    (void)rpc_stream_close(stream);
    return rc < 0 ? rc : 0;
}

static int follow(struct cli *cli, const char *id, struct err *err)
{
    struct follow_update f = {.cli = cli, .id = id};
    usec_t deadline = deadline_in(WATCH_MAX);
    int rc = 0, tries = 0, outcome = 0;
    while (!f.over) {
        rc = watch(&f, deadline, err);
        if (f.over)
            break;
        /* The control plane goes on with it after a restart, and so do we. */
        if ((rc < 0 && rc != -(int)ERR_UNAVAILABLE && rc != -(int)ERR_CANCELLED) || ++tries > RECONNECTS_MAX)
            return rc < 0 ? rc : err_set(err, ERR_UNAVAILABLE, "the control plane does not tell the end of the rollout");
        cli->channel = rpc_channel_close(cli->channel);
        if (fiber_sleep(RECONNECT_WAIT) < 0)
            return err_set(err, ERR_CANCELLED, "interrupted; the rollout goes on: davit server update --status");
    }
    rc = show(cli, id, &outcome, err);
    return rc < 0 ? rc : outcome;
}

/* --- The verb ------------------------------------------------------------------------------------------------------------------- */

static int list_releases(struct cli *cli, struct err *err)
{
    static const char *const heads[] = {"VERSION", "CHANNEL", "NUMBER", "UNTIL", "PLATFORMS", "FOLDER", "PROBLEM", NULL};
    Davit__Control__V1__ListReleasesRequest req = DAVIT__CONTROL__V1__LIST_RELEASES_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    int rc = call(cli, "ListReleases", &req.base, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__ListReleasesResponse *list = (const void *)message;
    struct out_table t;
    out_table_init(&t, heads);
    for (size_t i = 0; i < list->n_releases; i++) {
        const Davit__Control__V1__Release *r = list->releases[i];
        AUTO_BUF platforms = BUF_INIT(4096);
        for (size_t k = 0; k < r->n_platforms; k++)
            (void)buf_printf(&platforms, "%s%s", k ? " " : "", r->platforms[k]);
        char *cells[] = {str_dup(str_from(r->version)), str_dup(str_from(r->channel)), str_printf("%llu", (unsigned long long)r->counter),
                         out_time(r->expires_us), str_dup(buf_str(&platforms)),
                         str_dup(str_from(*r->directory ? r->directory : ".")), str_dup(str_from(r->problem))};
        out_table_row(&t, cells);
    }
    if (cli->json)
        rc = out_message(message, err);
    else
        out_table_print(cli, &t);
    if (list->n_releases == 0)
        out_note(cli, "No release. Each is a folder with release.json and release.sig below %s.",
                 cli->settings.releases ? cli->settings.releases : "what `davit up --release-dir DIR` names");
    out_table_release(&t);
    rpc_message_free(message);
    return rc;
}

static int cancel(struct cli *cli, struct err *err)
{
    Davit__Control__V1__CancelRolloutRequest req = DAVIT__CONTROL__V1__CANCEL_ROLLOUT_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    int rc = call(cli, "CancelRollout", &req.base, &message, err);
    if (rc == 0 && cli->json)
        rc = out_message(message, err);
    else if (rc == 0)
        printf("No further server is begun; those that are at it come to their end.\n");
    rpc_message_free(message);
    return rc;
}

static int start(struct cli *cli, const struct server_update_options *o, const char **operands, size_t n, struct err *err)
{
    Davit__Control__V1__StartRolloutRequest req = DAVIT__CONTROL__V1__START_ROLLOUT_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    req.servers = (char **)(uintptr_t)operands;
    req.n_servers = n;
    req.all = o->all;
    if (o->version)
        req.version = (char *)(uintptr_t)o->version;
    req.max_parallel = (uint32_t)o->max_parallel;
    req.halt_on_failure = o->halt;
    req.offline_wait_s = (uint32_t)(o->offline_wait / USEC_SEC);
    int rc = call(cli, "StartRollout", &req.base, &message, err);
    if (rc < 0)
        return rc;
    const rollout_message *r = ((const Davit__Control__V1__StartRolloutResponse *)(const void *)message)->rollout;
    if (!o->detach) {
        out_note(cli, "Rollout of %s to %u server%s.", r->version, r->servers, r->servers == 1 ? "" : "s");
        rc = follow(cli, r->id, err);
    } else if (cli->json) {
        rc = out_message(message, err);
    } else {
        printf("Rollout of %s to %u server%s began. `davit server update --status` shows it.\n", r->version, r->servers, r->servers == 1 ? "" : "s");
    }
    rpc_message_free(message);
    return rc;
}

int server_update_run(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct server_update_options *o = options;
    int others = o->status + o->cancel + o->releases;
    if (others > 1 || (others && (n || o->all)))
        return err_set(err, ERR_INVALID, "--status, --cancel and --releases go alone");
    if (!others && !n == !o->all) {
        (void)err_set(err, ERR_INVALID, n ? "give either names or --all, not both" : "which servers?");
        err_hint(err, "davit server update NAME..., or davit server update --all");
        return -ERR_INVALID;
    }
    if (o->releases)
        return list_releases(cli, err);
    if (o->cancel)
        return cancel(cli, err);
    return o->status ? show(cli, "", NULL, err) : start(cli, o, operands, n, err);
}
