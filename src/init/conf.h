/* SPDX-License-Identifier: Apache-2.0 */
/* conf — what PID 1 is told by its environment and arguments, and what of the environment its program gets.
 *   DAVIT_USER (alias CLAWKER_USER)  whom the program runs as, see account.h; without it
 *   DAVIT_IMAGE_USER                 USER of the image; without it uid 0
 *   DAVIT_STOP_GRACE                 seconds between TERM and KILL, 0..3600 (10)
 *   DAVIT_STATE_DIR                  absolute path of a folder that outlives a restart of the container (/var/lib/davit)
 * An empty one is as if it were not set. The arguments are the program: its ENTRYPOINT is davit-init.
 * Memory: static.  Thread: the only one.  Input trust: the environment comes from whoever made the container, and from the image. */
#ifndef DAVIT_INIT_CONF_H
#define DAVIT_INIT_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "init/account.h"
#include "init/wire.h"

enum { CONF_ENV_MAX = 2048, CONF_ARGS_MAX = 4096, CONF_PATH_MAX = 1024, CONF_GRACE_MAX = 3600 };

struct conf {
    struct account who;
    bool asked_user; /* who was named by DAVIT_USER, not by the image */
    uint32_t grace_ms;
    int argc; /* of the program: argv[0] is its name */
    char **argv;
    char **envp;                 /* as the container was given it */
    const char *path;            /* PATH in there; never NULL */
    char folder[CONF_PATH_MAX];  /* where davit-init lies, without a '/' at its end */
    char session[CONF_PATH_MAX]; /* the session half beside it */
    char marker[CONF_PATH_MAX];  /* the file that says: initialized */
};

/* Reads everything and looks the user up. 0, or a negative value after it told people what is wrong. @argv and @envp stay in use. */
int conf_read(int argc, char **argv, char **envp, struct conf *ret) MUST_USE;

/* The environment of the program: @c->envp without what begins with DAVIT_ or CLAWKER_ (addresses and secrets of the bootstrap), but for names, and
 * with HOME, USER and LOGNAME of the user. A user that the image names keeps a HOME that the image sets, as without us. Static, ended by NULL. */
char **conf_environment(const struct conf *c) MUST_USE;

/* The arguments of the program: @c->argv; with the words of @ready in front if it begins with '-', is no program on PATH, or is empty. Static, ended
 * by NULL; empty if there is none at all. @ready must live as long. */
char **conf_arguments(const struct conf *c, struct wire_ready *ready) MUST_USE;

/* The file that @name means, as a shell finds it: with a '/' itself, else on @path. 0, or -ERR_NOT_FOUND: executing @ret gives the right error then
 * (it is a file that may not be executed, or empty). */
int conf_find_program(const char *name, const char *path, char ret[CONF_PATH_MAX]);

#endif
