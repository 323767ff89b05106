/* SPDX-License-Identifier: Apache-2.0 */
/* logs — output of a service: stdout to stdout, stderr to stderr, as the program wrote it. On a terminal control characters are shown, not obeyed. */
#include "cli/logs.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/names.h"
#include "cli/out.h"
#include "davit/control/v1/workloads.davit.h"
#include "davit/control/v1/workloads.pb-c.h"

enum { JSON_LINE_MAX = 512 * 1024 };

struct logs_options {
    struct cli_common common;
    const char *project;
    bool follow, timestamps;
    int64_t tail;
    usec_t since;
};

#define AT(field) offsetof(struct logs_options, field)
static const struct opt logs_opts[] = {
    {.name = "follow", .letter = 'f', .type = OPT_BOOL, .offset = AT(follow),
     .help = "go on with new lines, through restarts and redeployments"},
    {.name = "tail", .letter = 'n', .type = OPT_INT, .offset = AT(tail), .min = -1, .max = 1000000000, .def = "-1", .arg = "N",
     .help = "only the last N lines; -1: all"},
    {.name = "since", .type = OPT_USEC, .offset = AT(since), .max = 31536000000000, .arg = "TIME",
     .help = "only lines younger than this, for example 10m"},
    {.name = "timestamps", .letter = 't', .type = OPT_BOOL, .offset = AT(timestamps),
     .help = "the engine's time before each line"},
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .def = "default", .arg = "NAME",
     .help = "project", .env = true},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

struct printer {
    struct cli *cli;
    bool timestamps;
    bool mid_line[3]; /* per stream: the last piece was partial */
};

static int print_json(const Davit__Common__V1__LogEntry *e, const char *service, struct err *err)
{
    AUTO_BUF text = BUF_INIT(JSON_LINE_MAX);
    char at[CLOCK_TEXT_SIZE];
    struct jsonw w;

    clock_format(e->at_ns / 1000, 6, at);
    jsonw_init(&w, &text);
    jsonw_object(&w);
    jsonw_key(&w, "time");
    jsonw_string(&w, at);
    jsonw_key(&w, "service");
    jsonw_string(&w, service);
    jsonw_key(&w, "stream");
    jsonw_string(&w, e->stream == DAVIT__COMMON__V1__LOG_STREAM__LOG_STREAM_STDERR ? "stderr" : "stdout");
    jsonw_key(&w, "line");
    jsonw_str(&w, (struct str){(const char *)e->line.data, e->line.len});
    jsonw_key(&w, "partial");
    jsonw_bool(&w, e->partial);
    jsonw_object_end(&w);
    if (jsonw_end(&w) < 0)
        return err_set(err, ERR_EXHAUSTED, "a log line is too long for JSON output");
    fwrite(text.data, 1, text.len, stdout);
    fputc('\n', stdout);
    return 0;
}

static void print_text(struct printer *p, const Davit__Common__V1__LogEntry *e)
{
    bool is_err = e->stream == DAVIT__COMMON__V1__LOG_STREAM__LOG_STREAM_STDERR;
    FILE *out = is_err ? stderr : stdout;
    struct str line = {(const char *)e->line.data, e->line.len};

    if (is_err)
        (void)fflush(stdout); /* both may go into one pipe, and there the order of lines stays */
    if (p->timestamps && !p->mid_line[is_err]) {
        char at[CLOCK_TEXT_SIZE];
        clock_format(e->at_ns / 1000, 6, at);
        fprintf(out, "%s ", at);
    }
    if (isatty(fileno(out))) {
        AUTO_FREE char *clean = out_clean(line);
        fputs(clean, out);
    } else {
        fwrite(line.p, 1, line.n, out);
    }
    p->mid_line[is_err] = e->partial;
    if (!e->partial)
        fputc('\n', out);
}

static int print_batch(struct printer *p, const Davit__Control__V1__LogsResponse *r, struct err *err)
{
    int rc = 0;

    if (*r->notice) {
        AUTO_FREE char *notice = out_clean(str_from(r->notice));
        out_note(p->cli, "davit: %s", notice);
    }
    if (r->lost > 0)
        out_note(p->cli, "davit: %llu lines are missing here (rotated away before they were read)", (unsigned long long)r->lost);
    for (size_t i = 0; rc == 0 && i < r->n_entries; i++) {
        if (p->cli->json)
            rc = print_json(r->entries[i], r->service, err);
        else
            print_text(p, r->entries[i]);
    }
    if (fflush(stdout) != 0)
        return err_set(err, ERR_CANCELLED, "standard output is closed");
    return rc;
}

int logs_show(struct cli *cli, const Davit__Control__V1__LogsRequest *q, bool timestamps, struct err *err)
{
    struct printer printer = {.cli = cli, .timestamps = timestamps};
    struct rpc_stream *stream = NULL;
    int rc = cli_connect(cli, err);
    if (rc == 0)
        rc = rpc_stream_open(cli->channel, &davit_control_v1_workload_service, "Logs", USEC_INFINITY, &stream, err);
    if (rc == 0)
        rc = rpc_stream_put(stream, &q->base, deadline_in(10 * USEC_SEC), err);
    if (rc == 0)
        rpc_stream_half_close(stream);
    while (rc == 0) {
        ProtobufCMessage *message = NULL;
        if ((rc = rpc_stream_get(stream, USEC_INFINITY, &message, err)) == 0)
            rc = print_batch(&printer, (const void *)message, err);
        rpc_message_free(message);
    }
    rpc_stream_close(stream);
    return rc < 0 ? rc : 0;
}

static int run_logs(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct logs_options *o = options;
    Davit__Control__V1__LogsRequest req = DAVIT__CONTROL__V1__LOGS_REQUEST__INIT;
    struct service_name name;
    int rc = service_name_parse(operands[0], o->project, &name, err);

    (void)n;
    if (rc < 0)
        return rc;
    req.project = name.project;
    req.service = name.service;
    req.follow = o->follow;
    req.tail = o->tail;
    req.since_ns = o->since ? (clock_real() - o->since) * 1000 : 0;
    return logs_show(cli, &req, o->timestamps, err);
}

const struct verb verb_logs = {
    .name = "logs",
    .group = "Services",
    .usage = "[OPTIONS] [PROJECT/]SERVICE",
    .about = "show the output of a service",
    .example = "davit logs -f web\ndavit logs --tail 100 --timestamps shop/web",
    .opts = logs_opts,
    .opts_size = sizeof(struct logs_options),
    .min_operands = 1,
    .max_operands = 1,
    .run = run_logs,
};
