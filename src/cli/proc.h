/* SPDX-License-Identifier: Apache-2.0 */
/* proc — the daemons of this machine as the CLI starts and stops them: systemd units where systemd runs and we are root, else background processes.
 * A daemon is alive exactly while it holds the lock file of its directory; the pid is read from there, so no pid file can lie.
 * Thread: loop, on a fiber. */
#ifndef DAVIT_CLI_PROC_H
#define DAVIT_CLI_PROC_H

#include <sys/types.h>

#include "cli/cli.h"

enum { PROC_ARGS_MAX = 48 };

struct proc {
    const char *name;                /* program and unit: "davitd", "davit-agent" */
    const char *about;               /* Description= of the unit */
    const char *lock;                /* its lock file */
    const char *args[PROC_ARGS_MAX]; /* absolute program first; NULL-terminated; borrowed */
    const char *after;               /* unit that it starts after, or NULL */
};

/* Is it alive? 1 with its pid, 0 if not, negative: the lock cannot be read. */
int proc_alive(const struct proc *p, pid_t *ret_pid, struct err *err) MUST_USE;
/* Does the live process @pid run the program file as it is on disk now, with these arguments? */
bool proc_current(const struct proc *p, pid_t pid);
/* Starts it. A background process has its output in <log>/<name>.log. Waits only until it was started. */
int proc_start(struct cli *cli, const struct proc *p, struct err *err) MUST_USE;
/* TERM, then KILL after 15 s; waits until the lock is free. 0 stopped, 1 was not running. */
int proc_stop(struct cli *cli, const struct proc *p, struct err *err) MUST_USE;
/* Removes the unit, if there is one. */
int proc_forget(struct cli *cli, const struct proc *p, struct err *err) MUST_USE;
/* Does systemd run this machine, and may we use it? */
bool proc_has_systemd(void);
/* Last lines of its log into @out, for error messages. */
void proc_log_tail(struct cli *cli, const struct proc *p, struct buf *out);

/* Does this --store name a database server, not a file? */
bool proc_is_database(const char *store);

/* The two daemons as `up` and `down` name them; strings are freed by local_release. */
struct local {
    struct proc davitd, agent;
    char *texts[16];
    size_t n_texts;
};
void local_init(struct local *l, const struct cli *cli);
void local_release(struct local *l);

#endif
