/* SPDX-License-Identifier: Apache-2.0 */
/* deploy — the state of one deployment while it runs, shared by its steps.  What a step needs from an earlier one it can find again by
 * name, so that a resumed job may begin at any step.
 * Ownership: on the stack of the command's fiber; deploy_release at the end.  Thread: loop. */
#ifndef DAVIT_HOST_WORK_DEPLOY_H
#define DAVIT_HOST_WORK_DEPLOY_H

#include "host/work/work_internal.h"


struct deploy {
    struct command *c;
    struct work *w;
    const Davit__Link__V1__Deploy *msg;
    const Davit__Common__V1__ServiceSpec *spec;
    char *container; /* davit-<project>-<service>-<8> */
    char *network;   /* davit-<project> */
    char *job;       /* what davit.job begins with: the command's id */
    char digest[DOCKER_DIGEST_SIZE];
    char id[DOCKER_ID_SIZE]; /* of the container, "" while unknown */
    bool was_running;        /* it ran already when its start was reached */
    bool started;            /* by us */
    char **stopped;          /* containers that stop_old stopped, owned */
    size_t n_stopped;
    unsigned retired;
    struct docker_image image; /* image.pool NULL while not asked for */
    const char *reason;        /* of the first failure; static */
    char *detail;
};

/* Checks what a spec asks for: names, paths, ports, bounds, everything that this agent refuses. 0 or -ERR_INVALID with the field's name. */
int deploy_check(const Davit__Link__V1__Deploy *msg, struct err *err) MUST_USE;

/* Does the owner of this machine allow it? 0, or -ERR_DENIED with *ret_reason, see host/link/policy.h. @msg passed deploy_check. */
int deploy_policy(const struct work *w, const Davit__Link__V1__Deploy *msg, const char **ret_reason, struct err *err) MUST_USE;

/* The value of davit.job for an object that @step makes. Freed by the caller. */
char *deploy_job_label(const struct deploy *d, const char *step) MUST_USE;
/* Did this very command make the object with these labels? */
bool deploy_made(const struct deploy *d, const struct docker_map *labels, const char *step);

/* The deployment's container. 0 with *ret filled; 1 there is none; -ERR_EXISTS the name belongs to something else. */
int deploy_inspect(struct deploy *d, struct docker_container *ret, usec_t deadline, struct err *err) MUST_USE;
/* Loads d->image. */
int deploy_image(struct deploy *d, usec_t deadline, struct err *err) MUST_USE;
/* Notes the class of a failure unless one was noted before; returns what @rc is. */
int deploy_reason(struct deploy *d, int rc, const char *reason);

/* Steps in other files (image.c, create.c, health.c). */
int step_pull(struct job *job, void *ctx, struct err *err);
int step_inspect(struct job *job, void *ctx, struct err *err);
int step_create(struct job *job, void *ctx, struct err *err);
int step_health(struct job *job, void *ctx, struct err *err);

#endif
