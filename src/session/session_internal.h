/* SPDX-License-Identifier: Apache-2.0 */
/* session_internal — what the files of src/session share: the program's own record, the stream of the agent, pipelines, the registration.
 * session.c: the wire to PID 1 and the listener; talk.c: the stream; pipeline.c: what runs for the agent; stage.c: how it starts; register.c.
 * One talk is live at a time. A pipeline answers the talk that began it, and is killed when that ends.  Thread: loop. */
#ifndef DAVIT_SESSION_INTERNAL_H
#define DAVIT_SESSION_INTERNAL_H

#include "davit/session/v1/session.davit.h"
#include "init/drop.h"
#include "loop/fiber.h"
#include "loop/watch.h"
#include "rpc/rpc.h"
#include "session/material.h"
#include "session/session.h"
#include "session/spec.h"

enum { PIPELINES_MAX = 16, BACKLOG_MAX = 1024 };

struct talk;
struct pipeline;

/* session.c: the program. */
struct session {
    struct loop *loop;
    const struct session_options *options;
    char **environment; /* of the container, as it came */
    struct rpc_server *server;
    struct watch *wire;
    struct tls_ctx *tls;
    struct wire_hello state; /* as init told last */
    struct wire_zombies zombies;
    bool greeted; /* WIRE_HELLO came: `state` is true */
    struct talk *live;
    struct list pipelines;
    unsigned n_pipelines;
    struct registration *registration;
    bool stopping, disk_busy;
    usec_t stop_by;
    struct timer settle, rest;
    int rc;
    struct err err;
};

/* Tells init. 0, or negative: it was not told. */
int session_tell_init(struct session *s, const union wire_frame *f) MUST_USE;
/* Bytes for the container's log. What that does not take at once is not waited for. */
void session_print(const char *bytes, size_t n);
/* What took memory is over. */
void session_rests(struct session *s);
/* Waits: runs @fn(@arg), which reads or writes the material, off the loop. One at a time: -ERR_EXHAUSTED. */
int session_disk(struct session *s, int (*fn)(void *arg), void *arg, usec_t deadline, struct err *err) MUST_USE;
/* Uses @tls from the next handshake on; takes it. */
void session_use_tls(struct session *s, struct tls_ctx *tls);

/* ---- talk.c: one stream of the agent ---- */
extern const struct rpc_handler session_handlers[];

/* Sends @r as an answer to @id, or keeps it until there is room. Nothing where the stream is over; one that cannot be sent ends it. */
void talk_send(struct talk *t, const char *id, Davit__Session__V1__Response *r);
void talk_send_error(struct talk *t, const char *id, Davit__Session__V1__ErrorCode code, const char *message);
/* How things stand, with an empty id. @t may be NULL. */
void talk_send_state(struct talk *t);
/* May output be sent now? When it may again, pipeline_resume is called. */
bool talk_has_room(const struct talk *t);
/* Ends @t for the peer, and for its pipelines at once. */
void talk_end(struct talk *t, const struct err *why);
/* Is everything that was said out of our hands? */
bool talk_flushed(const struct talk *t);

/* ---- pipeline.c ---- */
/* Starts @cmd, which was checked. 0; or a failure with its *ret_code: nothing runs. */
int pipeline_start(struct session *s, struct talk *t, const char *id, const Davit__Session__V1__ShellCommand *cmd,
                   Davit__Session__V1__ErrorCode *ret_code, struct err *err) MUST_USE;
/* The pipeline that @t began as @id and that still runs, or NULL. */
struct pipeline *pipeline_find(struct session *s, const struct talk *t, const char *id);
/* Waits for room, then queues input. 0; 1: it takes no more input; -ERR_DEADLINE: it does not read; -ERR_CANCELLED: it or the talk ended. */
int pipeline_feed(struct session *s, struct talk *t, const char *id, struct str bytes) MUST_USE;
void pipeline_close_input(struct pipeline *p);
/* To its process group. 0, or -ERR_INVALID for a number that is no signal. */
int pipeline_signal(struct pipeline *p, int signo) MUST_USE;
/* Ends it; it answers with @code and @why. */
void pipeline_break(struct pipeline *p, Davit__Session__V1__ErrorCode code, const char *why);
/* A child of ours has changed its state. */
void pipelines_reap(struct session *s);
/* @t has room again. */
void pipelines_resume(struct session *s, const struct talk *t);
/* @t is over: its pipelines have nobody to answer, and are killed. */
void pipelines_lost(struct session *s, const struct talk *t);
/* The program ends: everything at once, without a word. */
void pipelines_free(struct session *s);

/* ---- stage.c ---- */
struct stage_spec {
    const struct account *who;
    char *const *argv;
    char *const *env;
    const char *cwd; /* "": home, or / */
    int in, out, err; /* become 0, 1, 2 */
    pid_t group;      /* 0: it leads a new one */
};
/* Forks. The child's pid, or negative. @report lies in shared memory, zeroed: filled if the child does not become its program. */
int stage_start(const struct stage_spec *spec, struct drop_report *report, struct err *err) MUST_USE;
/* Whom a stage runs as: the sandbox's user, or @as_given's ids with what /etc/passwd knows of them. */
void stage_account(const struct session *s, const Davit__Session__V1__PipeStage *stage, struct account *ret);
/* The environment for @who: @stage's own, or the container's as the main program has it. Static, until the next call; its strings are borrowed. */
char *const *stage_environment(const struct session *s, const struct account *who, const Davit__Session__V1__PipeStage *stage) MUST_USE;

/* ---- register.c ---- */
/* Takes @assertion, which may be NULL. */
struct registration *registration_new(struct session *s, struct secret *assertion) MUST_USE;
struct registration *registration_free(struct registration *r);
/* Its attempt is broken off, in a later turn. Accepts NULL. */
void registration_cancel(struct registration *r);
/* Begins unless it has begun or is done; RegisterDone comes as an answer to @id. */
void registration_begin(struct registration *r, struct talk *t, const char *id);
/* @t is over: nobody waits for the answer. Accepts NULL. */
void registration_lost(struct registration *r, const struct talk *t);

#endif
