/* SPDX-License-Identifier: Apache-2.0 */
/* wake — see wake.h. */
#include "cli/wake.h"

#include <unistd.h>

#include "cli/out.h"
#include "cli/up.h"

bool wake_helps(const struct cli *cli, int rc)
{
    if (!cli->wakes)
        return false;
    if (rc == -ERR_UNAVAILABLE)
        return cli_paths_ours(&cli->paths);
    /* Its first start by root makes an account and units of the system: not unasked. Nor in a directory that may be mistyped. */
    return rc == -ERR_PRECONDITION && geteuid() != 0 && !cli->common.home;
}

int wake(struct cli *cli, struct err *err)
{
    cli->wakes = false;
    cli->for_sandboxes = true;
    if (cli_paths_ours(&cli->paths))
        out_note(cli, "davit: the control plane is down: it is started");
    else
        out_note(cli, "davit: there is no control plane of this user yet: one is made, with its keys in %s, and it is started", cli->paths.config);
    int rc = up_ensure(cli, err);
    return rc < 0 ? rc : 0;
}
