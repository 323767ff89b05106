/* SPDX-License-Identifier: Apache-2.0 */
/* stage — how one program of a pipeline starts: out of a child that has its descriptors, its group and its folder, by init's own way of dropping. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "init/conf.h"
#include "session/session_internal.h"

enum { STATUS_CANNOT_EXECUTE = 126 };

static const char PLAIN_PATH[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

void stage_account(const struct session *s, const Davit__Session__V1__PipeStage *stage, struct account *ret)
{
    const struct wire_hello *h = &s->state;
    const char *why;
    char text[32];

    *ret = (struct account){.uid = h->uid, .gid = h->gid, .groups_n = h->groups_n};
    memcpy(ret->groups, h->groups, sizeof(ret->groups));
    memcpy(ret->name, h->user, sizeof(ret->name));
    memcpy(ret->home, h->home, sizeof(ret->home));
    if (!stage->as_given)
        return;
    (void)snprintf(text, sizeof(text), "%u:%u", stage->uid, stage->gid);
    if (account_lookup(str_from(text), ret, &why) < 0)
        *ret = (struct account){.uid = stage->uid, .gid = stage->gid, .home = "/"};
}

char *const *stage_environment(const struct session *s, const struct account *who, const Davit__Session__V1__PipeStage *stage)
{
    static char *given[SPEC_ENV_MAX + 1];
    static struct conf c;
    const char *davit = getenv("DAVIT_USER"), *clawker = getenv("CLAWKER_USER");

    if (stage->n_env == 0) {
        c.envp = s->environment;
        c.who = *who;
        c.asked_user = stage->as_given || (davit && *davit) || (clawker && *clawker);
        return conf_environment(&c);
    }
    memcpy(given, stage->env, stage->n_env * sizeof(*given));
    given[stage->n_env] = NULL;
    return given;
}

static const char *path_of(char *const *env)
{
    for (; *env; env++)
        if (strncmp(*env, "PATH=", 5) == 0)
            return *env + 5;
    return PLAIN_PATH;
}

static _Noreturn void fail(struct drop_report *report, const char *step)
{
    report->sys = errno;
    report->step = step;
    _exit(STATUS_CANNOT_EXECUTE);
}

/* In the child, every signal blocked. */
static _Noreturn void become(const struct stage_spec *spec, struct drop_report *report)
{
    char path[CONF_PATH_MAX];

    if (setpgid(0, spec->group) < 0)
        fail(report, "cannot join its group");
    if (dup2(spec->in, STDIN_FILENO) < 0 || dup2(spec->out, STDOUT_FILENO) < 0 || dup2(spec->err, STDERR_FILENO) < 0)
        fail(report, "cannot connect its input and output");
    if (spec->cwd[0] && chdir(spec->cwd) < 0)
        fail(report, "cannot enter its working directory");
    if (!spec->cwd[0] && chdir(spec->who->home) < 0 && chdir("/") < 0)
        fail(report, "cannot enter /");
    (void)conf_find_program(spec->argv[0], path_of(spec->env), path);
    drop_exec(spec->who, DROP_AS_PUT, path, (char **)(uintptr_t)spec->argv, (char **)(uintptr_t)spec->env, report);
}

int stage_start(const struct stage_spec *spec, struct drop_report *report, struct err *err)
{
    sigset_t all, old;

    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &old);
    pid_t pid = fork();
    if (pid == 0)
        become(spec, report);
    int sys = errno;
    (void)sigprocmask(SIG_SETMASK, &old, NULL);
    if (pid < 0)
        return err_sys(err, sys, "cannot start a process");
    /* Both sides do it: whoever comes first. */
    (void)setpgid(pid, spec->group ? spec->group : pid);
    return pid;
}
