/* SPDX-License-Identifier: Apache-2.0 */
/* work_internal — what the files of src/host/work share: the module's record, its fibers, the commands that run, small helpers around
 * names, labels and failures.  Included elsewhere only by host/contain, which adds sandboxes to the work.  Thread: loop. */
#ifndef DAVIT_HOST_WORK_WORK_INTERNAL_H
#define DAVIT_HOST_WORK_WORK_INTERNAL_H

#include "base/hmap.h"
#include "base/mem.h"
#include "host/work/work.h"

#define LABEL_MANAGED    "davit.managed"
#define LABEL_PROJECT    "davit.project"
#define LABEL_SERVICE    "davit.service"
#define LABEL_DEPLOYMENT "davit.deployment"
#define LABEL_JOB        "davit.job"
#define LABEL_SERVER     "davit.server"
#define LABEL_VOLUME     "davit.volume"
#define LABEL_REPLICA    "davit.replica" /* 1..REPLICAS_MAX; absent: 1 */
#define LABEL_INGRESS    "davit.ingress"
#define LABEL_PURPOSE    "davit.purpose" /* "sandbox": see host/contain */

/* How long one call to the engine that does no work of its own may take. */
#define ENGINE_CALL (30 * USEC_SEC)

struct watch;
struct sampler;
struct logs;
struct calls;
struct heal;
struct command;
struct call;

/* The part for sandboxes. All but @command, @attach and @fill never wait. */
struct work_extension {
    void *arg;
    int (*command)(void *arg, struct command *c); /* as deploy_command; CreateSandbox or SandboxAction */
    /* As call_fn. */
    int (*attach)(void *arg, struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err);
    int (*fill)(void *arg, struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err);
    void (*linked)(void *arg); /* a link came up: what it must know is told once more */
    void (*unlinked)(void *arg);
    void (*message)(void *arg, const Davit__Link__V1__ControlMessage *m);
};

struct work {
    struct loop *loop;
    struct docker *docker;
    struct ingress *ingress; /* may be NULL */
    struct desired *desired; /* may be NULL */
    char *server_id, *policy;
    bool sandboxes_only;
    char **places;
    size_t n_places;
    usec_t usage_interval; /* while nobody watches */
    usec_t usage_watch;    /* until usage_until (monotonic) */
    usec_t usage_until;
    void (*send)(void *arg, const Davit__Link__V1__AgentMessage *msg);
    int (*wait_room)(void *arg); /* or NULL */
    void *arg;

    uint64_t disk_reserve; /* see admit.h */
    struct pool *pools;    /* owned */
    size_t n_pools;
    bool stopping;
    struct list workers;  /* fibers of ours */
    struct list commands; /* struct command, in order of arrival */
    unsigned n_commands;
    struct event idle; /* pulsed when a worker or a command ended */

    unsigned pulls;
    struct event pull_ended;
    unsigned judging; /* containers, see route_verdict.c */
    bool routes_known, routes_busy; /* was the ingress told of all services */
    bool routes_seen;         /* all containers were seen once */
    struct hmap *routes_told; /* of route_watch.c; NULL: nobody tells */
    struct event routes_done;
    bool networks_held;
    struct event networks_free;

    struct watch *watch;
    struct sampler *sampler;
    struct logs *logs;
    struct calls *calls;
    struct heal *heal; /* NULL until work_heal */
    const struct work_extension *extension; /* may be NULL */
};

/* --- work.c ---- */

struct worker {
    struct list node;
    struct work *w;
    struct fiber *fiber;
    void (*fn)(void *arg);
    void *arg;
};
/* Starts a fiber that work_stop ends. NULL when there are too many fibers. The handle is valid until @fn returns. */
struct worker *work_spawn(struct work *w, const char *name, void (*fn)(void *arg), void *arg) MUST_USE;

/* -ERR_PRECONDITION with a hint where this agent is for sandboxes only, else 0. */
int work_check_role(const struct work *w, struct err *err) MUST_USE;

/* Sends unless the module is stopping. */
void work_send(struct work *w, const Davit__Link__V1__AgentMessage *msg);

/* A command that waits for its turn or runs. On the stack of its fiber. */
struct command {
    struct list node;
    struct work *w;
    const Davit__Link__V1__Command *msg;
    const struct job_journal *journal;
    int resume_step;
    const char *project, *service;
    struct fiber *fiber;
    struct event turn;
    bool cancelled;  /* its user does not want it any more */
    usec_t judged;   /* real time: it found a container healthy, the last time; 0: none */
    struct job *job; /* while it runs */
    Davit__Link__V1__CommandResult *result;
};
/* Waits until no earlier command for its service is left, and keeps the later ones waiting: for a command, and for whoever looks after a service
 * without one (then .w, .project, .service and .fiber are filled, the rest is zero). 0, or -ERR_CANCELLED; in both cases command_leave follows. */
int command_enter(struct command *c) MUST_USE;
void command_leave(struct command *c);
/* Does another command for a service of this project run or wait? */
bool command_project_busy(const struct command *c);

/* Runs @steps as the job of @c with progress through the link. As job_run; *ret tells what happened. */
int command_job(struct command *c, const struct job_step *steps, unsigned n_steps, void *ctx, struct job *ret);
/* Records a failure as the command's result. @reason, @detail (may be NULL) are copied. */
void command_fail(struct command *c, const struct err *err, const char *reason, const char *detail);
/* Records the outcome, a text for people. */
void command_outcome(struct command *c, const char *fmt, ...) PRINTF(2, 3);

/* One fiber at a time looks for a network and makes or removes it: the engine itself lets two networks of one name be made at once.
 * 0, -ERR_DEADLINE, -ERR_CANCELLED; after 0 the caller calls networks_unlock. */
int networks_lock(struct work *w, usec_t deadline) MUST_USE;
void networks_unlock(struct work *w);
/* Waits: a network with a range of the pools, as ingress_network_fn; @w is a struct work. */
struct docker_network_spec;
int networks_provide(void *w, const struct docker_network_spec *spec, usec_t deadline, struct err *err) MUST_USE; /* deploy_objects.c */
/* The same with a range of 256 addresses, its gateway .1, of which containers get those below .128 unless they ask for one. */
int networks_provide_256(struct work *w, const struct docker_network_spec *spec, usec_t deadline, struct err *err) MUST_USE;

/* --- names.c ---- */

/* Is this an object of ours, of this project and service? @project, @service NULL: any. */
bool labels_ours(const struct docker_map *labels, const char *project, const char *service);
/* Two agents may share an engine: is this a container of a service that our own server made? */
bool labels_service(const struct work *w, const struct docker_map *labels);
/* What of Davit itself on this server this container is: "ingress", "sandbox"; "": nothing. Static. */
const char *labels_role(const struct work *w, const struct docker_map *labels);
/* Containers of a service, newest first, at most WORK_CONTAINERS_MAX. */
int service_containers(struct work *w, const char *project, const char *service, struct docker_summaries *ret, usec_t deadline,
                       struct err *err) MUST_USE;
/* Checks what becomes part of names. 0 or -ERR_INVALID. */
int check_label(const char *what, const char *s, struct err *err) MUST_USE;
/* The closed list of reasons for a failure of the engine itself. */
const char *reason_of(const struct err *err);
/* RFC 3339, as the engine writes it; 0 for what is none. */
usec_t engine_time(const char *text);
/* Copies @s with what is not UTF-8 or a control character (but tab and newline) replaced; at most @max bytes, the last ones. malloc'ed. */
char *text_tail(struct str s, size_t max) MUST_USE;
/* The last 20 lines of a container's log, at most 4 KiB. malloc'ed, NULL when there is none to be had. */
char *log_tail(struct work *w, const char *container, usec_t deadline) MUST_USE;

/* --- image.c ---- */

/* The digest under which @m came from the repository that @ref names, "" if it did not; @want: that one, if it is among them. Borrowed from @m. */
const char *image_digest_from(const struct docker_image *m, const char *ref, const char *want);
/* Which of the closed list a failed pull is. May wait. */
const char *image_pull_reason(struct work *w, const struct err *err);

/* --- deploy.c, actions.c: on the command's fiber, fill the result. 0 or -ERR_CANCELLED. ---- */
int deploy_command(struct command *c) MUST_USE;
int action_command(struct command *c) MUST_USE;
int remove_command(struct command *c) MUST_USE;
int scale_command(struct command *c) MUST_USE; /* scale.c */
/* Their tables of steps: of a deployment; of scaling; of start, stop, restart and removal (room for ACTION_TABLES), returns how many. */
void deploy_table(struct job_table *ret);
void scale_table(struct job_table *ret);
enum { ACTION_TABLES = 4 };
size_t action_tables(struct job_table *ret);

/* --- route_watch.c ---- */

/* Waits: the ingress was told of all services that are desired; before that it must not be told of one. 0 also where there is none. */
int routes_ready(struct work *w, usec_t deadline, struct err *err) MUST_USE;
/* A command for this service has ended: the ingress is told once more of what runs. @judged: what had started by then (real time) it has judged
 * itself; 0: nothing, or it failed. */
void routes_command_ended(struct work *w, const char *project, const char *service, usec_t judged);
/* Sees to that, and that it hears of containers that came and went by themselves. */
void routes_start(struct work *w);
/* After the workers ended. */
void routes_free(struct work *w);

/* --- watch.c ---- */

/* What is known of a container of ours. */
struct seen {
    char *id, *name, *image, *project, *service, *deployment;
    enum docker_state state;
    enum docker_health health;
    int exit_code;
    int pid;
    bool oom_killed;
    usec_t started, finished;
    struct docker_binding *ports; /* proto and host_ip are owned */
    size_t n_ports;
    bool foreign;     /* below: of watch_foreign */
    const char *role; /* static, may be NULL: see labels_role */
    bool listed;      /* by the list that is being compared */
};
int watch_start(struct work *w) MUST_USE;
/* After the workers ended. */
void watch_free(struct work *w);
/* All known containers of our services: iterate with hmap_first, values are struct seen. Changes at any wait. */
const struct hmap *watch_known(const struct work *w);
/* Waits until something happened to a container of ours or @deadline. 0, -ERR_DEADLINE, -ERR_CANCELLED. */
int watch_wait(struct work *w, usec_t deadline) MUST_USE;
/* Wakes whoever waits there. */
void watch_poke(struct work *w);
/* Did the engine answer when it was last asked for all of them? */
bool watch_up(const struct work *w);
/* Looks at this container soon, whatever events come. */
void watch_touch(struct work *w, const char *id);

/* --- sample.c ---- */
int sampler_start(struct work *w) MUST_USE;
/* After the workers ended. */
void sampler_free(struct work *w);
/* The interval changed. */
void sampler_wake(struct work *w);
/* Takes @n (1 or 2) samples soon: the first at once, the second a second later. With one of them at least a second after the last. */
void sampler_hurry(struct work *w, unsigned n);

/* --- logs.c ---- */
void logs_start(struct work *w);
/* After the workers ended. */
void logs_free(struct work *w);

#endif
