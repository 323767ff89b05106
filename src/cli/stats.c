/* SPDX-License-Identifier: Apache-2.0 */
/* stats — what hosts and containers use: CPU, memory, disk, network. */
#include <stdio.h>

#include "cli/names.h"
#include "cli/out.h"
#include "davit/control/v1/workloads.davit.h"
#include "davit/control/v1/workloads.pb-c.h"

static const usec_t CALL_TIMEOUT = 15 * USEC_SEC;

struct stats_options {
    struct cli_common common;
    const char *project, *server;
};

#define AT(field) offsetof(struct stats_options, field)
static const struct opt stats_opts[] = {
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .arg = "NAME", .help = "only this project"},
    {.name = "server", .letter = 's', .type = OPT_STRING, .offset = AT(server), .arg = "SERVER", .help = "only this server"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static char *pair(uint64_t a, uint64_t b, const char *suffix)
{
    AUTO_FREE char *left = out_bytes(a);
    AUTO_FREE char *right = out_bytes(b);

    return str_printf("%s%s / %s%s", left, suffix, right, suffix);
}

static void stats_row(struct out_table *t, const Davit__Control__V1__UsageRow *r)
{
    const Davit__Common__V1__Usage *u = r->usage;
    bool host = *r->container_name == 0;

    if (!u)
        return;
    char *cells[] = {
        host ? str_printf("host %s", r->server_name) : str_printf("%s/%s", r->project, r->service),
        str_dup(str_from(r->server_name)),
        str_printf("%u.%01u %%", u->cpu_milli / 10, u->cpu_milli % 10),
        u->memory_limit_bytes ? pair(u->memory_bytes, u->memory_limit_bytes, "") : out_bytes(u->memory_bytes),
        pair(r->net_rx_rate, r->net_tx_rate, "/s"),
        pair(r->disk_read_rate, r->disk_write_rate, "/s"),
        host ? pair(u->disk_total_bytes - u->disk_free_bytes, u->disk_total_bytes, "") : NULL,
        host ? NULL : str_printf("%u", u->pids),
        out_age(u->at_us),
    };
    out_table_row(t, cells);
}

static int run_stats(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    static const char *const heads[] = {"WHAT", "SERVER", "CPU", "MEMORY", "NET IN / OUT", "DISK READ / WRITE", "DISK USED", "PIDS", "AGE", NULL};
    const struct stats_options *o = options;
    Davit__Control__V1__StatsRequest req = DAVIT__CONTROL__V1__STATS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct service_name name;
    struct out_table t;
    int rc;

    if (o->project)
        req.project = (char *)(uintptr_t)o->project;
    if (o->server)
        req.server = (char *)(uintptr_t)o->server;
    if (n > 0) {
        if ((rc = service_name_parse(operands[0], o->project ? o->project : "default", &name, err)) < 0)
            return rc;
        req.project = name.project;
        req.service = name.service;
    }
    rc = cli_call(cli, &davit_control_v1_workload_service, "Stats", &req.base, CALL_TIMEOUT, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__StatsResponse *list = (const void *)message;
    if (cli->json) {
        rc = out_message(message, err);
    } else {
        out_table_init(&t, heads);
        for (size_t i = 0; i < list->n_rows; i++)
            stats_row(&t, list->rows[i]);
        out_table_print(cli, &t);
        out_table_release(&t);
        if (list->n_rows == 0)
            out_note(cli, "No samples: a server that is online gives them within seconds (davit server ls).");
    }
    rpc_message_free(message);
    return rc;
}

const struct verb verb_stats = {
    .name = "stats",
    .group = "Services",
    .usage = "[OPTIONS] [[PROJECT/]SERVICE]",
    .about = "show CPU, memory, disk and network of hosts and containers",
    .example = "davit stats\ndavit stats shop/web --output json",
    .opts = stats_opts,
    .opts_size = sizeof(struct stats_options),
    .max_operands = 1,
    .run = run_stats,
};
