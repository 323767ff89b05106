/* SPDX-License-Identifier: Apache-2.0 */
/* up_mode — in a container or as processes of this machine? What was made one way is not there for the other: nothing changes sides unseen. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/plane.h"
#include "cli/plane_image.h"
#include "cli/proc.h"
#include "cli/up_internal.h"
#include "docker/docker.h"

static const usec_t PING_WAIT = 3 * USEC_SEC;

/* Can a user who is not root have a container here? */
static bool can_contain(struct cli *cli)
{
    struct docker *d = NULL;
    int rc = docker_new(cli->loop, cli->settings.docker, &d, NULL);

    if (rc == 0)
        rc = docker_ping(d, deadline_in(PING_WAIT), NULL);
    d = docker_free(d);
    return rc == 0 && plane_image_possible(cli);
}

static int refuse(const char *mode, const char *what, struct err *err)
{
    (void)err_set(err, ERR_PRECONDITION, "%s (mode %s)", what, mode);
    err_hint(err, "`davit down`, then again; or --mode %s to leave it as it is", mode);
    return -ERR_PRECONDITION;
}

static int check_processes(struct cli *cli, struct err *err)
{
    struct local local;
    pid_t pid;

    local_init(&local, cli);
    int davitd = proc_alive(&local.davitd, &pid, err), agent = davitd == 0 ? proc_alive(&local.agent, &pid, err) : davitd;
    local_release(&local);
    return agent == 1 ? refuse("native", "Davit runs here as processes of this machine", err) : agent;
}

static int check_container(struct cli *cli, struct err *err)
{
    struct plane_look look;
    int rc = plane_look(cli, &look, err);

    return rc == 0 && look.state != DOCKER_STATE_UNKNOWN ? refuse("container", "the control plane is in a container here", err) : rc;
}

/* They know the address of the agent that made them, and that agent what they are. */
static int check_sandboxes(struct cli *cli, const char *mode, struct err *err)
{
    unsigned all, running;
    int rc = plane_sandboxes(cli, &all, &running, err);

    if (rc < 0 || all == 0)
        return rc;
    (void)err_set(err, ERR_PRECONDITION, "there %s %u sandbox%s that %s made in mode %s", all == 1 ? "is" : "are", all, all == 1 ? "" : "es",
                  all == 1 ? "was" : "were", mode);
    err_hint(err, "`davit up --mode %s`, `davit sandbox rm` for each, `davit down`, then again", mode);
    return -ERR_PRECONDITION;
}

int up_settle_mode(struct cli *cli, const char *given, const struct up_before *b, struct err *err)
{
    struct cli_settings *s = &cli->settings;
    bool was_container = plane_mode(&b->settings), was_native = b->known && !was_container;
    int rc = 0;

    if (!given || strcmp(given, "auto") == 0)
        given = s->mode;
    if (!given || strcmp(given, "auto") == 0)
        given = b->settings.mode;
    /* What `up` of before modes saved ran natively. */
    const char *mode = given && strcmp(given, "auto") != 0 ? given : b->known || geteuid() == 0 || !can_contain(cli) ? "native" : "container";
    bool container = strcmp(mode, "container") == 0;
    if (container && was_native) {
        rc = check_processes(cli, err);
        if (rc == 0)
            rc = check_sandboxes(cli, "native", err);
    } else if (!container && was_container) {
        rc = check_container(cli, err);
        if (rc == 0)
            rc = check_sandboxes(cli, "container", err);
    }
    char *settled = rc == 0 ? str_dup(str_from(mode)) : NULL;
    if (settled) {
        free(s->mode);
        s->mode = settled;
    }
    return rc;
}
