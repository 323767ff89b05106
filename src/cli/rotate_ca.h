/* SPDX-License-Identifier: Apache-2.0 */
/* rotate_ca — the user's side of a change of the root, for `davit auth rotate` and `davit controlplane rotate-ca`: one way, two names.
 * Every step may be repeated; all but the first wait, on the verb's fiber, under cli_lock.  Thread: loop. */
#ifndef DAVIT_CLI_ROTATE_CA_H
#define DAVIT_CLI_ROTATE_CA_H

#include "cli/cli.h"
#include "davit/control/v1/roots.pb-c.h"

/* GetRootsResponse, with one root at least; rpc_message_free. */
int rotate_get(struct cli *cli, ProtobufCMessage **ret, struct err *err) MUST_USE;
/* The control plane's first root has the pin @hex: an earlier run that was cut off before the user's side had it goes on. -ERR_PRECONDITION: its key
 * is not here. */
int rotate_catch_up(struct cli *cli, const char *hex, struct err *err) MUST_USE;
/* Makes and hands over what is new; both are believed so long (0: until rotate_finish). Connects anew. */
int rotate_begin(struct cli *cli, usec_t overlap, struct err *err) MUST_USE;
/* The old root opens nothing any more, and its key is destroyed. Connects anew. */
int rotate_finish(struct cli *cli, const char *pin, bool force, bool quiet, struct err *err) MUST_USE;
/* Prints how it stands. */
int rotate_show(struct cli *cli, struct err *err) MUST_USE;

#endif
