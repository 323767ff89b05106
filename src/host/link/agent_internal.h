/* SPDX-License-Identifier: Apache-2.0 */
/* agent_internal — the record that agent.c and agent_health.c share.  Not included elsewhere.  Thread: loop. */
#ifndef DAVIT_HOST_LINK_AGENT_INTERNAL_H
#define DAVIT_HOST_LINK_AGENT_INTERNAL_H

#include "host/link/agent.h"
#include "host/link/renew.h"
#include "host/link/tunnel.h"
#include "host/link/session.h"
#include "net/http_server.h"

struct agent_notify;
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
    struct docker *docker;
    struct sysinfo *sysinfo;
    struct session *session;
    struct doctor_remote *doctor;
    struct work *work;   /* once it is known which server this is */
    struct http_server *http;
    struct agent_notify *notify;
    struct event quit;
    int rc;
    struct err err, save_err;
};

/* Serves health on the unix socket and, if @listen is not NULL, there. A socket path that is too long costs the socket only. */
int agent_health_listen(struct agent *a, const char *listen, struct err *err) MUST_USE;

#endif
