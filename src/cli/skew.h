/* SPDX-License-Identifier: Apache-2.0 */
/* skew — which versions go together: the control plane is updated first, and what talks to it may be one minor version behind (doc/operating.md).
 * Thread: any; skew_warn waits. */
#ifndef DAVIT_CLI_SKEW_H
#define DAVIT_CLI_SKEW_H

#include "cli/cli.h"

enum skew { SKEW_NONE, SKEW_BEHIND, SKEW_AHEAD };

/* How a program of version @other stands to a control plane of version @control. Versions that cannot be read go with everything. */
enum skew skew_of(struct str control, struct str other);
/* Waits: tells on stderr when this program or an agent does not go with the control plane of @control. */
void skew_warn(struct cli *cli, const char *control);

#endif
