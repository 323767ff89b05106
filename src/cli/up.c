/* SPDX-License-Identifier: Apache-2.0 */
/* up — brings the control plane and the local agent of this machine up: keys, account, davitd, agent; waits until the machine is online. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/controlplane.h"
#include "cli/dashboard.h"
#include "cli/out.h"
#include "cli/plane.h"
#include "cli/proc.h"
#include "cli/settings_file.h"
#include "cli/up.h"
#include "cli/up_internal.h"
#include "docker/docker.h"
#include "net/endpoint.h"

static const usec_t NATIVE_WAIT = 30 * USEC_SEC, CONTAINER_WAIT = 60 * USEC_SEC, POLL_STEP = 100 * USEC_MSEC;

#define OPT_AT(field) offsetof(struct up_options, field)
const struct opt up_opts[] = {
    {.name = "advertise", .type = OPT_STRING, .offset = OPT_AT(advertise), .arg = "HOST[:PORT]",
     .help = "address under which other servers reach this one"},
    {.name = "hostname", .type = OPT_STRING, .offset = OPT_AT(hostname), .arg = "NAME",
     .help = "public name, for servers that can only come through a tunnel"},
    {.name = "store", .type = OPT_STRING, .offset = OPT_AT(store), .arg = "ADDR",
     .help = "database of davitd: postgres://USER@HOST/DATABASE without password, which comes from PGPASSFILE (a file of its own)"},
    {.name = "api-listen", .type = OPT_STRING, .offset = OPT_AT(api), .arg = "ADDR:PORT", .help = "API for this program (127.0.0.1:7443)"},
    {.name = "link-listen", .type = OPT_STRING, .offset = OPT_AT(link), .arg = "ADDR:PORT",
     .help = "links of remote agents, opened with the first of them (0.0.0.0:7442)"},
    {.name = "web-listen", .type = OPT_STRING, .offset = OPT_AT(web), .arg = "ADDR:PORT",
     .help = "dashboard, and where servers are installed and updated from (0.0.0.0:7440), opened with the first of them"},
    {.name = "local-web-listen", .type = OPT_STRING, .offset = OPT_AT(local_web), .arg = "ADDR:PORT",
     .help = "dashboard for this machine, plain HTTP on loopback (127.0.0.1:7441); none: nowhere"},
    {.name = "release-dir", .type = OPT_STRING, .offset = OPT_AT(releases), .arg = "DIR",
     .help = "releases that servers are installed from and updated to; readable for --user"},
    {.name = "health-listen", .type = OPT_STRING, .offset = OPT_AT(health), .arg = "ADDR:PORT",
     .help = "/healthz and /metrics (127.0.0.1:7080)"},
    {.name = "user", .type = OPT_STRING, .offset = OPT_AT(user), .arg = "NAME", .help = "account of davitd when started by root (davit)"},
    {.name = "docker", .type = OPT_STRING, .offset = OPT_AT(docker), .arg = "ADDR",
     .help = "Docker Engine of this machine, unix:/PATH ($DOCKER_HOST, else /var/run/docker.sock)"},
    {.name = "ingress-listen", .type = OPT_STRING, .offset = OPT_AT(ingress), .arg = "ADDR:PORT",
     .help = "where services of this machine are reached by hostname (127.0.0.1:80); none: nowhere"},
    {.name = "ingress-image", .type = OPT_STRING, .offset = OPT_AT(ingress_image), .arg = "REF",
     .help = "HAProxy for that, 2.4 or later (docker.io/library/haproxy:2.8-alpine)"},
    {.name = "mode", .type = OPT_ENUM, .offset = OPT_AT(mode), .choices = "auto|container|native", .arg = "MODE",
     .help = "in a container of the Docker Engine (for sandboxes), or as processes of this machine (for all); auto: as it was, else what can be"},
    {.name = "background", .type = OPT_BOOL, .offset = OPT_AT(background), .help = "background processes even where systemd runs"},
    {.name = "agent", .type = OPT_BOOL, .offset = OPT_AT(agent), .def = "true", .help = "run the local agent; --no-agent: control plane only"},
    {.name = "wait", .type = OPT_USEC, .offset = OPT_AT(wait), .min = 1000000, .max = 600000000, .arg = "TIME",
     .help = "how long to wait until all answers (30s; in a container 60s)"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

/* A flag changes what is remembered; without one the value of last time stays. */
static void remember(char **kept, const char *given)
{
    if (!given)
        return;
    free(*kept);
    *kept = *given ? str_dup(str_from(given)) : NULL;
}

/* Kept as a whole path: the next `up` may come from another directory. */
static int remember_directory(char **kept, const char *given, struct err *err)
{
    AUTO_FREE char *whole = given && *given ? realpath(given, NULL) : NULL;
    if (given && *given && !whole)
        return err_sys(err, errno, "%s", given);
    remember(kept, whole ? whole : given);
    return 0;
}

/* @engine: what the environment says, or NULL. */
static int settle(struct cli *cli, const struct up_options *o, const char *engine, struct err *err)
{
    struct cli_settings *s = &cli->settings;
    int rc = settings_file_apply(cli, s, err);

    if (rc < 0)
        return rc;
    remember(&s->store, o->store);
    remember(&s->api, o->api);
    remember(&s->link, o->link);
    remember(&s->web, o->web);
    remember(&s->local_web, o->local_web);
    remember(&s->health, o->health);
    remember(&s->advertise, o->advertise);
    remember(&s->hostname, o->hostname);
    remember(&s->user, o->user);
    remember(&s->ingress, o->ingress);
    remember(&s->ingress_image, o->ingress_image);
    /* Kept like an option: a unit gets no environment, and the next `up` may come from another shell. */
    remember(&s->docker, o->docker ? o->docker : engine);
    /* Below --home everything is private to that directory, units of the system are not. */
    s->systemd = proc_has_systemd() && !o->background && !cli->common.home;
    return remember_directory(&s->releases, o->releases, err);
}

static int check_store(const char *store, struct err *err)
{
    if (!store || *store == '/' || proc_is_database(store))
        return 0;
    (void)err_set(err, ERR_INVALID, "--store: \"%.200s\" is neither postgres://... nor an absolute path", store);
    err_hint(err, "without --store the data is in a file of the state directory");
    return -ERR_INVALID;
}

static int check_releases(const char *dir, struct err *err)
{
    struct stat st;

    if (!dir)
        return 0;
    if (stat(dir, &st) < 0)
        return err_sys(err, errno, "--release-dir: %s", dir);
    if (S_ISDIR(st.st_mode))
        return 0;
    (void)err_set(err, ERR_INVALID, "--release-dir: %s is no directory", dir);
    err_hint(err, "--release-dir \"\" forgets it");
    return -ERR_INVALID;
}

/* All that can be judged is judged before what runs is touched. */
static int check_settings(struct cli *cli, struct err *err)
{
    const struct cli_settings *s = &cli->settings;
    const struct {
        enum endpoint_kind kind;
        const char *option, *value;
    } all[] = {
        {ENDPOINT_LISTEN_TCP, "api-listen", s->api}, {ENDPOINT_LISTEN_TCP, "link-listen", s->link},
        {ENDPOINT_LISTEN_TCP, "web-listen", s->web}, {ENDPOINT_LISTEN_TCP, "health-listen", s->health},
        {ENDPOINT_LOCAL, "local-web-listen", s->local_web}, {ENDPOINT_REACH, "advertise", s->advertise},
        {ENDPOINT_NAME, "hostname", s->hostname},
    };
    struct docker *d = NULL;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(all); i++)
        rc = endpoint_check(all[i].kind, all[i].option, all[i].value, err);
    if (rc == 0 && s->ingress && !str_eq(str_from(s->ingress), STR("none")))
        rc = endpoint_check(ENDPOINT_LISTEN_TCP, "ingress-listen", s->ingress, err);
    if (rc < 0 || (rc = check_store(s->store, err)) < 0 || (rc = check_releases(s->releases, err)) < 0 ||
        (rc = docker_new(cli->loop, s->docker, &d, err)) < 0)
        return rc;
    docker_free(d);
    return 0;
}

static void report(struct cli *cli, const char *server, bool changed, const struct dashboard *d)
{
    if (cli->json) {
        printf("{\"api\":\"%s\",\"server\":", cli->settings.api);
        printf(server ? "\"%s\"" : "null", server); /* a DNS label: nothing to escape */
        printf(",\"changed\":%s,", changed ? "true" : "false");
        dashboard_print_json(d);
        printf("}\n");
        return;
    }
    if (!changed)
        printf("Davit is up already.\n");
    else
        printf("%sDavit is up.%s\n", out_color(cli, OUT_GREEN), out_color(cli, OUT_PLAIN));
    if (server && plane_mode(&cli->settings))
        printf("It is in a container, for sandboxes. Try `davit run --help`. For services see `davit up --mode native`.\n");
    else if (server)
        printf("This machine is server \"%s\". Try `davit deploy --help`, or `davit server add NAME` for another machine.\n", server);
    dashboard_print(d);
}

/* That it runs counts: without an answer about the dashboard it is up all the same. */
static void tell(struct cli *cli, const char *server, bool changed)
{
    CLEANUP(dashboard_release) struct dashboard d;
    struct err err = ERR_INIT;

    if (dashboard_find(cli, false, &d, &err) < 0)
        out_note(cli, "warning: the dashboard: %s", err.msg);
    report(cli, server, changed, &d);
}

/* Another one at work may do what this one wants: it is waited for. 0; 1: it was. */
static int lock(struct cli *cli, int *ret_fd, usec_t deadline, struct err *err)
{
    struct err held = ERR_INIT;
    int rc, waited = 0;

    while ((rc = cli_lock(&cli->paths, ret_fd, &held)) == -ERR_EXISTS && clock_mono() < deadline) {
        waited = 1;
        if ((rc = fiber_sleep(POLL_STEP)) < 0)
            return rc;
    }
    if (rc < 0)
        *err = held;
    return rc < 0 ? rc : waited;
}

static void before_release(struct up_before *b)
{
    cli_settings_release(&b->settings);
}

/* `down --purge` removes the directories of a --home whole: what is in them from before must not be somebody else's. */
static int check_home(const struct cli *cli, struct err *err)
{
    const struct cli_paths *p = &cli->paths;
    const char *const dirs[] = {p->config, p->state, p->agent, p->run, p->log};

    if (!cli->common.home || cli_paths_ours(p))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        if (cli_dir_is_empty(dirs[i]))
            continue;
        (void)err_set(err, ERR_EXISTS, "%s exists and was not made by davit up", dirs[i]);
        err_hint(err, "name a directory for --home that is new or empty");
        return -ERR_EXISTS;
    }
    return 0;
}

/* What stands there now, and over it what is asked for. @o NULL: nothing is, as by what starts it by itself. */
static int judge(struct cli *cli, const struct up_options *o, struct up_before *b, struct err *err)
{
    AUTO_FREE char *file = str_printf("%s/" SETTINGS_FILE, cli->paths.config);
    struct up_options nothing = {0};

    cli_settings_release(&b->settings);
    b->known = access(file, F_OK) == 0;
    int rc = cli_settings_load(&cli->paths, &b->settings, err);
    cli_settings_release(&cli->settings);
    if (rc == 0)
        rc = cli_settings_load(&cli->paths, &cli->settings, err);
    nothing.background = b->known && !b->settings.systemd;
    /* Only who says `up` may mean another engine: with any other shell's, the agent would lose sight of its sandboxes. */
    const char *engine = o || !b->known ? getenv("DOCKER_HOST") : NULL;
    if (rc == 0)
        rc = settle(cli, o ? o : &nothing, engine, err);
    return rc < 0 ? rc : check_settings(cli, err);
}

/* The one way: the verbs and what starts it by itself come here. */
static int bring_up(struct cli *cli, const struct up_options *o, struct up_result *ret, struct err *err)
{
    struct up_want want = {.agent = !o || o->agent, .leave = !o, .wait = o ? o->wait : 0};
    CLEANUP(before_release) struct up_before b = {0};
    AUTO_FD int fd = -1;
    int rc, waited = 0;

    if ((rc = judge(cli, o, &b, err)) < 0 || (rc = check_home(cli, err)) < 0 || (rc = fd_mkdir_p(cli->paths.config, 0700, err)) < 0 ||
        (rc = fd_mkdir_p(cli->paths.run, 0755, err)) < 0 ||
        (rc = waited = lock(cli, &fd, deadline_in(want.wait ? want.wait : CONTAINER_WAIT), err)) < 0)
        return rc;
    /* Whoever was at work may have changed what is remembered. */
    if ((waited && (rc = judge(cli, o, &b, err)) < 0) || (rc = up_settle_mode(cli, o ? o->mode : NULL, &b, err)) < 0 ||
        (rc = up_prepare(cli, &b, err)) < 0)
        return rc;
    bool container = plane_mode(&cli->settings);
    if (container && !want.agent)
        return err_set(err, ERR_INVALID, "--no-agent: a control plane in a container is there for its agent; see --mode native");
    want.wait = want.wait ? want.wait : container ? CONTAINER_WAIT : NATIVE_WAIT;
    rc = container ? plane_up(cli, &want, &b, ret, err) : up_native(cli, &want, &b, ret, err);
    /* Which server it is, is known only now. */
    return rc < 0 || cli_settings_equal(&cli->settings, &b.settings) ? rc : cli_settings_save(&cli->paths, &cli->settings, err);
}

int up_ensure(struct cli *cli, struct err *err)
{
    struct up_result found = {0};
    int rc = bring_up(cli, NULL, &found, err);

    free(found.server);
    return rc < 0 ? rc : found.changed;
}

int run_up(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    struct up_result found = {0};

    (void)operands;
    (void)n;
    int rc = bring_up(cli, options, &found, err);
    if (rc == 0)
        tell(cli, found.server, found.changed);
    free(found.server);
    return rc;
}

const struct verb verb_up = {
    .name = "up",
    .group = "This machine",
    .usage = "[OPTIONS]",
    .about = "start Davit on this machine (again: changes nothing)",
    .example = "davit up\ndavit up --advertise 203.0.113.7",
    .opts = up_opts,
    .opts_size = sizeof(struct up_options),
    .run = run_up,
};
