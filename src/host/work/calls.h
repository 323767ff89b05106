/* SPDX-License-Identifier: Apache-2.0 */
/* calls — what the control plane asks for while it is there (see CallOpen in link.proto): each call runs on a fiber of its own, by the function that
 * its kind names in the table of calls.c; data goes both ways under credit.
 * Ownership: a struct call lives from CallOpen until its function returns; CallEnd is sent by this module.  Thread: loop.
 * Limits: CALLS_MAX at once (more: EXHAUSTED), CALL_CREDIT bytes of input that wait to be taken, CALL_PIECE bytes a message. Input beyond the credit
 * ends the call.  Input trust: the control plane's word, checked by each function; the owner's policy is asked first (exec).
 * Closing: on CallClose, the loss of the link and the end of the work the fiber is cancelled. */
#ifndef DAVIT_HOST_WORK_CALLS_H
#define DAVIT_HOST_WORK_CALLS_H

#include "host/work/work_internal.h"

enum { CALLS_MAX = 64, CALL_CREDIT = 256 * 1024, CALL_PIECE = 64 * 1024 };

struct call;

/* For the functions, on the call's fiber. */
struct work *call_work(struct call *c);
const Davit__Link__V1__CallOpen *call_open_message(const struct call *c);
/* Waits for credit and for room in the link, and sends data, in pieces. 0 or -ERR_CANCELLED. @output see CallData. May run on another fiber of the
 * same call, but one at a time. */
int call_send(struct call *c, unsigned output, struct str bytes) MUST_USE;
/* The same, but -ERR_DEADLINE when the other side takes nothing for the time of @stall. */
int call_send_within(struct call *c, unsigned output, struct str bytes, usec_t stall) MUST_USE;
/* Waits for input. 0 with *ret (borrowed until the next call of this function); 1: there is no more; -ERR_CANCELLED, -ERR_DEADLINE. May run on
 * another fiber of the same call, which ends before the function of the call returns. */
int call_input(struct call *c, struct str *ret, usec_t deadline) MUST_USE;
/* Never waits. */
void call_progress(struct call *c, const Davit__Common__V1__StepProgress *p);
/* The last size of the terminal that was told, zeroes before, and an event that is pulsed at each new one. */
void call_size(const struct call *c, unsigned *ret_rows, unsigned *ret_columns);
struct event *call_resized(struct call *c);

/* The functions: 0 with the result of @end filled, whose message (or outcome) is malloc'ed as by rpc_copy and freed by this module; or negative with
 * @err and *reason (static, may stay NULL: one by the code), which become its failure. Each in a file of its own. */
typedef int call_fn(struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err);
call_fn call_exec;                                                       /* exec.c */
call_fn call_file;                                                       /* files.c */
call_fn call_image_list, call_image_pull, call_image_check, call_image_remove; /* images.c */
call_fn call_prune_plan, call_prune_apply;                               /* prune_apply.c */
call_fn call_volume_list, call_volume_remove;                            /* volumes.c */
call_fn call_container;                                                  /* containers.c */

/* containers.c. What `davit start` calls the service of @k ("web", "shop/web"), owned by the caller; NULL: it is of none of ours. */
char *containers_service(const struct work *w, const struct docker_container *k) MUST_USE;

/* --- for work.c ---- */
void calls_start(struct work *w);
/* After the workers ended. */
void calls_free(struct work *w);

#endif
