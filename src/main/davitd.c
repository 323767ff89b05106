/* SPDX-License-Identifier: Apache-2.0 */
/* davitd — the control plane as a program: options, log, privileges, signals. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/logfile.h"
#include "base/opt.h"
#include "base/priv.h"
#include "control/backup.h"
#include "control/control.h"
#include "loop/fiber.h"
#include "main/monitor.h"

struct options {
    const char *state_dir, *store, *restore, *api, *link, *web, *local_web, *token, *gate, *link_socket, *health, *inside, *advertise, *hostname;
    const char *release_dir, *user, *log_level, *log_format, *idle_exit;
    int64_t agent_uid;
    struct logfile_options log;
    usec_t heartbeat_interval, offline_after, certificate_life, recovery_grace, idle_poll, idle_grace;
    bool version, for_sandboxes, monitor;
};

#define AT(field) offsetof(struct options, field)

static const struct opt table[] = {
    {.name = "state-dir",
     .type = OPT_STRING,
     .offset = AT(state_dir),
     .arg = "DIR",
     .env = true,
     .help = "keys, certificates and database of this control plane (required)"},
    {.name = "store",
     .type = OPT_STRING,
     .offset = AT(store),
     .arg = "ADDR",
     .env = true,
     .help = "the database: a file (control.db in the state directory), for davitd-pg postgres://USER@HOST/DATABASE without password"},
    {.name = "api-listen",
     .type = OPT_STRING,
     .offset = AT(api),
     .arg = "ADDR:PORT",
     .def = "127.0.0.1:7443",
     .env = true,
     .help = "where the API listens"},
    {.name = "link-listen",
     .type = OPT_STRING,
     .offset = AT(link),
     .arg = "ADDR:PORT",
     .def = "0.0.0.0:7442",
     .env = true,
     .help = "where agents of other servers connect; opened with the first of them"},
    {.name = "web-listen",
     .type = OPT_STRING,
     .offset = AT(web),
     .arg = "ADDR:PORT",
     .def = "0.0.0.0:7440",
     .env = true,
     .help = "the dashboard, and where servers are installed and updated from and agents come in through an edge (HTTPS); opened with the first of "
             "them, or with --hostname"},
    {.name = "local-web-listen",
     .type = OPT_STRING,
     .offset = AT(local_web),
     .arg = "ADDR:PORT",
     .def = "127.0.0.1:7441",
     .env = true,
     .help = "where the dashboard is for this machine, plain HTTP, loopback only; none: nowhere"},
    {.name = "token-listen",
     .type = OPT_STRING,
     .offset = AT(token),
     .arg = "ADDR:PORT",
     .env = true,
     .help = "a second place for /oauth2/token beside the API, loopback only: 127.0.0.1:4444 (nowhere)"},
    {.name = "gate-listen",
     .type = OPT_STRING,
     .offset = AT(gate),
     .arg = "ADDR:PORT",
     .env = true,
     .help = "where a proxy of this machine asks whether somebody is logged in, loopback only: 127.0.0.1:4456 (nowhere)"},
    {.name = "link-socket",
     .type = OPT_STRING,
     .offset = AT(link_socket),
     .arg = "PATH",
     .env = true,
     .help = "socket for the agent of this machine (link.sock in the state directory)"},
    {.name = "health-listen",
     .type = OPT_STRING,
     .offset = AT(health),
     .arg = "ADDR:PORT",
     .def = "127.0.0.1:7080",
     .env = true,
     .help = "/healthz and /metrics, plain HTTP"},
    {.name = "inside",
     .type = OPT_STRING,
     .offset = AT(inside),
     .arg = "ADDR",
     .help = "listen at this address and the ports of the options above, which somebody else publishes (in a container)"},
    {.name = "advertise",
     .type = OPT_STRING,
     .offset = AT(advertise),
     .arg = "HOST[:PORT]",
     .env = true,
     .help = "address under which other servers reach --link-listen"},
    {.name = "hostname",
     .type = OPT_STRING,
     .offset = AT(hostname),
     .arg = "NAME",
     .env = true,
     .help = "public name of this control plane, for servers that reach it through a tunnel"},
    {.name = "agent-uid",
     .type = OPT_INT,
     .offset = AT(agent_uid),
     .min = -1,
     .max = 4294967294,
     .arg = "UID",
     .def = "-1",
     .help = "uid of the agent of this machine, beside 0 and our own (-1: none)"},
    {.name = "user",
     .type = OPT_STRING,
     .offset = AT(user),
     .arg = "NAME",
     .help = "account to become when started by root; needs access to the state directory"},
    {.name = "release-dir",
     .type = OPT_STRING,
     .offset = AT(release_dir),
     .arg = "DIR",
     .env = true,
     .help = "releases that servers can be updated to and installed from"},
    {.name = "heartbeat-interval",
     .type = OPT_USEC,
     .offset = AT(heartbeat_interval),
     .min = 100000,
     .max = 3600000000,
     .arg = "TIME",
     .def = "30s",
     .help = "how often agents send a heartbeat"},
    {.name = "offline-after",
     .type = OPT_USEC,
     .offset = AT(offline_after),
     .min = 200000,
     .max = 86400000000,
     .arg = "TIME",
     .def = "90s",
     .help = "silence after which a server counts as offline"},
    {.name = "agent-certificate-life",
     .type = OPT_USEC,
     .offset = AT(certificate_life),
     .min = 5000000,
     .max = 31536000000000,
     .arg = "TIME",
     .def = "90d",
     .env = true,
     .help = "how long the certificates of agents are valid; they are renewed at two thirds of it"},
    {.name = "recovery-grace",
     .type = OPT_USEC,
     .offset = AT(recovery_grace),
     .min = 1000000,
     .max = 31536000000000,
     .arg = "TIME",
     .def = "30d",
     .env = true,
     .help = "how long after the end of its certificate an agent gets a new one by the key of the old one"},
    {.name = "idle-exit",
     .type = OPT_ENUM,
     .offset = AT(idle_exit),
     .choices = "auto|never|always",
     .def = "auto",
     .arg = "WHEN",
     .help = "end when no sandbox runs; auto: only with --for-sandboxes, and with nothing else to do"},
    {.name = "for-sandboxes",
     .type = OPT_BOOL,
     .offset = AT(for_sandboxes),
     .help = "it was started by itself, since a sandbox needs it"},
    {.name = "idle-poll",
     .type = OPT_USEC,
     .offset = AT(idle_poll),
     .min = 100000,
     .max = 3600000000,
     .arg = "TIME",
     .env = true,
     .def = "30s",
     .help = "how often sandboxes are counted for that; twice none ends it"},
    {.name = "idle-grace",
     .type = OPT_USEC,
     .offset = AT(idle_grace),
     .min = 1,
     .max = 86400000000,
     .arg = "TIME",
     .env = true,
     .def = "60s",
     .help = "how long after its start it stays in any case"},
    {.name = "restore",
     .type = OPT_STRING,
     .offset = AT(restore),
     .arg = "FILE",
     .help = "make the state directory, which is empty, and the database from a backup, and end"},
    {.name = "log-level",
     .type = OPT_ENUM,
     .offset = AT(log_level),
     .choices = "error|warn|notice|info|debug",
     .def = "info",
     .env = true,
     .arg = "LEVEL",
     .help = "least important events that are logged"},
    {.name = "log-format",
     .type = OPT_ENUM,
     .offset = AT(log_format),
     .choices = "text|json",
     .def = "text",
     .env = true,
     .arg = "FORMAT",
     .help = "shape of log lines"},
    LOGFILE_OPTS(struct options, log),
    {.name = "monitor", .type = OPT_BOOL, .offset = AT(monitor), .help = "as the first word: be PID 1 of a container, see monitor.h"},
    {.name = "version", .type = OPT_BOOL, .offset = AT(version), .help = "print the version and end"},
    {.name = NULL},
};

struct run {
    struct loop *loop;
    struct control_options control;
    struct event stop;
    struct err err;
    int rc;
};

static void on_signal(int signum, void *arg)
{
    struct run *r = arg;
    log_event(LOG_NOTICE, "stopping", "signal", signum == SIGTERM ? "SIGTERM" : "SIGINT", NULL);
    event_signal(&r->stop);
}

static void on_idle(void *arg, int rc)
{
    struct run *r = arg;
    if (rc < 0)
        r->rc = err_set(&r->err, (enum err_code)-rc, "it is not known whether sandboxes run");
    event_signal(&r->stop);
}

static void serve(void *arg)
{
    struct run *r = arg;
    struct control *c = NULL;
    r->control.on_idle = on_idle;
    r->control.on_idle_arg = r;
    r->rc = control_start(r->loop, &r->control, &c, &r->err);
    if (r->rc == 0) {
        log_event(LOG_NOTICE, "control plane started", "version", DAVIT_VERSION, "api", control_api_addr(c), "health",
                  control_health_addr(c), "link", *control_link_addr(c) ? control_link_addr(c) : "not open yet", NULL);
        if (event_wait(&r->stop, USEC_INFINITY) < 0) /* ends with a signal only */
            log_event(LOG_WARN, "the wait for signals was broken off", NULL);
        c = control_stop(c);
    }
    event_release(&r->stop);
    loop_stop(r->loop);
}

static enum idle_exit idle_exit_of(const char *name)
{
    return strcmp(name, "always") == 0 ? IDLE_EXIT_ALWAYS : strcmp(name, "never") == 0 ? IDLE_EXIT_NEVER : IDLE_EXIT_AUTO;
}

static struct control_options control_options_of(const struct options *o)
{
    return (struct control_options){.state_dir = o->state_dir,
                                    .store = o->store,
                                    .api_listen = o->api,
                                    .link_listen = o->link,
                                    .web_listen = o->web,
                                    .local_web_listen = o->local_web,
                                    .token_listen = o->token,
                                    .gate_listen = o->gate,
                                    .link_socket = o->link_socket,
                                    .health_listen = o->health,
                                    .inside = o->inside,
                                    .advertise = o->advertise,
                                    .hostname = o->hostname,
                                    .release_dir = o->release_dir,
                                    .agent_uid = o->agent_uid,
                                    .heartbeat_interval = o->heartbeat_interval,
                                    .offline_after = o->offline_after,
                                    .agent_certificate_life = o->certificate_life,
                                    .recovery_grace = o->recovery_grace,
                                    .idle_exit = idle_exit_of(o->idle_exit),
                                    .for_sandboxes = o->for_sandboxes,
                                    .idle_poll = o->idle_poll,
                                    .idle_grace = o->idle_grace};
}

static int run(const struct options *o, struct err *err)
{
    struct run r = {.control = control_options_of(o)};
    int rc = 0;
    (void)umask(077);
    if (o->user && geteuid() == 0)
        rc = priv_drop(o->user, err);
    if (rc < 0)
        return rc;
    log_use_options(&o->log); /* as the account that goes on with it */
    r.loop = loop_new();
    event_init(&r.stop, r.loop);
    rc = loop_signal(r.loop, SIGTERM, on_signal, &r, err);
    if (rc == 0)
        rc = loop_signal(r.loop, SIGINT, on_signal, &r, err);
    if (rc == 0 && (rc = fiber_spawn(r.loop, "davitd", serve, &r, NULL)) == 0) {
        loop_run(r.loop);
        rc = r.rc;
        if (rc < 0)
            *err = r.err;
    }
    (void)loop_signal(r.loop, SIGTERM, NULL, NULL, NULL);
    (void)loop_signal(r.loop, SIGINT, NULL, NULL, NULL);
    r.loop = loop_free(r.loop);
    return rc;
}

/* FILE is opened before the privileges go: it is its owner's. */
static int restore(const struct options *o, struct err *err)
{
    AUTO_FREE char *kept = NULL;
    AUTO_FD int fd = open(o->restore, O_RDONLY | O_CLOEXEC);
    const uid_t by = getuid();
    int rc = fd < 0 ? err_sys(err, errno, "cannot open %s", o->restore) : 0;
    (void)umask(077);
    if (rc == 0 && o->user && geteuid() == 0)
        rc = priv_drop(o->user, err);
    if (rc == 0)
        rc = control_restore(o->state_dir, o->store, fd, by, &kept, err);
    if (rc == 0 && *kept)
        (void)printf("%s\n", kept);
    return rc;
}

static int check(const struct options *o, size_t operands, struct err *err)
{
    if (operands || o->monitor)
        return err_set(err, ERR_INVALID, "this program takes options only");
    if (!o->state_dir || !*o->state_dir) {
        (void)err_set(err, ERR_INVALID, "--state-dir is missing");
        err_hint(err, "davit up starts this program with all that it needs");
        return -(int)ERR_INVALID;
    }
    if (o->offline_after < 2 * o->heartbeat_interval)
        return err_set(err, ERR_INVALID, "--offline-after must be at least twice --heartbeat-interval");
    const struct control_options control = control_options_of(o);
    return control_check_options(&control, err);
}

int main(int argc, char **argv)
{
    struct options o;
    struct err err = ERR_INIT;
    enum log_level level = LOG_INFO;
    const char *operands[1];
    size_t n_operands = 1;
    if (argc > 1 && strcmp(argv[1], MONITOR_OPTION) == 0)
        return monitor_main(argc - 2, argv + 2);
    int rc = opt_parse(table, argc, argv, &o, operands, &n_operands, &err);
    if (rc == 1) {
        opt_help(stdout, "davitd --state-dir DIR [OPTIONS]", "The control plane of Davit. davit up starts it.", table,
                 "davitd --state-dir /var/lib/davit --advertise cp.example.com");
        return 0;
    }
    if (rc == 0 && o.version) {
        (void)printf("davitd %s\n", DAVIT_VERSION);
        return 0;
    }
    if (rc == 0)
        rc = check(&o, n_operands, &err);
    if (rc == 0)
        rc = log_level_from_name(o.log_level, &level);
    if (rc == 0 && o.restore && (rc = restore(&o, &err)) == 0)
        return 0;
    if (rc < 0) {
        (void)fprintf(stderr, "davitd: %s\n", err.msg);
        if (err.hint[0])
            (void)fprintf(stderr, "hint: %s\n", err.hint);
        return err_exit_status(o.restore ? err.code : ERR_INVALID);
    }
    log_setup("davitd", level, str_eq(str_from(o.log_format), STR("json")) ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT);
    rc = run(&o, &err);
    if (rc < 0)
        log_err(LOG_ERROR, &err, "the control plane cannot run", NULL);
    return rc < 0 ? err_exit_status(err.code) : 0;
}
