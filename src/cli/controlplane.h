/* SPDX-License-Identifier: Apache-2.0 */
/* controlplane — what the files of `davit controlplane` share, and with `davit down --purge` the names of what they leave. */
#ifndef DAVIT_CLI_CONTROLPLANE_H
#define DAVIT_CLI_CONTROLPLANE_H

#include "cli/cli.h"

struct restore_options {
    struct cli_common common;
    const char *store;
    bool force;
};

extern const struct opt restore_opts[];
/* The verb; see struct verb. */
int run_restore(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err) MUST_USE;

struct rotate_ca_options {
    struct cli_common common;
    bool status, finish, force;
};
extern const struct opt rotate_ca_opts[];
/* The verb, in rotate_ca.c; `davit auth rotate` is the same with an end. */
int run_rotate_ca(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err) MUST_USE;

struct up_options {
    struct cli_common common;
    const char *store, *api, *link, *web, *local_web, *releases, *health, *advertise, *hostname, *user, *docker, *ingress, *ingress_image, *mode;
    bool background;
    bool agent;
    usec_t wait;
};
extern const struct opt up_opts[];
/* The verb `up`, in up.c, also `controlplane up`: one path. */
int run_up(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err) MUST_USE;

struct down_options {
    struct cli_common common;
    bool purge, force;
};
extern const struct opt down_opts[];
/* The verb `down`, in down.c. */
int run_down(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err) MUST_USE;

struct controlplane_status_options {
    struct cli_common common;
    bool quiet;
};
extern const struct opt controlplane_status_opts[];
/* The verb, in controlplane_status.c. */
int run_controlplane_status(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err) MUST_USE;

/* controlplane_status.c. Asks /healthz of this machine's control plane: 0: healthy; 1: not, and @failed (may be NULL) is the part that does not
 * answer, "stopping" where it is about to end; -ERR_UNAVAILABLE: nobody answers. Waits, 2 s at most. */
enum { HEALTH_PART_MAX = 64 };
int health_look(struct cli *cli, struct buf *failed) MUST_USE;

/* Names of the user's keys in a backup, in the configuration directory; ended by NULL. */
extern const char *const user_files[];
/* And of what `davit up` was told, which stands beside them. A backup may lack it. */
#define SETTINGS_FILE "cli.json"
/* Beside the state directory, its name in front and a time behind: the old state, and the directory that changes places with it. */
#define RESTORE_KEPT  ".before-restore-"
#define RESTORE_FRESH ".restoring-"

#endif
