/* SPDX-License-Identifier: Apache-2.0 */
/* control_internal — what the files of src/control share: the record of the control plane, and short names for generated ones.
 * Not included outside of src/control and its tests.  Thread: loop. */
#ifndef DAVIT_CONTROL_CONTROL_INTERNAL_H
#define DAVIT_CONTROL_CONTROL_INTERNAL_H

#include "base/list.h"
#include "base/log.h"
#include "control/changes.h"
#include "control/control.h"
#include "ident/cert.h"
#include "loop/fiber.h"
#include "loop/lane.h"
#include "net/http_server.h"
#include "rpc/rpc.h"
#include "store/store.h"

enum { CONTROL_WARNINGS = 3 };

/* The longest that anything waits for the store. */
#define STORE_WAIT (10 * USEC_SEC)

struct counters {
    uint64_t deployments_ok, deployments_failed;
    uint64_t commands_sent, commands_done;
    uint64_t enrol_ok, enrol_refused;
    uint64_t links_opened, links_fenced, links_refused, link_bytes;
    uint64_t credentials_issued, recoveries_refused, duplicates;
};

struct enroll;
struct key;
struct releases;
struct rollouts;
struct challenges;
struct audit;
struct seal;
struct bus;
struct kept;
struct passes;
struct plans;
struct people;
struct registries;
struct hmap;
struct idle;
struct oauth;
struct tickets;
struct worldview;
struct sandboxes;

struct control {
    struct loop *loop;
    struct control_options opt;
    struct store *store;
    struct lane *fast; /* signatures and key files */
    struct rpc_server *api, *link, *web, *local, *token, *gate; /* web: 7440; local: 7441; token: of oauth.h alone; gate.h */
    struct http_server *health;
    usec_t probed; /* when probes.h looked last; 0: never */
    const char *probe_failed;
    struct enroll *enroll;
    struct challenges *challenges;
    struct event credentials; /* pulsed when those of a server changed, or its link */
    struct passes *passes; /* sessions and API tokens */
    struct people *people;
    struct plans *plans; /* of clean-ups, see cleaning.h */
    struct tickets *tickets; /* of files, see tickets.h */
    struct sandboxes *sandboxes; /* never NULL */
    struct audit *audit; /* NULL before the store is open */
    struct key *access_key; /* signs access tokens */
    struct key *access_old; /* while the root is changed: what it signed is good still; else NULL */
    struct oauth *oauth;    /* issues those of 7443 */
    usec_t strange_handshakes; /* a bucket, see tunnel.h */
    struct seal *seal; /* keys of what is sealed in the store */
    char *link_socket; /* address of the unix listener */
    int lock_fd;
    usec_t started; /* real time */
    bool link_open; /* the TCP listener of links is there */
    bool stopping;
    bool backing_up;  /* one at a time */
    bool making_local; /* the row of the local server is being written */
    uint8_t pin[32];   /* of the first root: goes into tokens */
    struct cert_roots roots; /* see roots.h */
    char *roots_pem;         /* the same as text */
    usec_t roots_end;        /* real time: when the change ends by itself; 0: it does not */
    struct timer roots_timer;
    bool roots_ended;        /* at the start: its end had come */
    bool changing_root;      /* a call is at it */
    bool asking_roots;       /* a fiber asks servers to renew for it */
    char warnings[CONTROL_WARNINGS][512], *warning_ptrs[CONTROL_WARNINGS]; /* as said last, see roots.h */

    struct list servers; /* struct server.node */
    unsigned n_servers;
    unsigned fibers;      /* ours that are alive; control_stop waits for them */
    unsigned calls;       /* handlers of control_run that work for their caller; who only listens is not counted */
    struct event idle;    /* pulsed when a fiber of ours ends */
    bool saving;          /* a fiber writes dirty servers */
    struct list watchers; /* struct watcher.node, see deployments.h */
    struct changes changes;
    struct kept *kept;     /* what watches share, see watch_kept.h */
    struct bus *bus;           /* of events */
    struct worldview *world;   /* from which they come */
    struct list streams;   /* of WatchService: struct watch.peers */
    unsigned n_streams;
    struct fiber *renewal, *pruning;
    struct idle *idle_watch; /* NULL: it never ends by itself */
    const char *drained;     /* why it ends by itself, static; NULL: it does not */
    struct releases *releases;
    struct registries *registries;
    struct hmap *reveals; /* see variables.h */
    struct rollouts *rollouts; /* NULL before the store is open */
    struct counters counters;
};

/* Starts @fn on a fiber that control_stop waits for; it must call control_fiber_end at its end. */
int control_fiber(struct control *c, const char *name, void (*fn)(void *arg), void *arg) MUST_USE;
void control_fiber_end(struct control *c);

/* Runs a handler so that control_stop waits for its end: a caller that goes away ends its call, not at once the code that works for it. */
int control_run(rpc_run *fn, struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err) MUST_USE;
#define CONTROL_HANDLER(fn)                                                                                                      \
    static int fn##_tracked(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)                  \
    {                                                                                                                            \
        return control_run(fn, call, ctx, request, err);                                                                         \
    }

/* Waits: TLS with the certificate of the control plane. The root is sent along: agents that enroll know only its pin. */
int control_make_tls(struct control *c, enum tls_verify verify, struct tls_ctx **ret, struct err *err) MUST_USE;
/* Waits: opens @addr for @server with it. */
int control_listen_tls(struct control *c, struct rpc_server *server, const char *addr, enum tls_verify verify, struct err *err) MUST_USE;
/* Where the process listens for what is to be reached at @addr ("ADDR:PORT"): there, or at the same port of opt.inside. The caller frees it. */
char *control_bind(const struct control *c, const char *addr) MUST_USE;
/* And the other way: what to tell of listener @bound (NULL: it is closed, ""), that was asked for as @addr. */
const char *control_told(const struct control *c, const char *bound, const char *addr);
/* Waits: makes it anew for the listener of @server that is reached at @addr. */
void control_set_tls(struct control *c, struct rpc_server *server, const char *addr, enum tls_verify verify);
/* On the lane: the certificate of the control plane is as it should be. 0: it was, 1: a new one was written. */
int control_renew_leaf(struct control *c, struct err *err) MUST_USE;
/* Waits: new connections of all listeners use the certificate and the roots that are on disk now. */
void control_use_leaf(struct control *c);

/* Waits: opens the listener of remote links unless it is open. */
int control_open_link(struct control *c, struct err *err) MUST_USE;

/* Who may call what: see authz.c. API: the CLI's certificate and a token for it (oauth.h). Links: enrol methods without one, link methods with a
 * server's or on the unix socket. */
rpc_authorize authz_api;
rpc_authorize authz_none; /* no calls at all */
rpc_authorize authz_link;
/* On 7440, where no client shows a certificate: enrol methods, and link methods with an access token; what people may with a session or an API
 * token, see doors.h. On 7441 only that. */
rpc_authorize authz_web;
rpc_authorize authz_local;
/* The one access token in the metadata of @call, or NULL. Borrowed. */
const char *authz_bearer(const struct rpc_call *call);
/* The server id in "davit://server/<uuid>", NULL for any other URI. Points into @uri. */
const char *authz_server_id(const char *uri);

/* /healthz and /metrics. */
http_handler health_serve;

/* Handlers in order of the methods. */
extern const struct rpc_handler admin_handlers[]; /* on 7443 only */
extern const struct rpc_handler controlplane_handlers[];
extern const struct rpc_handler containers_handlers[];
extern const struct rpc_handler images_handlers[];
extern const struct rpc_handler servers_handlers[];
extern const struct rpc_handler workloads_handlers[];
extern const struct rpc_handler status_handlers[];
extern const struct rpc_handler audit_handlers[];
extern const struct rpc_handler enroll_handlers[];
extern const struct rpc_handler enroll_web_handlers[]; /* by proof, see tunnel.h */
extern const struct rpc_handler identity_handlers[];
extern const struct rpc_handler credentials_handlers[];
extern const struct rpc_handler doctor_handlers[];
extern const struct rpc_handler events_handlers[];
extern const struct rpc_handler exec_handlers[];
extern const struct rpc_handler links_handlers[];
extern const struct rpc_handler roots_handlers[];
extern const struct rpc_handler updates_handlers[];
extern const struct rpc_handler watch_handlers[];
extern const struct rpc_handler people_handlers[];
extern const struct rpc_handler api_tokens_handlers[];
extern const struct rpc_handler variables_handlers[];
extern const struct rpc_handler registries_handlers[];
extern const struct rpc_handler files_handlers[];
extern const struct rpc_handler sandboxes_handlers[];

/* Every service, and the listener that it is served on. */
struct control_service {
    const struct rpc_service *service;
    const struct rpc_handler *handlers;
    bool link;
};
extern const struct control_service control_services[];
extern const size_t control_n_services;

/* Resident set of this process in bytes; 0 when /proc does not tell. */
uint64_t status_rss(void);

/* A field of a message as C string that is never NULL. */
static inline const char *text(const char *s)
{
    return s ? s : "";
}

/* Generated structs have no const members: a borrowed string in a message that is only packed. */
static inline char *lend(const char *s)
{
    return (char *)(uintptr_t)(s ? s : "");
}

#endif
