/* SPDX-License-Identifier: Apache-2.0 */
/* update_internal — what the files of the update share: update.c (the table), update_fetch.c (download), update_unpack.c (the archive into a
 * slot), update_trial.c (the new program beside this one).  Not included elsewhere.  Thread: loop, but for what runs in the lane. */
#ifndef DAVIT_HOST_LINK_UPDATE_INTERNAL_H
#define DAVIT_HOST_LINK_UPDATE_INTERNAL_H

#include "base/mem.h"
#include "host/link/slots.h"
#include "host/link/update.h"
#include "loop/lane.h"
#include "loop/spawn.h"

struct updater {
    struct updater_config config;
};

/* One command, on the stack of its fiber. */
struct update {
    struct updater *updater;
    const Davit__Link__V1__Command *cmd;
    const Davit__Link__V1__UpdateAgent *msg;
    struct slots slots;
    struct lane *lane;
    struct release release;
    const struct release_file *file;  /* of this platform; NULL until the metadata was believed */
    char slot[SLOT_NAME_SIZE];        /* where the new one goes */
    struct spawn *child;              /* while it is tried */
    struct takeover *takeover;
    bool held;                        /* drain was called */
    bool failed;                      /* the first reason stays */
    const char *reason;
    char *detail;
    struct err block_err;             /* of the job in the lane */
};

/* Notes the phase of a failure unless one was noted before; returns what @rc is. */
int update_reason(struct update *u, int rc, const char *reason);
/* Waits: @fn(@u) in the lane; it puts its failure into u->block_err. */
int update_block(struct update *u, int (*fn)(void *arg), usec_t deadline, struct err *err) MUST_USE;
/* The file that is downloaded; the caller frees. */
char *update_fetch_path(const struct update *u) MUST_USE;

/* Steps in other files. */
int step_download(struct job *job, void *ctx, struct err *err);
int probe_download(struct job *job, void *ctx, struct err *err);
int undo_download(struct job *job, void *ctx, struct err *err);
int step_unpack(struct job *job, void *ctx, struct err *err);
int probe_unpack(struct job *job, void *ctx, struct err *err);
int undo_unpack(struct job *job, void *ctx, struct err *err);
int step_selftest(struct job *job, void *ctx, struct err *err);
int step_trial(struct job *job, void *ctx, struct err *err);
int undo_trial(struct job *job, void *ctx, struct err *err);
/* Waits: the rest of the takeover, behind the change of `current`. It ends with the fiber's cancellation, for the program ends, or negative. */
int trial_hand_over(struct update *u, usec_t deadline, struct err *err) MUST_USE;
/* What is left of a trial when the command comes to no end of its own. */
void trial_release(struct update *u);

#endif
