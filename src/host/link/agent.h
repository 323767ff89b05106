/* SPDX-License-Identifier: Apache-2.0 */
/* agent — the daemon as a whole: lock, journal, engine, work, session, health, and their order at start and end.
 * Health is HTTP on the unix socket <directory>/health.sock (0600): GET /healthz answers 200 while the link is up, else 503, with JSON in both.
 * No TCP or UDP socket listens unless asked for by --health-listen.
 * Thread: the one that calls agent_run. */
#ifndef DAVIT_HOST_LINK_AGENT_H
#define DAVIT_HOST_LINK_AGENT_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"

struct pool;

/* Where the way in to services is: on a machine of the control plane its own business, on a server that was enrolled everybody's. */
#define AGENT_INGRESS_LOCAL    "127.0.0.1:80"
#define AGENT_INGRESS_ENROLLED "0.0.0.0:80"
#define AGENT_INGRESS_NONE     "none"
#define AGENT_INGRESS_IMAGE    "docker.io/library/haproxy:2.8-alpine"

struct agent_options {
    const char *config_dir;    /* NULL: the default place */
    const char *link;          /* "unix:/path" of the control plane on this machine; NULL: as enrolled */
    const char *health_listen; /* "127.0.0.1:7080", or NULL */
    const char *docker;        /* as docker_new */
    const char *tailscale;     /* as sysinfo.h */
    uint64_t disk_reserve;     /* as work_config */
    const struct pool *pools;  /* likewise */
    size_t n_pools;
    const char *ingress_listen; /* "ADDR:PORT" or AGENT_INGRESS_NONE; NULL: as enrolled, else AGENT_INGRESS_LOCAL or AGENT_INGRESS_ENROLLED */
    const char *ingress_image;  /* NULL: as enrolled, else AGENT_INGRESS_IMAGE */
    const char *runtime_dir;    /* where davit-init and davit-session lie; NULL: beside this program */
    const char *self;           /* the container that it runs in: then it is for sandboxes only (role sandbox); NULL: a process of the machine */
    const char *const *places;  /* as work_config */
    size_t n_places;
    const char *policy;         /* what the owner forbids; NULL: policy.yaml in the agent's directory */
    usec_t trial_wait;         /* as updater_config */
    bool with_control_plane;   /* ends when the control plane on this machine says that it has nothing to do any more */
    bool takeover;             /* started by the agent that it is to follow, see takeover.h */
};

/* Is @value one for ingress_listen? NULL and "" are. 0 or -ERR_INVALID. */
int agent_check_ingress_listen(const char *value, struct err *err) MUST_USE;

/* Blocks until SIGTERM or SIGINT, or an end that with_control_plane means. Another agent that takes over the identity does not end it: it
 * stays, idle (see session.h). 0 after a signal, or negative with @err when it could not start. */
int agent_run(const struct agent_options *o, struct err *err) MUST_USE;

/* What an agent asks a new version of itself before it tries it: can this program run here, read the configuration and credentials, and make a
 * link of them? Touches nothing. 0, or negative with @err. */
int agent_selftest(const struct agent_options *o, struct err *err) MUST_USE;

/* Waits, on a fiber of another program: what the agent of @config_dir says of itself, as JSON appended to @out. *ret_online: is its link up?
 * -ERR_UNAVAILABLE: none runs there. */
struct loop;
int agent_ask_health(struct loop *loop, const char *config_dir, struct buf *out, bool *ret_online, struct err *err) MUST_USE;

#endif
