/* SPDX-License-Identifier: Apache-2.0 */
/* prune — removes from a server what Davit left there: shows the plan, and removes exactly that. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/out.h"
#include "davit/control/v1/images.davit.h"
#include "davit/control/v1/images.pb-c.h"

static const usec_t PLAN_TIMEOUT = 2 * USEC_MINUTE, APPLY_TIMEOUT = 65 * USEC_MINUTE;

struct prune_options {
    struct cli_common common;
    const char *server;
    bool volumes, yes;
};

#define AT(field) offsetof(struct prune_options, field)
static const struct opt prune_opts[] = {
    {.name = "server", .letter = 's', .type = OPT_STRING, .offset = AT(server), .arg = "SERVER", .help = "which server; needed if there are several"},
    {.name = "volumes", .type = OPT_BOOL, .offset = AT(volumes), .help = "also volumes of services that are gone, with what is in them"},
    {.name = "yes", .letter = 'y', .type = OPT_BOOL, .offset = AT(yes), .help = "do not ask"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static void print_items(const struct cli *cli, Davit__Common__V1__PruneItem **items, size_t n)
{
    static const char *const heads[] = {"WHAT", "NAME", "SIZE", "WHY", NULL};
    struct out_table t;

    out_table_init(&t, heads);
    for (size_t i = 0; i < n; i++) {
        char *cells[] = {str_dup(str_from(items[i]->kind)), str_dup(str_from(items[i]->name)), items[i]->bytes ? out_bytes(items[i]->bytes) : NULL,
                         str_dup(str_from(items[i]->why))};
        out_table_row(&t, cells);
    }
    out_table_print(cli, &t);
    out_table_release(&t);
}

/* 1: yes. */
static int confirm(const struct cli *cli, const struct prune_options *o, size_t n)
{
    char line[16] = "";

    if (o->yes)
        return 1;
    if (cli->json || !isatty(STDIN_FILENO)) {
        out_note(cli, "Nothing was removed; with --yes it is.");
        return 0;
    }
    (void)fprintf(stderr, "Remove %zu object%s? [y/N] ", n, n == 1 ? "" : "s");
    (void)fflush(stderr);
    if (!fgets(line, sizeof(line), stdin) || (line[0] != 'y' && line[0] != 'Y')) {
        out_note(cli, "Nothing was removed.");
        return 0;
    }
    return 1;
}

static int apply(struct cli *cli, const Davit__Control__V1__PlanPruneResponse *p, struct err *err)
{
    Davit__Control__V1__ApplyPruneRequest req = DAVIT__CONTROL__V1__APPLY_PRUNE_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    req.server = p->server_name;
    req.plan_id = p->plan->plan_id;
    int rc = cli_call(cli, &davit_control_v1_image_service, "ApplyPrune", &req.base, APPLY_TIMEOUT, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Common__V1__PruneResult *r = ((const Davit__Control__V1__ApplyPruneResponse *)(const void *)message)->result;
    if (cli->json) {
        rc = out_message(message, err);
    } else if (r) {
        printf("%zu removed.\n", r->n_removed);
        if (r->n_kept) {
            printf("Kept:\n");
            print_items(cli, r->kept, r->n_kept);
        }
    }
    rpc_message_free(message);
    return rc;
}

static int show_and_apply(struct cli *cli, const struct prune_options *o, const ProtobufCMessage *message, struct err *err)
{
    const Davit__Control__V1__PlanPruneResponse *p = (const void *)message;

    if (!p->plan || !p->plan->complete) {
        (void)err_set(err, ERR_UNAVAILABLE, "the engine of this server did not tell everything, so nothing can be removed");
        err_hint(err, "look at its log: journalctl -u docker");
        return -(int)ERR_UNAVAILABLE;
    }
    if (cli->json && (!o->yes || p->plan->n_items == 0))
        return out_message(message, err);
    if (p->plan->n_items == 0) {
        out_note(cli, "There is nothing to remove.");
        return 0;
    }
    if (!cli->json)
        print_items(cli, p->plan->items, p->plan->n_items);
    return confirm(cli, o, p->plan->n_items) ? apply(cli, p, err) : 0;
}

static int run_prune(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct prune_options *o = options;
    Davit__Control__V1__PlanPruneRequest req = DAVIT__CONTROL__V1__PLAN_PRUNE_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    (void)operands;
    (void)n;
    req.server = (char *)(uintptr_t)(o->server ? o->server : "");
    req.volumes = o->volumes;
    int rc = cli_call(cli, &davit_control_v1_image_service, "PlanPrune", &req.base, PLAN_TIMEOUT, &message, err);
    if (rc == 0)
        rc = show_and_apply(cli, o, message, err);
    rpc_message_free(message);
    return rc;
}

const struct verb verb_prune = {
    .name = "prune",
    .group = "Servers",
    .usage = "[OPTIONS]",
    .about = "remove what deployments left behind on a server; shows it first",
    .example = "davit prune --server web-1\ndavit prune --server web-1 --volumes --yes",
    .opts = prune_opts,
    .opts_size = sizeof(struct prune_options),
    .run = run_prune,
};
