/* SPDX-License-Identifier: Apache-2.0 */
/* status — is everything all right on this machine? Answers also when nothing runs. */
#include <stdio.h>
#include <string.h>

#include "cli/out.h"
#include "cli/plane.h"
#include "cli/proc.h"
#include "cli/skew.h"
#include "davit/control/v1/status.davit.h"
#include "davit/control/v1/status.pb-c.h"

static const usec_t CALL_TIMEOUT = 5 * USEC_SEC;

struct status_options {
    struct cli_common common;
};
static const struct opt status_opts[] = {CLI_COMMON_OPTS, {.name = NULL}};

static void print_daemon(struct cli *cli, const struct proc *p, bool alive, pid_t pid)
{
    printf("%-14s ", p->name);
    if (alive)
        printf("%srunning%s (pid %ld)\n", out_color(cli, OUT_GREEN), out_color(cli, OUT_PLAIN), (long)pid);
    else
        printf("%snot running%s\n", out_color(cli, OUT_RED), out_color(cli, OUT_PLAIN));
}

static void print_container(struct cli *cli, const struct plane_look *look)
{
    if (look->state == DOCKER_STATE_RUNNING)
        printf("%-14s %srunning%s (" PLANE_CONTAINER ", %.12s)\n", "container", out_color(cli, OUT_GREEN), out_color(cli, OUT_PLAIN), look->id);
    else
        printf("%-14s %snot running%s (%s)\n", "container", out_color(cli, OUT_RED), out_color(cli, OUT_PLAIN),
               look->state == DOCKER_STATE_UNKNOWN ? "there is none" : docker_state_name(look->state));
}

/* The daemons, or the container that they are in. 1: the control plane is there. */
static int look_at(struct cli *cli, struct err *err)
{
    struct plane_look look;
    struct local local;
    pid_t davitd_pid, agent_pid;

    if (plane_mode(&cli->settings)) {
        int rc = plane_look(cli, &look, err);
        if (rc == 0 && !cli->json)
            print_container(cli, &look);
        return rc < 0 ? rc : look.state == DOCKER_STATE_RUNNING;
    }
    local_init(&local, cli);
    int davitd = proc_alive(&local.davitd, &davitd_pid, err);
    int agent = davitd < 0 ? davitd : proc_alive(&local.agent, &agent_pid, err);
    if (agent >= 0 && !cli->json) {
        print_daemon(cli, &local.davitd, davitd == 1, davitd_pid);
        print_daemon(cli, &local.agent, agent == 1, agent_pid);
    }
    local_release(&local);
    return agent < 0 ? agent : davitd;
}

static void print_text(const Davit__Control__V1__GetStatusResponse *s)
{
    AUTO_FREE char *since = out_age(s->started_us);
    AUTO_FREE char *rss = out_bytes(s->rss_bytes);

    printf("%-14s %s, up %s, %s of memory\n", "control plane", s->version, since, rss);
    if (*s->local_role)
        printf("%-14s %s\n", "role", strcmp(s->local_role, "sandbox") == 0 ? "sandbox (no services: those need --mode native)" : "server");
    printf("%-14s %s\n", "api", s->api_address);
    printf("%-14s %s\n", "links", *s->link_address ? s->link_address : "closed (opens with the first `davit server add`)");
    printf("%-14s %s\n", "dashboard", *s->local_web_address ? s->local_web_address : "not on this machine");
    printf("%-14s %s\n", "web", *s->web_address ? s->web_address : "closed (opens with the first `davit server add`)");
    printf("%-14s %u online, %u offline, %u pending\n", "servers", s->servers_online, s->servers_offline, s->servers_pending);
    printf("%-14s %u, %u containers running\n", "services", s->services, s->containers_running);
    for (size_t i = 0; i < s->n_warnings; i++) {
        AUTO_FREE char *text = out_clean(str_from(s->warnings[i]));
        printf("%-14s %s\n", "warning", text);
    }
}

static int run_status(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    Davit__Control__V1__GetStatusRequest req = DAVIT__CONTROL__V1__GET_STATUS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    int rc, davitd = look_at(cli, err);

    (void)options;
    (void)operands;
    (void)n;
    if (davitd < 0)
        return davitd;
    rc = cli_call(cli, &davit_control_v1_status_service, "GetStatus", &req.base, CALL_TIMEOUT, &message, err);
    if (cli->json && rc == 0) {
        rc = out_message(message, err);
    } else if (rc == 0) {
        print_text((const void *)message);
        (void)fflush(stdout);
        skew_warn(cli, ((const Davit__Control__V1__GetStatusResponse *)(const void *)message)->version);
    }
    rpc_message_free(message);
    if (rc == -ERR_UNAVAILABLE && davitd == 0) {
        rc = err_set(err, ERR_UNAVAILABLE, "Davit is down on this machine");
        err_hint(err, "`davit up` starts it");
    }
    return rc;
}

const struct verb verb_status = {
    .name = "status",
    .group = "This machine",
    .usage = "[OPTIONS]",
    .about = "tell whether Davit runs here and how it is",
    .example = "davit status",
    .opts = status_opts,
    .opts_size = sizeof(struct status_options),
    .run = run_status,
};
