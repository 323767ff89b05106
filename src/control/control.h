/* SPDX-License-Identifier: Apache-2.0 */
/* control — the control plane of one state directory: it holds the store, the keys, the registry of servers, their links and commands, and
 * the listeners of the API, of links and of health.
 * Ownership: the caller of control_start ends with control_stop.  Thread: loop; both calls wait on a fiber.
 * Limits: CONTROL_SERVERS_MAX servers; the others stand in the headers of the modules.  Input trust: options from the local user. */
#ifndef DAVIT_CONTROL_CONTROL_H
#define DAVIT_CONTROL_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"

struct loop;
struct control;

enum { CONTROL_SERVERS_MAX = 10000 };

enum idle_exit { IDLE_EXIT_AUTO, IDLE_EXIT_NEVER, IDLE_EXIT_ALWAYS };

/* Borrowed until control_stop has returned. */
struct control_options {
    const char *state_dir;     /* keys, certificates, control.db, lock; 0700 */
    const char *store;         /* target of store_open; NULL: <state_dir>/control.db */
    const char *api_listen;    /* "127.0.0.1:7443" */
    const char *link_listen;   /* "0.0.0.0:7442"; opened with the first remote server */
    const char *web_listen;    /* "0.0.0.0:7440"; opened with the first remote server or where there is a hostname, see front.h */
    const char *local_web_listen; /* "127.0.0.1:7441", loopback only; NULL or "none": not */
    const char *token_listen;  /* "127.0.0.1:4444", loopback only: the token endpoint beside that of the API; NULL or "none": not */
    const char *gate_listen;   /* "127.0.0.1:4456", loopback only: see gate.h; NULL or "none": not */
    const char *link_socket;   /* path of the socket for the local agent; NULL: <state_dir>/link.sock */
    const char *health_listen; /* "127.0.0.1:7080" */
    const char *inside;        /* address that is listened at in place of those named above, whose ports somebody else publishes there (a container);
                                * told and believed is what is above. Numeric IPv4, or NULL */
    const char *advertise;     /* HOST[:PORT] under which agents reach the link, or NULL */
    const char *hostname;      /* public name for tunnel mode, or NULL */
    const char *release_dir;   /* releases to bring servers to, see releases.h; or NULL */
    int64_t agent_uid;         /* uid of the local agent beside 0 and our own; -1: none */
    usec_t heartbeat_interval;
    usec_t offline_after;
    usec_t agent_certificate_life; /* 0: as in credentials.h */
    enum idle_exit idle_exit;      /* see idle.h */
    bool for_sandboxes;            /* started by itself, for them */
    usec_t idle_poll, idle_grace;  /* 0: as in idle.h */
    /* There is nothing to do any more: the caller shall stop it. @rc 0, or negative: it cannot be told. */
    void (*on_idle)(void *arg, int rc);
    void *on_idle_arg;
    usec_t recovery_grace;         /* how long after its end a certificate's key may still ask for a new one; 0: as in credentials.h */
};

/* Can it be started with these at all? Reads them only. 0, or -ERR_INVALID that names the option of davitd. */
int control_check_options(const struct control_options *options, struct err *err) MUST_USE;
/* Waits: takes the lock, opens the store, loads what is in it, listens. -ERR_PRECONDITION with advice when the keys are missing,
 * -ERR_EXISTS when another process holds the directory or an address. On failure nothing stays open. */
int control_start(struct loop *loop, const struct control_options *options, struct control **ret, struct err *err) MUST_USE;
/* Waits: stops accepting, ends calls and links, writes what is to be written, closes. Accepts NULL. Returns NULL. */
struct control *control_stop(struct control *c);

/* Bound address (with `inside`: the published one) of the API and of health, as text; of the link listener, "" while it is not open. Borrowed. */
const char *control_api_addr(const struct control *c);
const char *control_health_addr(const struct control *c);
const char *control_link_addr(const struct control *c);
/* Of the second token endpoint, "" where it is not. */
const char *control_token_addr(const struct control *c);
/* Of 7440, "" while it is not open. */
const char *control_web_addr(const struct control *c);
/* Of 7441, "" where it is not. */
const char *control_local_addr(const struct control *c);

#endif
