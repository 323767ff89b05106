/* SPDX-License-Identifier: Apache-2.0 */
/* down — stops what `up` started. Containers go on; only --purge removes them, and it says so first. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/out.h"
#include "cli/proc.h"
#include "cli/purge.h"

struct down_options {
    struct cli_common common;
    bool purge;
};

static const struct opt down_opts[] = {
    {.name = "purge", .type = OPT_BOOL, .offset = offsetof(struct down_options, purge),
     .help = "also remove the containers, networks and volumes of this machine's services, all keys and all state"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static int stop_both(struct cli *cli, bool forget, bool *ret_changed, struct err *err)
{
    struct local local;
    int agent, davitd = 0, foreign = agent_is_foreign(cli, err);

    local_init(&local, cli);
    agent = foreign == 0 ? proc_stop(cli, &local.agent, err) : foreign;
    if (agent >= 0)
        davitd = proc_stop(cli, &local.davitd, err);
    if (agent >= 0 && davitd >= 0 && forget) {
        int rc = foreign ? 0 : proc_forget(cli, &local.agent, err);
        davitd = rc < 0 ? rc : davitd;
        rc = rc < 0 ? rc : proc_forget(cli, &local.davitd, err);
        davitd = rc < 0 ? rc : davitd;
    }
    local_release(&local);
    *ret_changed = agent == 0 || davitd == 0;
    return agent < 0 ? agent : davitd < 0 ? davitd : 0;
}

static void report(struct cli *cli, bool changed, bool purged)
{
    if (cli->json)
        printf("{\"changed\":%s,\"purged\":%s}\n", changed ? "true" : "false", purged ? "true" : "false");
    else if (purged)
        printf("Davit is down and everything it made here is removed.\n");
    else
        printf(changed ? "Davit is down. Containers go on; `davit up` takes them up again.\n" : "Davit was not running.\n");
}

static int run_down(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct down_options *o = options;
    AUTO_FD int fd = -1;
    bool changed = false;
    int rc;

    (void)operands;
    (void)n;
    if (!cli_paths_ours(&cli->paths)) {
        report(cli, false, false);
        return 0;
    }
    if ((rc = cli_lock(&cli->paths, &fd, err)) < 0 || (rc = stop_both(cli, o->purge, &changed, err)) < 0 ||
        (o->purge && (rc = purge_all(cli, err)) < 0))
        return rc;
    report(cli, changed, o->purge);
    return 0;
}

const struct verb verb_down = {
    .name = "down",
    .group = "This machine",
    .usage = "[OPTIONS]",
    .about = "stop Davit on this machine; containers go on",
    .example = "davit down\ndavit down --purge",
    .opts = down_opts,
    .opts_size = sizeof(struct down_options),
    .run = run_down,
};
