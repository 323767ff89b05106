/* SPDX-License-Identifier: Apache-2.0 */
/* run — `davit run`: makes a sandbox, starts it and attaches, as `docker run` does. What davit.yaml says under `sandbox:` is done in it too. */
#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cli/clock_gate.h"
#include "cli/manifest.h"
#include "cli/manifest_sandbox.h"
#include "cli/out.h"
#include "cli/pack.h"
#include "cli/sandbox.h"
#include "davit/control/v1/sandboxes.davit.h"

#define FIRST_WAIT  (30 * USEC_SEC)
#define MANIFEST    "davit.yaml"
#define WORKSPACE   "/workspace"
static const usec_t REMOVE_TIMEOUT = 15 * USEC_MINUTE;

struct run_options {
    struct cli_common common;
    const char *file, *name, *project, *server, *user, *workdir, *workspace, *restart, *pull, *network, *entrypoint;
    struct opt_list env, env_file;
    uint64_t cpus_milli, memory;
    int64_t pids;
    usec_t stop_timeout, clock_wait;
    bool tty, interactive, detach, rm, snapshot, read_only, force;
};

#define AT(field) offsetof(struct run_options, field)
static const struct opt run_opts[] = {
    {.name = "name", .letter = 'n', .type = OPT_STRING, .offset = AT(name), .arg = "NAME",
     .help = "what it is called; by default from the image's name"},
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .arg = "NAME", .help = "project (that of davit.yaml, or none)",
     .env = true},
    {.name = "file", .letter = 'f', .type = OPT_STRING, .offset = AT(file), .arg = "PATH",
     .help = "take `sandbox:` from this file (davit.yaml, if it is here)"},
    {.name = "server", .letter = 's', .type = OPT_STRING, .offset = AT(server), .arg = "SERVER", .help = "where it runs; not needed with one server",
     .env = true},
    {.name = "env", .letter = 'e', .type = OPT_LIST, .offset = AT(env), .arg = "NAME=VALUE",
     .help = "environment variable; NAME alone: as it is here, if it is"},
    {.name = "env-file", .type = OPT_LIST, .offset = AT(env_file), .arg = "PATH", .help = "file of NAME=VALUE lines"},
    {.name = "user", .letter = 'u', .type = OPT_STRING, .offset = AT(user), .arg = "USER", .help = "run as NAME, UID or UID:GID (the image's)"},
    {.name = "workdir", .letter = 'w', .type = OPT_STRING, .offset = AT(workdir), .arg = "DIR", .help = "folder to run it in"},
    {.name = "tty", .letter = 't', .type = OPT_BOOL, .offset = AT(tty), .help = "give it a terminal"},
    {.name = "interactive", .letter = 'i', .type = OPT_BOOL, .offset = AT(interactive), .help = "pass standard input on"},
    {.name = "detach", .letter = 'd', .type = OPT_BOOL, .offset = AT(detach), .help = "do not attach: print its name"},
    {.name = "rm", .type = OPT_BOOL, .offset = AT(rm), .help = "remove it when it has ended, or this program is interrupted"},
    {.name = "workspace", .type = OPT_STRING, .offset = AT(workspace), .arg = "PATH[:PATH]",
     .help = "folder to work in, there as the second path (" WORKSPACE ")"},
    {.name = "snapshot", .type = OPT_BOOL, .offset = AT(snapshot), .help = "a copy of the workspace as it is now, not the folder itself"},
    {.name = "entrypoint", .type = OPT_STRING, .offset = AT(entrypoint), .arg = "PROGRAM", .help = "in place of the image's"},
    {.name = "cpus", .type = OPT_MILLI, .offset = AT(cpus_milli), .max = 1024000, .arg = "N", .help = "limit in cores, for example 0.5"},
    {.name = "memory", .letter = 'm', .type = OPT_BYTES, .offset = AT(memory), .max = (int64_t)1 << 50, .arg = "SIZE",
     .help = "limit, for example 512m"},
    {.name = "pids", .type = OPT_INT, .offset = AT(pids), .max = 4194304, .arg = "N", .help = "limit of processes (512)"},
    {.name = "restart", .type = OPT_ENUM, .offset = AT(restart), .choices = "no|on-failure|always|unless-stopped", .arg = "POLICY",
     .help = "when it ends by itself (no)"},
    {.name = "read-only", .type = OPT_BOOL, .offset = AT(read_only), .help = "read-only root file system"},
    {.name = "stop-timeout", .type = OPT_USEC, .offset = AT(stop_timeout), .min = 1000000, .max = 600000000, .arg = "TIME",
     .help = "how long it has to end before it is killed (10s)"},
    {.name = "pull", .type = OPT_ENUM, .offset = AT(pull), .choices = "missing|always|never", .arg = "WHEN", .help = "pull the image (missing)"},
    {.name = "force", .type = OPT_BOOL, .offset = AT(force), .help = "although the disk of the server is short"},
    {.name = "network", .type = OPT_ENUM, .offset = AT(network), .choices = "none|open", .def = "none", .arg = "KIND",
     .help = "open: the program reaches the whole network, unfiltered"},
    CLOCK_GATE_OPT(AT(clock_wait)),
    CLI_COMMON_OPTS,
    {.name = NULL},
};

/* --- What is asked for --- */

/* "registry:5000/team/web-app:1.2" -> "web-app-3f2a": a name nobody has. */
static char *name_of_image(const char *image)
{
    const char *slash = strrchr(image, '/');
    struct str rest = str_from(slash ? slash + 1 : image);
    struct str digest = str_cut(&rest, '@');
    struct str base = str_cut(&digest, ':');
    uint8_t random[2];
    rng_bytes(random, sizeof(random));
    char *name = str_printf("%.*s-%02x%02x", (int)(base.n < 50 ? base.n : 50), base.p, random[0], random[1]);
    for (char *p = name; *p; p++)
        if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p))
            *p = '-';
    return name;
}

static int add_env(Davit__Common__V1__SandboxSpec *spec, struct str pair, const char *where, struct err *err)
{
    struct str value = pair, name = str_cut(&value, '=');
    if (!name.n)
        return err_set(err, ERR_INVALID, "%s: \"%.*s\" has no name", where, (int)(pair.n < 64 ? pair.n : 64), pair.p);
    if (name.n == pair.n) {
        AUTO_FREE char *key = str_dup(name);
        const char *here = getenv(key);
        if (!here)
            return 0;
        value = str_from(here);
    }
    sandbox_add_env(spec, name, value);
    return 0;
}

static int add_env_file(Davit__Common__V1__SandboxSpec *spec, const char *path, struct err *err)
{
    AUTO_BUF text = BUF_INIT(MANIFEST_MAX);
    int rc = fd_read_file(path, &text, err);
    for (struct str rest = buf_str(&text); rc == 0 && rest.n;) {
        struct str line = str_cut(&rest, '\n');
        for (; line.n && isspace((unsigned char)*line.p); line.n--)
            line.p++;
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        if (line.n && line.p[0] != '#')
            rc = add_env(spec, line, path, err);
    }
    return rc;
}

static int add_words(const char *const *words, size_t n, char ***list, size_t *n_list)
{
    *list = mem_zalloc(n + 1, sizeof(**list));
    for (size_t i = 0; i < n; i++)
        (*list)[(*n_list)++] = str_dup(str_from(words[i]));
    return 0;
}

static int add_workspace(Davit__Common__V1__SandboxSpec *spec, const struct run_options *o, struct err *err)
{
    struct str path = str_from(o->workspace ? o->workspace : "");
    struct str source = str_cut(&path, ':');
    if (!o->workspace)
        return o->snapshot ? err_set(err, ERR_INVALID, "--snapshot: goes with --workspace") : 0;
    AUTO_FREE char *given = str_dup(source);
    AUTO_FREE char *real = realpath(given, NULL);
    if (!real)
        return err_set(err, ERR_NOT_FOUND, "--workspace: there is no folder %.200s", given);
    Davit__Common__V1__SandboxWorkspace *w = NEW(Davit__Common__V1__SandboxWorkspace);
    davit__common__v1__sandbox_workspace__init(w);
    spec->workspace = w;
    sandbox_set_text(&w->source, str_from(real));
    sandbox_set_text(&w->path, path.n ? path : STR(WORKSPACE));
    w->snapshot = o->snapshot;
    return 0;
}

/* From davit.yaml, where there is one. */
static int add_manifest(Davit__Common__V1__SandboxSpec *spec, const struct run_options *o, char **server, struct err *err)
{
    if (!o->file && access(MANIFEST, F_OK) != 0)
        return 0;
    int rc = manifest_sandbox_load(o->file ? o->file : MANIFEST, spec, server, err);
    if (rc == 1 && o->file)
        return err_set(err, ERR_INVALID, "%s says nothing under `sandbox:`", o->file);
    return rc < 0 ? rc : 0;
}

static int fill(Davit__Common__V1__SandboxSpec *spec, const struct run_options *o, const char **operands, size_t n, char **server, struct err *err)
{
    AUTO_FREE char *name = o->name ? str_dup(str_from(o->name)) : name_of_image(operands[0]);
    int rc = add_manifest(spec, o, server, err);
    for (size_t i = 0; rc == 0 && i < o->env_file.n; i++)
        rc = add_env_file(spec, o->env_file.v[i], err);
    for (size_t i = 0; rc == 0 && i < o->env.n; i++)
        rc = add_env(spec, str_from(o->env.v[i]), "--env", err);
    if (rc == 0)
        rc = add_workspace(spec, o, err);
    if (rc < 0)
        return rc;
    sandbox_set_text(&spec->name, str_from(name));
    sandbox_set_text(&spec->image, str_from(operands[0]));
    if (o->project)
        sandbox_set_text(&spec->project, str_from(o->project));
    sandbox_set_text(&spec->user, str_from(o->user ? o->user : ""));
    sandbox_set_text(&spec->working_dir, str_from(o->workdir ? o->workdir : ""));
    sandbox_set_text(&spec->restart, str_from(o->restart ? o->restart : "no"));
    sandbox_set_text(&spec->pull, str_from(o->pull ? o->pull : "missing"));
    (void)add_words(operands + 1, n - 1, &spec->command, &spec->n_command);
    if (o->entrypoint)
        (void)add_words(&o->entrypoint, 1, &spec->entrypoint, &spec->n_entrypoint);
    spec->tty = o->tty;
    spec->stdin = o->interactive;
    spec->cpu_milli = o->cpus_milli;
    spec->memory_bytes = o->memory;
    spec->pids_limit = (uint32_t)o->pids;
    spec->read_only = o->read_only;
    spec->stop_grace_s = (uint32_t)(o->stop_timeout / USEC_SEC);
    spec->open_network = strcmp(o->network, "open") == 0;
    return 0;
}

/* --- Making it --- */

struct making {
    struct cli *cli;
    struct rpc_stream *stream;
};

static int put_piece(void *arg, struct str bytes, struct err *err)
{
    const struct making *m = arg;
    Davit__Control__V1__RunSandboxRequest q = DAVIT__CONTROL__V1__RUN_SANDBOX_REQUEST__INIT;
    q.snapshot = (ProtobufCBinaryData){bytes.n, (uint8_t *)(uintptr_t)bytes.p};
    return rpc_stream_put(m->stream, &q.base, USEC_INFINITY, err);
}

static void notice(void *arg, const char *name, const char *why)
{
    const struct making *m = arg;
    AUTO_FREE char *clean = out_clean(str_from(name));
    out_note(m->cli, "davit: left out of the snapshot: %s (%s)", clean, why);
}

static int put_snapshot(struct making *m, const char *folder, struct err *err)
{
    Davit__Control__V1__RunSandboxRequest q = DAVIT__CONTROL__V1__RUN_SANDBOX_REQUEST__INIT;
    struct pack p = {.put = put_piece, .notice = notice, .arg = m, .owners = true};
    q.snapshot_ends = true;
    int rc = pack_folder(&p, folder, "", err);
    return rc < 0 ? rc : rpc_stream_put(m->stream, &q.base, USEC_INFINITY, err);
}

/* Waits until it runs. */
static int make(struct cli *cli, Davit__Common__V1__SandboxSpec *spec, const char *server, const struct run_options *o,
                Davit__Control__V1__RunSandboxResponse **ret, struct err *err)
{
    Davit__Control__V1__RunSandboxRequest q = DAVIT__CONTROL__V1__RUN_SANDBOX_REQUEST__INIT;
    struct making m = {.cli = cli};
    q.spec = spec;
    q.force = o->force;
    if (server)
        q.server = (char *)(uintptr_t)server;
    int rc = clock_gate(cli, o->clock_wait, err);
    if (rc == 0)
        rc = rpc_stream_open(cli->channel, &davit_control_v1_sandbox_service, "RunSandbox", USEC_INFINITY, &m.stream, err);
    if (rc == 0)
        rc = rpc_stream_put(m.stream, &q.base, deadline_in(FIRST_WAIT), err);
    if (rc == 0 && spec->workspace && spec->workspace->snapshot) {
        struct err why = ERR_INIT;
        rc = put_snapshot(&m, spec->workspace->source, &why);
        if (rc < 0 && !rpc_stream_told(m.stream)) /* else the other side says what was wrong */
            *err = why;
        else
            rc = 0;
    }
    if (rc == 0) {
        rpc_stream_half_close(m.stream);
        rc = sandbox_follow(cli, m.stream, ret, err);
    }
    m.stream = rpc_stream_close(m.stream);
    return rc;
}

/* Its program has ended: so does it. */
static void drop(struct cli *cli, char *id)
{
    Davit__Control__V1__RemoveSandboxRequest q = DAVIT__CONTROL__V1__REMOVE_SANDBOX_REQUEST__INIT;
    Davit__Control__V1__SandboxRef ref = DAVIT__CONTROL__V1__SANDBOX_REF__INIT;
    ProtobufCMessage *message = NULL;
    struct err err = ERR_INIT;
    ref.name = id;
    q.target = &ref;
    q.force = q.volumes = true;
    if (cli_call(cli, &davit_control_v1_sandbox_service, "RemoveSandbox", &q.base, REMOVE_TIMEOUT, &message, &err) < 0)
        out_note(cli, "davit: it could not be removed: %s", err.msg);
    (void)rpc_message_free(message);
}

/* PROGRAM_DETACHED: it runs on. */
static int attach(struct cli *cli, const struct run_options *o, const Davit__Common__V1__Sandbox *s, struct err *err)
{
    Davit__Control__V1__SandboxRef ref = DAVIT__CONTROL__V1__SANDBOX_REF__INIT;
    const struct sandbox_attach a = {.target = &ref, .input = o->interactive, .from_start = true};
    ref.name = s->id;
    int rc = sandbox_attach(cli, &a, err);
    if (rc == PROGRAM_DETACHED || (rc == -(int)ERR_CANCELLED && !o->rm)) {
        AUTO_FREE char *title = sandbox_title(s);
        out_note(cli, "\ndavit: it runs on; davit sandbox attach %s takes it again", title);
    }
    return rc;
}

/* One `davit run` on the way. */
struct going {
    struct cli *cli;
    const struct run_options *o;
    Davit__Common__V1__SandboxSpec *spec;
    const char *server;
    Davit__Control__V1__RunSandboxResponse *made;
    struct fiber *fiber; /* of --rm */
    int rc;
    struct err *err;
};

static void go(void *arg)
{
    struct going *g = arg;
    g->rc = make(g->cli, g->spec, g->server, g->o, &g->made, g->err);
    if (g->rc == 0 && !g->o->detach)
        g->rc = attach(g->cli, g->o, g->made->sandbox, g->err);
}

/* --- With --rm --- */

static void on_stop(int signum, void *arg)
{
    const struct going *g = arg;
    (void)signum;
    fiber_cancel(g->fiber);
}

static int list(const struct going *g, ProtobufCMessage **ret, struct err *err)
{
    Davit__Control__V1__ListSandboxesRequest q = DAVIT__CONTROL__V1__LIST_SANDBOXES_REQUEST__INIT;
    q.project = g->spec->project;
    return cli_call(g->cli, &davit_control_v1_sandbox_service, "ListSandboxes", &q.base, FIRST_WAIT, ret, err);
}

static bool has(const Davit__Control__V1__ListSandboxesResponse *m, const char *id)
{
    for (size_t i = 0; i < m->n_sandboxes; i++)
        if (strcmp(m->sandboxes[i]->id, id) == 0)
            return true;
    return false;
}

/* It was not said to be made, and may be there all the same: one of its name that was not there @before. */
static void drop_unmade(const struct going *g, const ProtobufCMessage *before)
{
    ProtobufCMessage *now = NULL;
    if (g->rc == -(int)ERR_EXISTS || list(g, &now, NULL) < 0)
        return;
    const Davit__Control__V1__ListSandboxesResponse *m = (const void *)now;
    for (size_t i = 0; i < m->n_sandboxes; i++) {
        const Davit__Common__V1__Sandbox *s = m->sandboxes[i];
        if (strcmp(s->name, g->spec->name) == 0 && strcmp(s->project, g->spec->project) == 0 && !has((const void *)before, s->id))
            drop(g->cli, s->id);
    }
    (void)rpc_message_free(now);
}

/* A signal ends all waits of the fiber that it cancels, and removing waits: so the rest has a fiber of its own. */
static int go_and_remove(struct going *g, struct err *err)
{
    ProtobufCMessage *before = NULL;
    int rc = list(g, &before, err);
    if (rc == 0)
        rc = fiber_spawn(g->cli->loop, "run", go, g, &g->fiber);
    if (rc == 0) {
        for (size_t i = 0; i < 2 && rc == 0; i++)
            rc = loop_signal(g->cli->loop, i ? SIGTERM : SIGINT, on_stop, g, err);
        if (rc < 0)
            fiber_cancel(g->fiber);
        (void)fiber_join(g->fiber, USEC_INFINITY);
        if (!g->made)
            drop_unmade(g, before);
        else if (g->rc != PROGRAM_DETACHED && (g->rc >= 0 || g->rc == -(int)ERR_CANCELLED))
            drop(g->cli, g->made->sandbox->id);
        (void)loop_signal(g->cli->loop, SIGINT, NULL, NULL, NULL);
        (void)loop_signal(g->cli->loop, SIGTERM, NULL, NULL, NULL);
        rc = g->rc;
    }
    g->fiber = fiber_unref(g->fiber);
    (void)rpc_message_free(before);
    return rc;
}

static int run_run(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct run_options *o = options;
    AUTO_FREE char *server = NULL;
    if (o->rm && o->detach)
        return err_set(err, ERR_INVALID, "--rm: goes without --detach, since this program removes it");
    if (o->tty && o->interactive && !o->detach && !isatty(STDIN_FILENO))
        return err_set(err, ERR_INVALID, "--tty: standard input is no terminal; leave it out, or use --interactive alone");
    Davit__Common__V1__SandboxSpec *spec = sandbox_spec_new();
    int rc = fill(spec, o, operands, n, &server, err);
    if (rc == 0 && spec->open_network)
        out_note(cli, "davit: warning: --network open: the program reaches the whole network of that server, and nothing is filtered");
    struct going g = {.cli = cli, .o = o, .spec = spec, .server = o->server ? o->server : server, .rc = rc, .err = err};
    if (rc == 0 && o->rm) {
        rc = go_and_remove(&g, err);
    } else if (rc == 0) {
        go(&g);
        rc = g.rc;
    }
    (void)rpc_message_free(spec);
    if (rc == 0 && o->detach && cli->json) {
        rc = out_message(&g.made->sandbox->base, err);
    } else if (rc == 0 && o->detach) {
        AUTO_FREE char *title = sandbox_title(g.made->sandbox);
        puts(title);
    }
    (void)rpc_message_free(g.made);
    return rc == PROGRAM_DETACHED ? 0 : rc;
}

const struct verb verb_run = {
    .name = "run",
    .group = "Sandboxes",
    .usage = "[OPTIONS] IMAGE [COMMAND...]",
    .about = "run a program in a sandbox: contained, without a way out",
    .example = "davit run busybox echo hello\ndavit run -it --workspace . alpine\n"
               "davit run -d --name agent --workspace .:/src --snapshot node:22 npm test",
    .opts = run_opts,
    .opts_size = sizeof(struct run_options),
    .min_operands = 1,
    .max_operands = CLI_OPERANDS_MAX,
    .command = 1,
    .wakes = true,
    .run = run_run,
};
