/* SPDX-License-Identifier: Apache-2.0 */
/* up — brings the control plane and the local agent of this machine up: keys, account, davitd, agent; waits until the machine is online. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/priv.h"
#include "cli/controlplane.h"
#include "cli/dashboard.h"
#include "cli/out.h"
#include "cli/proc.h"
#include "cli/settings_file.h"
#include "davit/control/v1/servers.davit.h"
#include "davit/control/v1/servers.pb-c.h"
#include "docker/docker.h"
#include "ident/pki_dir.h"
#include "loop/child.h"
#include "net/endpoint.h"

static const usec_t POLL_STEP = 100 * USEC_MSEC;
static const usec_t CALL_TIMEOUT = 10 * USEC_SEC;
static const usec_t BRING_BACK_WAIT = 30 * USEC_SEC;

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
    {.name = "background", .type = OPT_BOOL, .offset = OPT_AT(background), .help = "background processes even where systemd runs"},
    {.name = "agent", .type = OPT_BOOL, .offset = OPT_AT(agent), .def = "true", .help = "run the local agent; --no-agent: control plane only"},
    {.name = "wait", .type = OPT_USEC, .offset = OPT_AT(wait), .min = 1000000, .max = 600000000, .arg = "TIME", .def = "30s",
     .help = "how long to wait until all answers"},
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

static int settle(struct cli *cli, const struct up_options *o, struct err *err)
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
    remember(&s->docker, o->docker ? o->docker : getenv("DOCKER_HOST"));
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

/* Root starts davitd under an account of its own. */
static int ensure_account(struct cli *cli, struct err *err)
{
    const char *name = cli->settings.user;
    const char *const argv[] = {"/usr/sbin/useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent",
                                "--shell", "/usr/sbin/nologin", name, NULL};
    struct child_spec spec = {.argv = argv, .output_max = 4096};
    struct child_result result;
    uid_t uid;
    gid_t gid;
    int rc;

    if (geteuid() != 0 || priv_lookup(name, &uid, &gid, NULL) == 0)
        return 0;
    if ((rc = child_run(cli->loop, &spec, deadline_in(30 * USEC_SEC), &result, err)) < 0)
        return rc;
    if (result.exit_status != 0) {
        rc = err_set(err, ERR_INTERNAL, "cannot create the account \"%s\": %s", name, buf_cstr(&result.err));
        err_hint(err, "create it yourself, or name another with --user");
    }
    child_result_release(&result);
    cli->settings.made_user = rc == 0;
    return rc;
}

/* Gives a directory and the plain files in it (nothing below) to an account. */
static int give(const char *dir, uid_t uid, gid_t gid, struct err *err)
{
    AUTO_FD int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d;
    int rc = 0;

    if (fd < 0 || fchown(fd, uid, gid) < 0 || !(d = fdopendir(fd)))
        return err_sys(err, errno, "cannot give %s to the account of davitd", dir);
    TAKE_FD(fd);
    for (struct dirent *e; rc == 0 && (e = readdir(d));) {
        struct stat st;
        /* That account may have made what is there now: a file with a second name may be somebody else's. */
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1)
            continue;
        if (fchownat(dirfd(d), e->d_name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
            rc = err_sys(err, errno, "cannot give %s/%s to the account of davitd", dir, e->d_name);
    }
    (void)closedir(d);
    return rc;
}

/* davitd, under its account, must be able to walk to @path. */
static int check_reach(const char *path, const char *account, struct err *err)
{
    AUTO_FREE char *part = str_dup(str_from(path));

    for (char *slash = strrchr(part, '/'); slash && slash != part; slash = strrchr(part, '/')) {
        struct stat st;
        *slash = 0;
        if (stat(part, &st) == 0 && !(st.st_mode & S_IXOTH)) {
            (void)err_set(err, ERR_PRECONDITION, "account \"%s\" cannot reach %s: %s is closed to it", account, path, part);
            err_hint(err, "chmod o+x %s, or use another --home", part);
            return -ERR_PRECONDITION;
        }
    }
    return 0;
}

static int prepare_keys(struct cli *cli, struct err *err)
{
    int rc = pki_user_init(cli->paths.config, err);

    if (rc < 0 || (rc = pki_control_prepare(cli->paths.state, err)) < 0)
        return rc;
    return pki_user_sign(cli->paths.config, cli->paths.state, err);
}

/* What stood before this `up`, to which it goes back when davitd does not come up. */
struct before {
    struct cli_settings settings;
    bool known; /* `up` was here and saved them */
};

static int prepare(struct cli *cli, const struct before *b, struct err *err)
{
    uid_t uid;
    gid_t gid;
    int rc;

    if ((rc = fd_mkdir_p(cli->paths.config, 0700, err)) < 0 || (rc = fd_mkdir_p(cli->paths.state, 0700, err)) < 0 ||
        (rc = fd_mkdir_p(cli->paths.agent, 0700, err)) < 0 || (rc = prepare_keys(cli, err)) < 0 || (rc = ensure_account(cli, err)) < 0)
        return rc;
    /* Settings that replace others are saved when davitd works with them; the first ones at once, `down` needs them. */
    if (!b->known && (rc = cli_settings_save(&cli->paths, &cli->settings, err)) < 0)
        return rc;
    if (geteuid() != 0)
        return 0;
    if ((rc = priv_lookup(cli->settings.user, &uid, &gid, err)) < 0 || (rc = check_reach(cli->paths.state, cli->settings.user, err)) < 0 ||
        (rc = check_reach(cli->paths.run, cli->settings.user, err)) < 0 ||
        (cli->settings.releases && (rc = check_reach(cli->settings.releases, cli->settings.user, err)) < 0))
        return rc;
    rc = give(cli->paths.state, uid, gid, err);
    return rc < 0 ? rc : give(cli->paths.run, uid, gid, err);
}

/* The end of a daemon's log goes into the hint: that is where its reason stands. */
static int died(struct cli *cli, const struct proc *p, struct err *err)
{
    AUTO_BUF tail = BUF_INIT(4096);
    struct str text, last = STR("");

    proc_log_tail(cli, p, &tail);
    for (text = str_trim(buf_str(&tail)); text.n > 0;) {
        struct str line = str_cut(&text, '\n');
        last = line.n > 0 ? line : last;
    }
    (void)err_set(err, ERR_UNAVAILABLE, "%s did not come up", p->name);
    if (cli->settings.systemd)
        err_hint(err, "journalctl -u %s tells why", p->name);
    else
        err_hint(err, "%s/%s.log ends with: " STR_FMT, cli->paths.log, p->name, STR_ARG(last));
    return -ERR_UNAVAILABLE;
}

/* Starts @p unless it runs as it should; restarts one that is an older program or has other arguments. 1: it was left alone. */
static int ensure_running(struct cli *cli, const struct proc *p, struct err *err)
{
    pid_t pid;
    int rc = proc_alive(p, &pid, err);

    if (rc < 0)
        return rc;
    if (rc == 1 && proc_current(p, pid))
        return 1;
    if (rc == 1) {
        out_note(cli, "%s runs with an older program or other settings: restarting it", p->name);
        if ((rc = proc_stop(cli, p, err)) < 0)
            return rc;
    }
    return proc_start(cli, p, err);
}

static int wait_davitd(struct cli *cli, const struct proc *p, usec_t deadline, struct err *err)
{
    usec_t must_live = deadline_in(3 * USEC_SEC);
    pid_t pid;
    int rc;

    for (;;) {
        /* Another program may hold the port: an answer counts only while ours is alive. */
        if ((rc = proc_alive(p, &pid, err)) < 0)
            return rc;
        if (rc == 1 && health_look(cli, NULL) == 0)
            return 0;
        if (clock_mono() > deadline || (rc == 0 && clock_mono() > must_live))
            return died(cli, p, err);
        if ((rc = fiber_sleep(POLL_STEP)) < 0)
            return rc;
    }
}

/* Up, and of no use: better told now than by the first deployment that fails. */
static void warn(struct cli *cli, const Davit__Control__V1__Server *s)
{
    for (size_t i = 0; i < s->n_health_reasons; i++) {
        AUTO_FREE char *reason = out_clean(str_from(s->health_reasons[i]));
        out_note(cli, "warning: %s", reason);
    }
}

/* 1: the local server is online (its name in *ret_name) and was heard since @since_us; 0: not yet. */
static int local_online(struct cli *cli, usec_t since_us, char **ret_name, struct err *err)
{
    Davit__Control__V1__ListServersRequest req = DAVIT__CONTROL__V1__LIST_SERVERS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    int rc = cli_call(cli, &davit_control_v1_server_service, "ListServers", &req.base, CALL_TIMEOUT, &message, err);

    if (rc < 0)
        return rc;
    const Davit__Control__V1__ListServersResponse *list = (const void *)message;
    for (size_t i = 0; i < list->n_servers && !*ret_name; i++)
        if (list->servers[i]->local && list->servers[i]->state == DAVIT__CONTROL__V1__SERVER_STATE__SERVER_STATE_ONLINE &&
            list->servers[i]->last_heartbeat_us >= since_us) {
            *ret_name = str_dup(str_from(list->servers[i]->name));
            warn(cli, list->servers[i]);
        }
    rpc_message_free(message);
    return *ret_name ? 1 : 0;
}

/* A control plane counts a server as online for a while after its agent died: one that was just started must have been heard itself. */
static int wait_agent(struct cli *cli, const struct proc *p, usec_t since_us, usec_t deadline, char **ret_name, struct err *err)
{
    usec_t must_live = deadline_in(3 * USEC_SEC);
    pid_t pid;
    int rc;

    while ((rc = local_online(cli, since_us, ret_name, err)) == 0) {
        if ((rc = proc_alive(p, &pid, err)) < 0)
            return rc;
        if (clock_mono() > deadline || (rc == 0 && clock_mono() > must_live))
            return died(cli, p, err);
        if ((rc = fiber_sleep(POLL_STEP)) < 0)
            return rc;
    }
    return rc < 0 ? rc : 0;
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
    if (server)
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

/* Again as it was before. 0, or the reason in @why. */
static int restart_old(struct cli *cli, bool ran, struct err *why)
{
    struct local local;
    int rc;

    local_init(&local, cli);
    rc = ran ? ensure_running(cli, &local.davitd, why) : 0;
    if (rc >= 0 && ran)
        rc = wait_davitd(cli, &local.davitd, deadline_in(BRING_BACK_WAIT), why);
    local_release(&local);
    return rc < 0 ? rc : 0;
}

/* @err holds why davitd does not come up; what became of the settings is put in front of it. */
static void bring_back(struct cli *cli, struct before *b, const struct proc *failed, bool ran, struct err *err)
{
    const struct cli_settings given = cli->settings;
    struct err why = ERR_INIT;
    int rc = proc_stop(cli, failed, &why);

    if (given.made_user && !b->settings.made_user) {
        b->settings.made_user = true;
        (void)cli_settings_save(&cli->paths, &b->settings, NULL); /* at worst an account stays */
    }
    cli->settings = b->settings;
    if (rc >= 0)
        rc = restart_old(cli, ran, &why);
    cli->settings = given;
    if (rc < 0)
        (void)err_wrap(err, "davitd comes up neither with these settings nor again with those of before (%.200s), which are kept", why.msg);
    else
        (void)err_wrap(err, "davitd does not come up with these settings; those of before are kept%s", ran ? " and it runs with them again" : "");
}

/* 0: davitd was started; 1: it ran as it should already. */
static int start_davitd(struct cli *cli, struct before *b, const struct proc *p, usec_t deadline, struct err *err)
{
    pid_t pid;
    int ran = proc_alive(p, &pid, err), started = ran < 0 ? ran : settings_ports_free(cli, &b->settings, ran == 1, err);
    if (started < 0)
        return started;
    started = ensure_running(cli, p, err);
    int rc = started < 0 ? started : wait_davitd(cli, p, deadline, err);

    if (started == 0)
        bearer_drop(cli);
    /* Interrupted: it runs with the new ones, and the next `up` shall find that. */
    if (rc == 0 || rc == -ERR_CANCELLED) {
        int saved = b->known ? cli_settings_save(&cli->paths, &cli->settings, rc == 0 ? err : NULL) : 0;
        return rc < 0 ? rc : saved < 0 ? saved : started;
    }
    if (ran >= 0 && started != 1 && b->known && !cli_settings_equal(&cli->settings, &b->settings))
        bring_back(cli, b, p, ran == 1, err);
    return rc;
}

static int start_all(struct cli *cli, const struct up_options *o, struct before *b, struct err *err)
{
    struct local local;
    AUTO_FREE char *server = NULL;
    usec_t deadline = deadline_in(o->wait);
    usec_t begin = clock_real();
    int davitd, agent = 1, rc;

    local_init(&local, cli);
    rc = davitd = start_davitd(cli, b, &local.davitd, deadline, err);
    if (rc >= 0 && o->agent)
        rc = agent = ensure_running(cli, &local.agent, err);
    if (rc >= 0 && o->agent)
        rc = wait_agent(cli, &local.agent, davitd == 0 || agent == 0 ? begin : 0, deadline, &server, err);
    if (rc >= 0)
        tell(cli, server, davitd == 0 || agent == 0);
    local_release(&local);
    return rc < 0 ? rc : 0;
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

int run_up(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct up_options *o = options;
    AUTO_FREE char *file = str_printf("%s/cli.json", cli->paths.config);
    struct before b = {.known = access(file, F_OK) == 0};
    AUTO_FD int fd = -1;
    int rc;

    (void)operands;
    (void)n;
    if ((rc = cli_settings_load(&cli->paths, &b.settings, err)) == 0 && (rc = settle(cli, o, err)) == 0 &&
        (rc = check_settings(cli, err)) == 0 && (rc = check_home(cli, err)) == 0 && (rc = fd_mkdir_p(cli->paths.config, 0700, err)) == 0 &&
        (rc = fd_mkdir_p(cli->paths.run, 0755, err)) == 0 && (rc = cli_lock(&cli->paths, &fd, err)) == 0 && (rc = prepare(cli, &b, err)) == 0)
        rc = start_all(cli, o, &b, err);
    cli_settings_release(&b.settings);
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
