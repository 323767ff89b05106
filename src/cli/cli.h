/* SPDX-License-Identifier: Apache-2.0 */
/* cli — the `davit` program: a table of verbs, one file each, and what they share: options, paths, the connection, output.
 * Everything that help, man page and completion say comes from the verb table.
 * Thread: one loop; each verb runs on a fiber, so it reads from top to bottom.
 * Output contract: results on stdout, progress and errors on stderr; `--output json` prints one JSON document (streams: one per line) that keeps
 * its keys from version to version; exit status as in doc/cli.md. */
#ifndef DAVIT_CLI_CLI_H
#define DAVIT_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>

#include "base/opt.h"
#include "cli/bearer.h"
#include "rpc/rpc.h"

enum { CLI_OPERANDS_MAX = 1024 };

/* Options of every verb; stands first in each verb's option struct. */
struct cli_common {
    const char *output; /* text | json */
    const char *color;  /* auto | always | never */
    const char *home;   /* NULL: the places of the system or of the user */
};

#define CLI_COMMON_OPTS                                                                                                               \
    {.name = "output", .letter = 'o', .type = OPT_ENUM, .offset = offsetof(struct cli_common, output), .choices = "text|json",          \
     .arg = "FORMAT", .def = "text", .help = "text for people, json for programs", .env = true, .alias = "format"},                     \
        {.name = "color", .type = OPT_ENUM, .offset = offsetof(struct cli_common, color), .choices = "auto|always|never", .arg = "WHEN", \
         .def = "auto", .help = "colours and progress bars", .env = true},                                                              \
        {.name = "home", .type = OPT_STRING, .offset = offsetof(struct cli_common, home), .arg = "DIR",                                 \
         .help = "keep configuration, state and sockets below DIR", .env = true}

/* Where things are. Freed with cli_paths_release. */
struct cli_paths {
    char *config;  /* keys of the user, cli.json */
    char *state;   /* of davitd */
    char *agent;   /* configuration of the local agent */
    char *run;     /* sockets and the lock of up and down */
    char *log;     /* of background processes: what they write to stderr */
    char *log_file, *agent_log_file; /* of the control plane and of the agent, see base/logfile.h */
    char *bin;     /* where this program and its siblings stand */
};

/* What `davit up` settled; kept in cli.json of the configuration directory. */
struct cli_settings {
    char *store;     /* database of davitd, or NULL: a file in its state directory */
    char *api;       /* "127.0.0.1:7443" */
    char *link;      /* "0.0.0.0:7442" */
    char *web;       /* "0.0.0.0:7440" */
    char *local_web; /* "127.0.0.1:7441", or "none" */
    char *releases;  /* whole path of the directory of releases, or NULL */
    char *health;    /* "127.0.0.1:7080" */
    char *token;     /* a second place for /oauth2/token, or NULL */
    char *gate;      /* where proxies ask who is logged in, or NULL */
    char *advertise; /* or NULL */
    char *hostname;  /* or NULL */
    char *user;      /* account of davitd */
    char *docker;    /* engine of the local agent, or NULL: the usual place */
    char *ingress;   /* where services are reached by hostname, "127.0.0.1:80", or "none" */
    char *ingress_image; /* or NULL: the agent's own choice */
    char *idle_exit; /* auto | never | always, or NULL: auto */
    char *log_size, *log_age, *log_backups; /* of these two files, as the programs take them; NULL: as there */
    bool log_off;    /* there are none: to stderr */
    bool firewall_off; /* in settings.yaml */
    char *mode;      /* "native", "container", or NULL: not chosen yet */
    char *server;    /* id of this machine as a server, as of the last `up`, or NULL */
    bool systemd;    /* runs as units */
    bool made_user;  /* the account was created by us */
};

struct cli {
    struct loop *loop;
    struct cli_common common;
    struct cli_paths paths;
    struct cli_settings settings;
    struct rpc_channel *channel; /* opened by cli_connect */
    struct bearer bearer;        /* what its calls show */
    bool wakes;         /* its verb brings a control plane up that does not answer, see wake.h */
    bool for_sandboxes; /* what is started is started for that */
    bool json;
    bool color;    /* stdout takes colours */
    bool progress; /* stderr is a terminal: redraw lines */
};

/* One verb. `run` is on a fiber; 0, or negative with @err filled, or the exit status: 1, failed and already
 * told the user; exec: that of its process. */
struct verb {
    const char *name;
    const char *usage;   /* operands, e.g. "[OPTIONS] NAME" */
    const char *about;   /* one sentence */
    const char *example; /* lines that work as they stand */
    const struct opt *opts;
    size_t opts_size;    /* of the option struct */
    unsigned min_operands, max_operands;
    unsigned command;    /* operand that is the first word of a command of its own, see opt_parse_command */
    int (*run)(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err);
    const struct verb *sub; /* verbs below it, ended by a NULL name; then `run` is NULL */
    const char *group;   /* heading in the overview */
    bool wakes;          /* brings the control plane up if it does not answer, see wake.h */
};

/* All verbs, in the order of the overview; ended by NULL. */
extern const struct verb *const cli_verb_list[];

/* The whole program: returns its exit status. */
int cli_main(int argc, char **argv);

/* paths.c. Fills from --home, uid and XDG variables. */
int cli_paths_init(struct cli_paths *p, const char *home, struct err *err) MUST_USE;
void cli_paths_release(struct cli_paths *p);
/* Was `davit up` at work there? */
bool cli_paths_ours(const struct cli_paths *p);
/* Nothing is in @dir, or there is none. */
bool cli_dir_is_empty(const char *dir);
/* Takes the lock of `up`, `down` and `restore`, which must not meet: one for the machine (or the --home). As fd_lock_file. */
int cli_lock(const struct cli_paths *p, int *ret_fd, struct err *err) MUST_USE;
/* Settings: defaults where the file or a key is missing. */
int cli_settings_load(const struct cli_paths *p, struct cli_settings *ret, struct err *err) MUST_USE;
int cli_settings_save(const struct cli_paths *p, const struct cli_settings *s, struct err *err) MUST_USE;
/* Does everything in them say the same? */
bool cli_settings_equal(const struct cli_settings *a, const struct cli_settings *b);
/* The text of a cli.json over what @s holds. */
int cli_settings_parse(struct str text, struct cli_settings *s, struct err *err) MUST_USE;
void cli_settings_release(struct cli_settings *s);

/* client.c. Waits: opens the channel to davitd once. -ERR_PRECONDITION with a hint before the first `davit up`. */
int cli_connect(struct cli *cli, struct err *err) MUST_USE;
/* Waits: one unary call with @timeout. *ret: rpc_message_free. */
int cli_call(struct cli *cli, const struct rpc_service *service, const char *method, const ProtobufCMessage *request, usec_t timeout,
             ProtobufCMessage **ret, struct err *err) MUST_USE;

/* The verbs, most in a file of their own; verbs.c lists them. */
extern const struct verb verb_up, verb_down, verb_status, verb_dashboard, verb_server, verb_token, verb_deploy, verb_ps, verb_logs, verb_stats,
    verb_start, verb_stop, verb_restart, verb_rm, verb_deployments, verb_cancel, verb_rollback, verb_scale, verb_audit,
    verb_auth, verb_controlplane, verb_version, verb_completion, verb_man,
    verb_env, verb_events, verb_registry, verb_exec, verb_run, verb_sandbox, verb_firewall,
    verb_container, verb_cp, verb_files, verb_image, verb_prune, verb_volume;

#endif
