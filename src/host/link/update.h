/* SPDX-License-Identifier: Apache-2.0 */
/* update — the agent replaces itself by another release, or stays as it is: nothing between.
 * A job (jobs.h): check, room, download, unpack, selftest, trial, replace, settle, retire. What is downloaded is believed because of the signed
 * metadata that came with the command, not because of where it came from. The new program is unpacked into a slot of its own (slots.h), has to
 * pass its selftest, and is then started beside this one, which gives it link and journal and takes them back if it does not do well
 * (takeover.h). The name `current` is changed after that and before this program ends. The new one has to live for UPDATE_SETTLE; if it does
 * not, slots_boot brings the previous slot back and the command fails there.
 * The update waits for commands that run; those that come meanwhile wait in the journal, and whoever is the agent then does them.
 * Containers, and log streams but for a short gap of the link, are not touched.
 * A failure names its phase in Failure.reason: update_method, update_version, update_download, update_checksum, update_signature,
 * update_extract, update_selftest, update_trial, update_replace, update_busy; or policy_update.
 * Ownership: updater_new .. updater_free; what config points to outlives it.  Thread: loop; updater_command on a fiber.
 * Input trust: the control plane may say what it likes; URL, size, checksum and version must be those of the metadata. */
#ifndef DAVIT_HOST_LINK_UPDATE_H
#define DAVIT_HOST_LINK_UPDATE_H

#include "davit/link/v1/link.pb-c.h"
#include "host/link/agent_config.h"
#include "host/link/jobs.h"
#include "ident/release.h"

#define UPDATE_TRIAL_WAIT (3 * USEC_MINUTE) /* for the new one to reach the control plane and take over */
#define UPDATE_TRIAL_MIN (2 * USEC_SEC)
#define UPDATE_TRIAL_MAX (10 * USEC_MINUTE)
#define UPDATE_SETTLE (10 * USEC_SEC)
#define UPDATE_DRAIN_WAIT (10 * USEC_MINUTE) /* for commands that run */

struct updater;

struct updater_config {
    struct loop *loop;
    const struct agent_config *config;
    const char *docker;    /* as docker_new; NULL: the default */
    usec_t trial_wait;     /* 0: UPDATE_TRIAL_WAIT */
    int lock_fd, machine_fd; /* handed to the new one; -1: there is none */
    /* Waits: from now on no command begins but the update, and those that ran have ended, or -ERR_DEADLINE. */
    int (*drain)(void *arg, usec_t deadline, struct err *err);
    /* Waits: closes link and listeners. */
    int (*pause)(void *arg, usec_t deadline, struct err *err);
    /* Everything back, whatever of drain and pause happened. Harmless when nothing did. */
    int (*resume)(void *arg, struct err *err);
    /* The new one has it: the program ends, without touching what is the new one's now. */
    void (*leave)(void *arg);
    /* Progress; as work_config.send. */
    void (*send)(void *arg, const Davit__Link__V1__AgentMessage *msg);
    void *arg;
};

/* Copies the record, not what it points to. Never NULL. */
struct updater *updater_new(const struct updater_config *config) MUST_USE;
/* No command runs. Accepts NULL. Returns NULL. */
struct updater *updater_free(struct updater *u);

/* How this agent can be updated: "slots" (by itself), "container", "package". Static. */
const char *update_method(void);

/* Waits: runs @cmd, an UpdateAgent, to its end; contract as work_command (host/work/work.h), also for @ret. */
int updater_command(struct updater *u, const Davit__Link__V1__Command *cmd, const struct job_journal *journal, int resume_step,
                    Davit__Link__V1__CommandResult *ret) MUST_USE;

/* The table, for tests that walk all of them. */
void update_table(struct job_table *ret);

#endif
