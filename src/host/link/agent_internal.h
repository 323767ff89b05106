/* SPDX-License-Identifier: Apache-2.0 */
/* agent_internal — the record that agent.c and agent_health.c share.  Not included elsewhere.  Thread: loop. */
#ifndef DAVIT_HOST_LINK_AGENT_INTERNAL_H
#define DAVIT_HOST_LINK_AGENT_INTERNAL_H

#include "host/link/agent.h"
#include "host/link/renew.h"
#include "host/link/tunnel.h"
#include "host/link/session.h"
#include "host/link/takeover.h"
#include "host/link/update.h"
#include "net/http_server.h"

struct agent_notify;
struct contain;
struct doctor_remote;

struct agent {
    struct loop *loop;
    const struct agent_options *options;
    struct agent_config config;
    char *link;          /* where the control plane is */
    bool local;          /* by unix socket, without certificates */
    int lock_fd, machine_fd;
    struct renew *renew; /* NULL for a local one, and in tunnel mode */
    struct tunnel *tunnel; /* tunnel mode, else NULL */
    bool fenced;         /* another agent is what this one was; no work */
    struct journal *journal;
    struct desired *desired; /* what the work keeps running */
    struct docker *docker;
    struct sysinfo *sysinfo;
    struct session *session;
    struct doctor_remote *doctor;
    struct ingress *ingress; /* with the work; NULL: no routes on this server */
    struct contain *contain; /* with the work: its sandboxes */
    struct work *work;   /* once it is known which server this is */
    struct http_server *http;
    struct agent_notify *notify;
    struct updater *updater;
    struct takeover *takeover; /* with the agent that this one is to follow, until it has */
    bool paused;               /* link and health are closed for the one that is to follow this one */
    bool left;                 /* it has, and this one ends */
    struct event quit;
    int rc;
    struct err err, save_err;
};

/* Serves health on the unix socket and, if @listen is not NULL, there. A socket path that is too long costs the socket only. */
int agent_health_listen(struct agent *a, const char *listen, struct err *err) MUST_USE;

/* --- agent_takeover.c: one agent after another, see takeover.h ---- */

/* The updater, and what it needs of the agent. Ends with updater_free. */
void agent_updater(struct agent *a);
/* What session_config.update points to. */
int agent_update(void *arg, const Davit__Link__V1__Command *cmd, const struct job_journal *journal, int resume_step,
                 Davit__Link__V1__CommandResult *ret) MUST_USE;
/* Waits, in the new one: until the old one lets it have locks, journal and identity. */
int agent_takeover_adopt(struct agent *a, struct err *err) MUST_USE;
/* Waits, in the new one, whose session was started with its commands held: until this is the agent. */
int agent_takeover_finish(struct agent *a, struct err *err) MUST_USE;
/* The program was told to end: if its slot has not proved itself yet, that is no failure. Blocks. */
void agent_note_stop(const struct agent *a);

#endif
