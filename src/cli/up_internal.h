/* SPDX-License-Identifier: Apache-2.0 */
/* up_internal — what the files of `davit up` share: the ways to run and what comes before them. Not included elsewhere.
 * Thread: loop, on a fiber. */
#ifndef DAVIT_CLI_UP_INTERNAL_H
#define DAVIT_CLI_UP_INTERNAL_H

#include "cli/cli.h"

struct up_want {
    bool agent;  /* the local agent as well */
    bool leave;  /* what runs is left as it is, with whatever settings */
    usec_t wait; /* until all answers */
};

struct up_result {
    char *server; /* name of this machine as a server; NULL without an agent. Owned by who asked */
    bool changed; /* something was started */
};

/* What stood before this `up`, to which it goes back when davitd does not come up. */
struct up_before {
    struct cli_settings settings;
    bool known; /* `up` was here and saved them */
};

/* up_mode.c. Waits: settles how it runs: as @given says ("auto" or NULL: as it did; the first time, whatever goes here). -ERR_PRECONDITION, with what
 * to type, where something of the other way is there. */
int up_settle_mode(struct cli *cli, const char *given, const struct up_before *b, struct err *err) MUST_USE;

/* up_prepare.c. Waits: directories, keys and the account of davitd are there, and what it needs is its own. First settings are saved. */
int up_prepare(struct cli *cli, const struct up_before *b, struct err *err) MUST_USE;

/* up_native.c. Waits: as processes of this machine. */
int up_native(struct cli *cli, const struct up_want *want, struct up_before *b, struct up_result *ret, struct err *err) MUST_USE;
/* Waits. 1: the local server is online (its name in *ret_name, its id in the settings) and was heard since @since_us; 0: not yet. */
int up_local_online(struct cli *cli, usec_t since_us, char **ret_name, struct err *err) MUST_USE;

#endif
