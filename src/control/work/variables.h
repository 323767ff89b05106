/* SPDX-License-Identifier: Apache-2.0 */
/* variables — what a service gets as environment or as files beside its own spec. All values are sealed in the store, whether they are called
 * secret or not. They belong to project and service and need neither a deployment nor a server; who removes a service leaves them unless asked to
 * take them along (variables_drop).
 * A deployment takes those of its moment into its spec (variables_merge), which is stored sealed: so a rollback gets what there was then.
 * What was secret once stays it, and what is a file stays one, until it is removed: a slip with a new value shows nothing.
 * Limits: VARIABLES_MAX per service, VARIABLES_BYTES_MAX of names and values together, a text of VARIABLES_TEXT_MAX; REVEALS_BURST looks at a
 * secret by one caller, one more each REVEAL_EVERY.
 * Thread: what takes a struct db runs on the store's threads, the rest on fibers.  Input trust: users. */
#ifndef DAVIT_CONTROL_VARIABLES_H
#define DAVIT_CONTROL_VARIABLES_H

#include "control/control_internal.h"
#include "davit/common/v1/service.pb-c.h"
#include "spec/spec.h"

enum { VARIABLES_MAX = SPEC_ENV_MAX, VARIABLES_BYTES_MAX = 512 * 1024, VARIABLES_TEXT_MAX = 1024 * 1024, REVEALS_BURST = 10, REVEALERS_MAX = 1024 };
#define REVEAL_EVERY (6 * USEC_SEC)

/* One stored variable. */
struct variable {
    Davit__Common__V1__EnvVar *env; /* owned */
    uint64_t changed;
    char by[136];
    enum { VARIABLE_KEPT, VARIABLE_NEW, VARIABLE_CHANGED, VARIABLE_SKIPPED } fate; /* of a change */
};

struct variables {
    const struct control *c;
    const char *project, *service; /* borrowed */
    struct variable v[VARIABLES_MAX];
    size_t n;
};

/* Zeroed but for these three; heap, for it is large. Ends with variables_free, which wipes. */
struct variables *variables_new(const struct control *c, const char *project, const char *service) MUST_USE;
struct variables *variables_free(struct variables *v);
static inline void cleanup_variables(struct variables **v)
{
    (void)variables_free(*v);
}
#define AUTO_VARIABLES CLEANUP(cleanup_variables) struct variables *

/* A store_fn: fills @arg, a struct variables, ordered by name. What was in it goes. */
store_fn variables_read;
struct variable *variables_find(struct variables *v, struct str name);

/* A change: @v->v are new values with what they are called; the fates are set. The whole of it or nothing. */
struct variables_change {
    struct variables *wanted;
    const char *by;
    bool only_new;
    uint64_t now;
};
/* A store_fn, @arg a struct variables_change. -ERR_EXHAUSTED past the limits. */
store_fn variables_write;
/* Those of @names; *ret_n of them were there. */
int variables_remove(struct db *db, const char *project, const char *service, char *const *names, size_t n, uint32_t *ret_n,
                     struct err *err) MUST_USE;
/* All of a service. */
int variables_drop(struct db *db, const char *project, const char *service, struct err *err) MUST_USE;

/* Waits: puts what is stored for the service of @spec behind its own variables, which win, and checks the spec again. @spec was unpacked or
 * copied. */
int variables_merge(struct control *c, Davit__Common__V1__ServiceSpec *spec, struct err *err) MUST_USE;

/* May @actor look at one more secret now? 0 or -ERR_EXHAUSTED with when to try again. */
int variables_may_reveal(struct control *c, const char *actor, struct err *err) MUST_USE;
/* At the end. */
void variables_stop(struct control *c);

#endif
