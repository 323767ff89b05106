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
    /* Its first start by root makes an account and units of the system: not unasked. */
    return rc == -ERR_UNAVAILABLE ? cli_paths_ours(&cli->paths) : rc == -ERR_PRECONDITION && geteuid() != 0;
}

int wake(struct cli *cli, struct err *err)
{
    cli->wakes = false;
    cli->for_sandboxes = true;
    out_note(cli, "davit: the control plane is down: it is started");
    int rc = up_ensure(cli, err);
    return rc < 0 ? rc : 0;
}
