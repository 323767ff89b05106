/* SPDX-License-Identifier: Apache-2.0 */
/* deploy — the state of one deployment while it runs, or of another change to the containers of a service, shared by its steps.  What a step needs
 * from an earlier one it can find again by names and labels, so that a resumed job may begin at any step.
 * A service's containers fall into classes: those that stay, those that come (made by this command), those that leave. One stays or comes when it is
 * of the deployment and its number is at most `replicas`; the others leave.
 * Ownership: on the stack of the command's fiber; deploy_release at the end.  Thread: loop. */
#ifndef DAVIT_HOST_WORK_DEPLOY_H
#define DAVIT_HOST_WORK_DEPLOY_H

#include "host/work/desired.h"
#include "host/work/work_internal.h"

enum { REPLICAS_MAX = 32, STOP_SECONDS = 10, STEP_STOP_OLD = 5 /* in a deployment's table */ };
/* How long one stop may take. */
#define STOP_CALL (STOP_SECONDS * USEC_SEC + ENGINE_CALL)
/* And all of a service. */
#define STOP_ALL (REPLICAS_MAX * STOP_SECONDS * USEC_SEC + ENGINE_CALL)

struct deploy {
    struct command *c;
    struct work *w;
    const Davit__Link__V1__Deploy *msg;
    const Davit__Common__V1__ServiceSpec *spec;
    char *network;     /* davit-<project> */
    char *job;         /* what davit.job begins with: the command's id; NULL: nothing is made by this one */
    unsigned replicas; /* 1..REPLICAS_MAX; 0 until deploy_count */
    enum deploy_strategy { STRATEGY_UNKNOWN, STRATEGY_BLUE_GREEN, STRATEGY_RECREATE } strategy;
    char digest[DOCKER_DIGEST_SIZE]; /* the image's own id where no registry has given one */
    char pinned[DOCKER_DIGEST_SIZE]; /* id of the image to use whatever the spec's name means by now; "": what it means */
    bool scales;                     /* only the number changes: those that run are taken for healthy */
    uint32_t unfit;                  /* bit N - 1: number N runs and gets no request yet */
    usec_t pause;                    /* the least between two looks at its health */
    bool unheld;                     /* the ingress could not be told, so routes_hold does not try again */
    const char *held;                /* name of a container that gets no new connection, borrowed; NULL: none */
    const char *image_ref;           /* by which the engine knows the image, borrowed; after deploy_image */
    char id[DOCKER_ID_SIZE]; /* of the first container, "" while unknown */
    uint32_t ran;            /* bit N - 1: number N ran already when its start was reached */
    char **stopped;          /* containers that stop_old stopped, owned */
    size_t n_stopped;
    unsigned retired;
    struct docker_image image; /* image.pool NULL while not asked for */
    const char *reason;        /* of the first failure; static */
    char *detail;
};

/* Checks what a spec asks for: names, paths, ports, bounds, everything that this agent refuses. 0 or -ERR_INVALID with the field's name. */
int deploy_check(const Davit__Link__V1__Deploy *msg, struct err *err) MUST_USE;

/* --- deploy.c ---- */

/* @c may be NULL for what is no command. @msg is borrowed. */
void deploy_init(struct deploy *d, struct work *w, struct command *c, const Davit__Link__V1__Deploy *msg);
void deploy_release(struct deploy *d);
/* Notes the class of a failure unless one was noted before; returns what @rc is. */
int deploy_reason(struct deploy *d, int rc, const char *reason);
/* Loads d->image. Where the spec names a digest that the engine does not know, it may be the id of an image that came without a registry. */
int deploy_image(struct deploy *d, usec_t deadline, struct err *err) MUST_USE;
/* Did all containers run before this command reached them? */
bool deploy_ran(const struct deploy *d);
/* Settles d->strategy, which the image has a say in. */
int deploy_strategy(struct deploy *d, usec_t deadline, struct err *err) MUST_USE;
/* By which check a container counts as healthy: the spec's, or the image's own where the spec has no word about it. After deploy_image. */
Davit__Common__V1__HealthKind deploy_health(const struct deploy *d);

/* -ERR_INVALID where the service cannot have so many containers. After deploy_count. */
int deploy_check_replicas(struct deploy *d, struct err *err) MUST_USE;
/* The failed job becomes the command's result. */
void deploy_fail(struct deploy *d, struct job *job);

/* --- deploy_route.c ---- */

/* Who gets requests. Containers that do not run never do. */
enum route_mode {
    ROUTE_HELD,   /* those that stay; those that leave get no new ones */
    ROUTE_BOTH,   /* all */
    ROUTE_SWITCH, /* those that come and stay; those that leave get no new ones */
    ROUTE_NOW,    /* those that come and stay: the ones of the deployment */
    ROUTE_BACK,   /* those that stay and leave; those that came get no new ones */
    ROUTE_BEFORE, /* those that stay and leave, as before the command */
    ROUTE_CLOSED  /* nobody gets new ones */
};
/* Does or did a hostname lead to the service, and is there an ingress? */
bool deploy_routed(const struct deploy *d);
/* Tells the ingress. 0 also where there is none. As ingress_set. */
int deploy_route(struct deploy *d, enum route_mode mode, usec_t deadline, struct err *err) MUST_USE;
/* The same, then waits a while for the connections of those that get no new ones. */
int deploy_hold(struct deploy *d, struct job *job, enum route_mode mode, struct err *err) MUST_USE;
/* A container that is gone comes back without a command, perhaps at the address that it had: before it starts, only what runs and is well gets
 * requests. The service is held. Where the ingress cannot be told by @deadline, or
 * was not told of all services yet, it comes back all the same, and so do the others of this run. */
void routes_hold(struct deploy *d, usec_t deadline); /* route_watch.c */
/* For a command that takes over what runs: fills d->unfit. The service is held, d->replicas is set. 0 also where no hostname leads to it. */
int routes_unfit(struct deploy *d, usec_t deadline, struct err *err) MUST_USE;
/* This run of container @replica was found healthy. */
void routes_judged(struct deploy *d, unsigned replica, const char *id, usec_t started);
/* The port that hostnames lead to. */
int deploy_route_port(struct deploy *d, uint16_t *ret, usec_t deadline, struct err *err) MUST_USE;
/* Can the hostnames of the spec lead here? Notes the reason if not. */
int deploy_check_routes(struct deploy *d, usec_t deadline, struct err *err) MUST_USE;

/* One service as the ingress is told of it, and what that points to: freed by route_part_free. @s has a route. */
struct route_part;
struct ingress_service;
int route_part_of(struct work *w, const struct desired_service *s, struct route_part **ret, struct ingress_service *ret_service, usec_t deadline,
                  struct err *err) MUST_USE;
/* Accepts NULL. */
void route_part_free(struct route_part *p);

/* --- record.c: what is desired from now on. No-ops where nobody keeps it. ---- */

/* The deployment, with its number of containers and the port of its routes settled. */
int record_active(struct deploy *d, usec_t deadline, struct err *err) MUST_USE;
int record_stopped(struct command *c, bool stopped, struct err *err) MUST_USE;
int record_removed(struct command *c, struct err *err) MUST_USE;
/* A copy that outlives what is desired; never NULL. Freed with its secrets wiped. */
Davit__Link__V1__Deploy *deploy_copy(const Davit__Link__V1__Deploy *msg) MUST_USE;
void deploy_copy_free(Davit__Link__V1__Deploy *copy);

/* --- deploy_swap.c ---- */

/* 1: a container that leaves runs now; 0: none does. After deploy_count. */
int deploy_before(struct deploy *d, usec_t deadline, struct err *err) MUST_USE;

/* --- replicas.c ---- */

/* davit-<project>-<service>-<8>, from the second on with its number behind. Freed by the caller. */
char *deploy_name(const struct deploy *d, unsigned replica) MUST_USE;
/* 1..REPLICAS_MAX by the label; 0 for what is none of ours. */
unsigned replica_number(const struct docker_map *labels);
/* Settles d->replicas: what the spec says, else as many as the service has. */
int deploy_count(struct deploy *d, usec_t deadline, struct err *err) MUST_USE;
/* The value of davit.job for an object that @step makes. Freed by the caller. */
char *deploy_job_label(const struct deploy *d, const char *step) MUST_USE;
/* Did this very command make the object with these labels? */
bool deploy_made(const struct deploy *d, const struct docker_map *labels, const char *step);
/* Is it a container of this deployment? */
bool deploy_owns(const struct deploy *d, const struct docker_map *labels);
/* A container of the service that leaves. After deploy_count. */
bool deploy_leaves(const struct deploy *d, const struct docker_summary *c);
/* The containers of the service, newest first. */
int deploy_list(struct deploy *d, struct docker_summaries *ret, usec_t deadline, struct err *err) MUST_USE;
/* The deployment's container @replica. 0 with *ret filled; 1 there is none; -ERR_EXISTS the name belongs to something else. */
int deploy_inspect(struct deploy *d, unsigned replica, struct docker_container *ret, usec_t deadline, struct err *err) MUST_USE;

/* --- create.c ---- */

/* Makes container @replica. */
int deploy_create(struct deploy *d, unsigned replica, usec_t deadline, struct err *err) MUST_USE;

/* --- health.c ---- */

struct health {
    struct deploy *d;
    struct job *job;
    Davit__Common__V1__HealthKind kind;
    const char *path;
    uint16_t port;
    usec_t interval, timeout, grace_end;
    usec_t due; /* the next attempt over the network, not before */
    unsigned retries, failures;
    unsigned replica;
    unsigned restarts; /* that do not count against it */
    bool first;
    char id[DOCKER_ID_SIZE]; /* with the start: the run that was looked at last */
    usec_t started;
    const char *why; /* reason of the last failed attempt, static */
};
/* The defaults where the spec says 0; grace is counted from @now (monotonic). */
void health_setup(struct health *h, struct deploy *d, struct job *job, usec_t now);
/* @wanted, or where it is 0 the first port that the image exposes or the spec publishes. @what for the error: "health check". */
int deploy_port(struct deploy *d, uint32_t wanted, const char *what, uint16_t *ret, usec_t deadline, struct err *err) MUST_USE;
/* Waits for the verdict about container @replica. The grace time begins now. */
int health_wait(struct deploy *d, struct job *job, unsigned replica, struct err *err) MUST_USE;

/* --- Steps ---- */

int step_pull(struct job *job, void *ctx, struct err *err);       /* image.c */
int step_inspect(struct job *job, void *ctx, struct err *err);
int probe_network(struct job *job, void *ctx, struct err *err);   /* deploy_objects.c */
int step_network(struct job *job, void *ctx, struct err *err);
int undo_network(struct job *job, void *ctx, struct err *err);
int step_volumes(struct job *job, void *ctx, struct err *err);
int undo_volumes(struct job *job, void *ctx, struct err *err);
int probe_create(struct job *job, void *ctx, struct err *err);    /* deploy_swap.c */
int step_create(struct job *job, void *ctx, struct err *err);
int undo_create(struct job *job, void *ctx, struct err *err);
int step_stop_old(struct job *job, void *ctx, struct err *err);
int undo_stop_old(struct job *job, void *ctx, struct err *err);
int step_start(struct job *job, void *ctx, struct err *err);
int undo_start(struct job *job, void *ctx, struct err *err);
int step_retire(struct job *job, void *ctx, struct err *err);
int step_health(struct job *job, void *ctx, struct err *err);     /* health.c */
int step_route(struct job *job, void *ctx, struct err *err);      /* deploy_route.c */
int undo_route(struct job *job, void *ctx, struct err *err);
int step_drain(struct job *job, void *ctx, struct err *err);

#endif
