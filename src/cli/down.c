/* SPDX-License-Identifier: Apache-2.0 */
/* down — stops what `up` started. Containers go on; only --purge removes them, and it says so first. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/controlplane.h"
#include "cli/out.h"
#include "cli/plane.h"
#include "cli/proc.h"
#include "cli/purge.h"
#include "davit/control/v1/servers.davit.h"
#include "davit/control/v1/servers.pb-c.h"

enum { NAMES_MAX = 20 };
static const usec_t CALL_TIMEOUT = 15 * USEC_SEC;

const struct opt down_opts[] = {
    {.name = "purge", .type = OPT_BOOL, .offset = offsetof(struct down_options, purge),
     .help = "also remove the containers, networks and volumes of this machine's services, all keys and all state"},
    {.name = "force", .type = OPT_BOOL, .offset = offsetof(struct down_options, force),
     .help = "with --purge: although other servers are enrolled, which nobody can command afterwards"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static int stop_both(struct cli *cli, bool forget, bool *ret_changed, struct err *err)
{
    struct local local;

    if (plane_mode(&cli->settings))
        return plane_down(cli, ret_changed, err);
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

/* The enrolled servers of @list other than this machine, by name, at most some; the rest is counted. */
static unsigned name_others(const Davit__Control__V1__ListServersResponse *list, struct buf *out)
{
    unsigned n = 0;

    for (size_t i = 0; i < list->n_servers; i++) {
        const Davit__Control__V1__Server *s = list->servers[i];
        if (s->local || s->revoked || s->state == DAVIT__CONTROL__V1__SERVER_STATE__SERVER_STATE_PENDING)
            continue;
        if (n < NAMES_MAX)
            (void)buf_printf(out, "%s%s", n ? ", " : "", s->name);
        n++;
    }
    if (n > NAMES_MAX)
        (void)buf_printf(out, " and %u more", n - NAMES_MAX);
    return n;
}

/* Their agents trust the keys that --purge removes, and no others. */
static int check_others(struct cli *cli, struct err *err)
{
    AUTO_FREE char *data = str_printf("%s/control.db", cli->paths.state);
    AUTO_BUF names = BUF_INIT(4096);
    Davit__Control__V1__ListServersRequest req = DAVIT__CONTROL__V1__LIST_SERVERS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct err why = ERR_INIT;

    if (!cli->settings.store && access(data, F_OK) < 0) /* it never ran */
        return 0;
    if (cli_call(cli, &davit_control_v1_server_service, "ListServers", &req.base, CALL_TIMEOUT, &message, &why) < 0) {
        (void)err_set(err, ERR_PRECONDITION, "other servers may be enrolled here and would be cut off; the control plane cannot be asked: %.200s",
                      why.msg);
        err_hint(err, "`davit up`, then again; or `davit down --purge --force`");
        return -ERR_PRECONDITION;
    }
    unsigned n = name_others((const void *)message, &names);
    rpc_message_free(message);
    if (n == 0)
        return 0;
    (void)err_set(err, ERR_PRECONDITION, "%u server%s enrolled here and would be cut off for good: %s", n, n == 1 ? " is" : "s are",
                  buf_cstr(&names));
    err_hint(err, "`davit server rm NAME` for each, or `davit down --purge --force`; their containers go on, a new control plane enrolls them anew");
    return -ERR_PRECONDITION;
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

int run_down(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct down_options *o = options;
    AUTO_FD int fd = -1;
    bool changed = false;
    int rc;

    (void)operands;
    (void)n;
    if (o->force && !o->purge)
        return err_set(err, ERR_INVALID, "--force goes with --purge");
    if (!cli_paths_ours(&cli->paths)) {
        report(cli, false, false);
        return 0;
    }
    if ((rc = cli_lock(&cli->paths, &fd, err)) < 0 || (o->purge && !o->force && (rc = check_others(cli, err)) < 0) ||
        (rc = stop_both(cli, o->purge, &changed, err)) < 0 ||
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
