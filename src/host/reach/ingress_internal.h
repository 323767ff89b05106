/* SPDX-License-Identifier: Apache-2.0 */
/* ingress_internal — what the files of the ingress share.  Not included elsewhere.  Thread: loop. */
#ifndef DAVIT_HOST_REACH_INGRESS_INTERNAL_H
#define DAVIT_HOST_REACH_INGRESS_INTERNAL_H

#include <sys/types.h>

#include "host/reach/haproxy.h"
#include "host/reach/routes.h"
#include "loop/fiber.h"

/* Networks of projects are called davit-PROJECT, and no project begins with '-': this one is the first by name of all that HAProxy is in. The engine
 * publishes ports by way of the first one; were it another, the port would be closed for a moment whenever HAProxy joins or leaves a network. */
#define INGRESS_NETWORK "davit--ingress"
#define INGRESS_CHECKER "davit-ingress-check"
#define LABEL_INGRESS   "davit.ingress"

/* How long one call to the engine, one question to HAProxy and one start of HAProxy may take. */
#define INGRESS_CALL (30 * USEC_SEC)
#define INGRESS_ASK  (5 * USEC_SEC)
#define INGRESS_LOAD (15 * USEC_SEC)

struct ingress {
    struct loop *loop;
    struct docker *docker;
    char *server_id, *folder, *image, *listen;
    uid_t uid; /* HAProxy's, as which no file of the server is open to it but those of its folder */
    gid_t gid;
    int run_fd;          /* of the folder with the sockets; -1: the folders were not made yet */
    struct routes table; /* what HAProxy serves, as far as it is known */
    char generation[ROUTES_GENERATION_SIZE]; /* that it was seen to have loaded with that table; "": not known */
    uint64_t last_generation;
    ingress_network_fn *make_network; /* NULL: the engine's choice */
    void *network_arg;
    bool unfetched; /* the last call could not fetch the image */
    bool busy;
    struct event turn; /* pulsed when a call has ended */
};

/* --- ingress_files.c: the folder, in a lane ---- */

/* Makes the folders, once. */
int ingress_files_prepare(struct ingress *in, usec_t deadline, struct err *err) MUST_USE;
/* The configuration that counts; empty where there is none. */
int ingress_files_read(struct ingress *in, struct buf *out, usec_t deadline, struct err *err) MUST_USE;
/* It is @config from now on. */
int ingress_files_write(struct ingress *in, struct str config, usec_t deadline, struct err *err) MUST_USE;
/* Beside it: a configuration to be checked, and its map. */
int ingress_files_propose(struct ingress *in, const char *generation, struct str config, struct str map, usec_t deadline, struct err *err) MUST_USE;
/* What was proposed counts, and no map but its own is needed any more once it is loaded (ingress_files_tidy; @generation NULL: none). */
int ingress_files_accept(struct ingress *in, usec_t deadline, struct err *err) MUST_USE;
int ingress_files_tidy(struct ingress *in, const char *generation, usec_t deadline, struct err *err) MUST_USE;

/* --- ingress_container.c: the engine ---- */

enum seat { SEAT_EMPTY, SEAT_UNFIT, SEAT_RUNS }; /* none; one of ours that does not run or is not as it should be; as it should be */
/* What stands under the container's name. -ERR_PRECONDITION: one that is not of this server. *ret is filled but for SEAT_EMPTY; release it. */
int ingress_seat(struct ingress *in, enum seat *ret_seat, struct docker_container *ret, usec_t deadline, struct err *err) MUST_USE;
/* Brings the image here if it is not. */
int ingress_image(struct ingress *in, usec_t deadline, struct err *err) MUST_USE;
/* HAProxy itself reads what was proposed: in the container, if it @runs. -ERR_PRECONDITION with its own words. */
int ingress_check(struct ingress *in, bool runs, usec_t deadline, struct err *err) MUST_USE;
/* Makes and starts it, in the networks of @t; there is none. On failure there is none again. */
int ingress_start(struct ingress *in, const struct routes *t, usec_t deadline, struct err *err) MUST_USE;
/* Takes away the container, and the network that is its own. */
int ingress_remove_container(struct ingress *in, usec_t deadline, struct err *err) MUST_USE;
int ingress_remove_network(struct ingress *in, usec_t deadline, struct err *err) MUST_USE;
/* Joins the networks of @t; leaves those that nothing in it is in. One that is not there is passed over. */
int ingress_join(struct ingress *in, const struct docker_container *c, const struct routes *t, usec_t deadline, struct err *err) MUST_USE;
int ingress_leave(struct ingress *in, const struct routes *t, usec_t deadline, struct err *err) MUST_USE;
/* The last words of its log, into the hint. */
void ingress_last_words(struct ingress *in, const char *container, struct err *err);

/* --- ingress_runtime.c: HAProxy ---- */

/* Asks the worker of today (@pid 0), the master process (INGRESS_MASTER), or a worker that ends. */
enum { INGRESS_MASTER = 1 };
int ingress_ask(struct ingress *in, uint32_t pid, const char *command, struct buf *out, struct err *err) MUST_USE;
int ingress_old_workers(struct ingress *in, uint32_t ret[HAPROXY_OLD_MAX], size_t *ret_n, struct err *err) MUST_USE;
/* Tells the master to load the configuration anew; whether it did is seen by what is loaded then. By its socket: to the engine a signal looks like
 * an end that somebody wanted, after which it does not start the container again. */
void ingress_reload(struct ingress *in);
/* The generation that it has loaded. */
int ingress_loaded(struct ingress *in, char ret[ROUTES_GENERATION_SIZE], struct err *err) MUST_USE;
/* Makes the worker of today have the servers of @r, and those that end send nothing to others. 0: it has them. */
int ingress_sync(struct ingress *in, const struct route *r, struct err *err) MUST_USE;
/* Does the worker of today have them? -ERR_PRECONDITION: not quite. */
int ingress_verify(struct ingress *in, const struct route *r, struct err *err) MUST_USE;
/* Only what is said of workers that end; what fails there is passed over. */
void ingress_sync_old(struct ingress *in, const struct route *r);
/* Connections and waiting requests of a server in all workers. */
int ingress_load(struct ingress *in, const char *backend, const char *server, unsigned *ret, struct err *err) MUST_USE;

/* --- ingress_apply.c ---- */

/* Makes HAProxy serve @next instead of the table, which stays as it is: the caller changes it after 0. @look: even where nothing changes it is
 * made sure that HAProxy has what it shall have. */
int ingress_apply(struct ingress *in, const struct routes *next, bool look, usec_t deadline, struct err *err) MUST_USE;

#endif
