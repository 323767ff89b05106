/* SPDX-License-Identifier: Apache-2.0 */
/* davit-agent — the program on each server: verbs, options, exit status. What it does is in host/link and host/work. */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/logfile.h"
#include "base/mem.h"
#include "base/opt.h"
#include "host/link/agent.h"
#include "host/link/doctor.h"
#include "host/link/enroll.h"
#include "host/link/policy.h"
#include "host/link/slots.h"
#include "host/link/update.h"
#include "host/work/pools.h"

/* For the program that this one makes place for. */
static char **program_argv;

enum { EXIT_NOT_ONLINE = 5, HEALTH_TEXT_MAX = 64 * 1024 };

/* A verb that waits runs on a fiber; this is its record. */
struct verb_run {
    struct loop *loop;
    const void *options;
    struct err err;
    int rc;
};

struct verb {
    const char *name, *usage, *about, *example;
    const struct opt *opts;
    /* Negative with @err, or the exit status. */
    int (*run)(const void *options, struct err *err);
};

#define CONFIG_DIR(record)                                                                                                           \
    {.name = "config-dir", .type = OPT_STRING, .offset = offsetof(record, config_dir), .arg = "DIR", .env = true,                     \
     .help = "where configuration and keys are (default: /etc/davit-agent for root, else ~/.davit-agent)"}
#define DOCKER(record)                                                                                                               \
    {.name = "docker", .type = OPT_STRING, .offset = offsetof(record, docker), .arg = "ADDR", .env = true,                            \
     .help = "socket of the Docker Engine, unix:/PATH (default: $DOCKER_HOST, else /var/run/docker.sock)"}
#define TAILSCALE(record)                                                                                                            \
    {.name = "tailscale", .type = OPT_STRING, .offset = offsetof(record, tailscale), .arg = "PATH", .env = true,                      \
     .help = "the tailscale program (default: in /usr/bin, /usr/sbin or /usr/local/bin)"}

#define INGRESS(record)                                                                                                              \
    {.name = "ingress-listen", .type = OPT_STRING, .offset = offsetof(record, ingress_listen), .arg = "ADDR:PORT", .env = true,       \
     .help = "where services are reached by hostname (" AGENT_INGRESS_ENROLLED "; " AGENT_INGRESS_LOCAL " with the control plane here); none"},  \
    {.name = "ingress-image", .type = OPT_STRING, .offset = offsetof(record, ingress_image), .arg = "REF", .env = true,               \
     .help = "HAProxy, 2.4 or later (" AGENT_INGRESS_IMAGE ")"}

/* --- enroll ---- */

struct enroll_opts {
    const char *server, *token, *token_file, *mode, *tunnel_ca, *config_dir, *public_ip_url, *docker, *tailscale, *ingress_listen, *ingress_image;
    bool force;
};

static const struct opt enroll_table[] = {
    {.name = "server", .letter = 's', .type = OPT_STRING, .offset = offsetof(struct enroll_opts, server), .arg = "HOST:PORT", .env = true,
     .help = "address of the control plane's link port; in tunnel mode https://HOST, where a proxy leads to its port 7440"},
    {.name = "token", .letter = 't', .type = OPT_STRING, .offset = offsetof(struct enroll_opts, token), .arg = "TOKEN", .env = true,
     .help = "the join token (lists of processes may show it: better by --token-file - or DAVIT_TOKEN)"},
    {.name = "token-file", .type = OPT_STRING, .offset = offsetof(struct enroll_opts, token_file), .arg = "PATH",
     .help = "file with the join token; - reads standard input"},
    {.name = "mode", .type = OPT_ENUM, .offset = offsetof(struct enroll_opts, mode), .choices = "direct|tunnel", .arg = "MODE", .def = "direct",
     .help = "direct: this server reaches the control plane's address; tunnel: only a proxy before it, which ends TLS"},
    {.name = "tunnel-ca", .type = OPT_STRING, .offset = offsetof(struct enroll_opts, tunnel_ca), .arg = "FILE",
     .help = "tunnel mode: the roots that the proxy's certificate is checked by (default: the system's)"},
    CONFIG_DIR(struct enroll_opts),
    {.name = "public-ip-url", .type = OPT_STRING, .offset = offsetof(struct enroll_opts, public_ip_url), .arg = "URL",
     .help = "ask this URL for the public address (nobody is asked without it)"},
    DOCKER(struct enroll_opts),
    TAILSCALE(struct enroll_opts),
    INGRESS(struct enroll_opts),
    {.name = "force", .type = OPT_BOOL, .offset = offsetof(struct enroll_opts, force), .help = "replace the enrolment that is there"},
    {0},
};

static int enroll_with(struct loop *loop, const struct enroll_opts *o, struct agent_config *c, const struct join_token *token, struct err *err)
{
    struct enroll_options options = {.server = o->server,
                                     .mode = o->mode,
                                     .tunnel_ca = o->tunnel_ca,
                                     .public_ip_url = o->public_ip_url,
                                     .tailscale = o->tailscale,
                                     .ingress_listen = o->ingress_listen,
                                     .ingress_image = o->ingress_image,
                                     .force = o->force};
    int rc = agent_check_ingress_listen(o->ingress_listen, err);
    if (rc == 0)
        rc = docker_new(loop, o->docker, &options.docker, err);
    if (rc == 0)
        rc = enroll(loop, c, &options, token, err);
    (void)docker_free(options.docker);
    return rc;
}

static void enroll_main(void *arg)
{
    struct verb_run *run = arg;
    const struct enroll_opts *o = run->options;
    struct agent_config c = {0};
    struct join_token token = {0};
    run->rc = enroll_read_token(o->token, o->token_file, &token, &run->err);
    if (o->token) /* the command line of this process forgets it */
        explicit_bzero((char *)(uintptr_t)o->token, strlen(o->token));
    if (run->rc == 0)
        run->rc = agent_config_init(&c, o->config_dir, &run->err);
    if (run->rc == 0)
        run->rc = enroll_with(run->loop, o, &c, &token, &run->err);
    if (run->rc == 0)
        printf("enrolled as server %s (%s)\nkeys and configuration: %s\nnext: davit-agent run%s%s\n", c.server_name, c.server_id, c.dir,
               o->config_dir ? " --config-dir " : "", o->config_dir ? o->config_dir : "");
    join_token_release(&token);
    agent_config_release(&c);
    loop_stop(run->loop);
}

static void cancel(int signum, void *arg)
{
    (void)signum;
    fiber_cancel(arg);
}

/* Runs @fn on a fiber of a loop of its own. */
static int on_fiber(void (*fn)(void *arg), const void *options, struct err *err)
{
    struct verb_run run = {.loop = loop_new(), .options = options, .err = ERR_INIT};
    struct fiber *fiber = NULL;
    int rc = fiber_spawn(run.loop, "verb", fn, &run, &fiber);
    if (rc == 0)
        rc = loop_signal(run.loop, SIGINT, cancel, fiber, err);
    if (rc == 0)
        loop_run(run.loop);
    (void)loop_signal(run.loop, SIGINT, NULL, NULL, NULL);
    (void)fiber_unref(fiber);
    (void)loop_free(run.loop);
    if (rc == 0 && run.rc < 0)
        *err = run.err;
    return rc < 0 ? rc : run.rc;
}

static int run_enroll(const void *options, struct err *err)
{
    return on_fiber(enroll_main, options, err);
}

/* --- run ---- */

struct run_opts {
    const char *config_dir, *link, *health_listen, *docker, *tailscale, *ingress_listen, *ingress_image, *runtime_dir, *self, *policy, *log_level,
        *log_format;
    struct opt_list pools, places;
    int64_t owner;
    uint64_t disk_reserve;
    usec_t trial_wait;
    struct logfile_options log;
    bool takeover, with_control_plane;
};

static const struct opt run_table[] = {
    CONFIG_DIR(struct run_opts),
    {.name = "link", .type = OPT_STRING, .offset = offsetof(struct run_opts, link), .arg = "unix:PATH",
     .help = "socket of the control plane on this machine, instead of an enrolment"},
    {.name = "health-listen", .type = OPT_STRING, .offset = offsetof(struct run_opts, health_listen), .arg = "ADDR", .env = true,
     .help = "serve /healthz on this loopback address too, e.g. 127.0.0.1:7080"},
    DOCKER(struct run_opts),
    TAILSCALE(struct run_opts),
    INGRESS(struct run_opts),
    {.name = "runtime-dir", .type = OPT_STRING, .offset = offsetof(struct run_opts, runtime_dir), .arg = "DIR", .env = true,
     .help = "where davit-init and davit-session for sandboxes are (default: beside this program)"},
    {.name = "self", .type = OPT_STRING, .offset = offsetof(struct run_opts, self), .arg = "CONTAINER",
     .help = "the container that this program runs in: it then looks after sandboxes only, and joins their networks"},
    {.name = "policy", .type = OPT_STRING, .offset = offsetof(struct run_opts, policy), .arg = "FILE",
     .help = "what the owner of this machine forbids (default: policy.yaml in the configuration directory)"},
    {.name = "place", .type = OPT_LIST, .offset = offsetof(struct run_opts, places), .arg = "PATH",
     .help = "of this machine, and never mounted anywhere: Davit's own, which this program cannot see from a container; may be repeated"},
    {.name = "owner", .type = OPT_INT, .offset = offsetof(struct run_opts, owner), .min = -1, .max = 4294967294, .arg = "UID", .def = "-1",
     .help = "whose the policy may be, beside root and this program's own account (-1: nobody's)"},
    {.name = "log-level", .type = OPT_ENUM, .offset = offsetof(struct run_opts, log_level), .choices = "error|warn|notice|info|debug",
     .arg = "LEVEL", .def = "info", .help = "the least important lines that are logged", .env = true},
    {.name = "trial-wait", .type = OPT_USEC, .offset = offsetof(struct run_opts, trial_wait), .arg = "TIME", .def = "3m", .env = true,
     .min = (int64_t)UPDATE_TRIAL_MIN, .max = (int64_t)UPDATE_TRIAL_MAX, .help = "how long a new version may take to prove itself in an update"},
    {.name = "address-pool", .type = OPT_LIST, .offset = offsetof(struct run_opts, pools), .arg = "NET/BITS/SIZE",
     .help = "where networks of projects and the ingress get their addresses from (default: " POOL_DEFAULT "); may be repeated"},
    {.name = "disk-reserve", .type = OPT_BYTES, .offset = offsetof(struct run_opts, disk_reserve), .max = (int64_t)1 << 50, .arg = "SIZE",
     .env = true, .help = "no deployment while less of Docker's disk is free (default: 1 GiB or 3 %, at most 8 GiB)"},
    {.name = "with-control-plane", .type = OPT_BOOL, .offset = offsetof(struct run_opts, with_control_plane),
     .help = "end when the control plane on this machine ends because nothing is to do"},
    {.name = "takeover", .type = OPT_BOOL, .offset = offsetof(struct run_opts, takeover), .help = "for the agent itself: it is the new version"},
    {.name = "log-format", .type = OPT_ENUM, .offset = offsetof(struct run_opts, log_format), .choices = "text|json", .arg = "FORMAT",
     .def = "text", .help = "logfmt or JSON lines on standard error", .env = true},
    LOGFILE_OPTS(struct run_opts, log),
    {0},
};

static int check_health_listen(const char *addr, struct err *err)
{
    struct str a = str_from(addr);
    if (!addr || str_starts(a, STR("127.")) || str_starts(a, STR("[::1]:")))
        return 0;
    (void)err_set(err, ERR_INVALID, "health-listen: \"%s\" is no loopback address", addr);
    err_hint(err, "for example 127.0.0.1:7080; the socket health.sock in the configuration directory is always there");
    return -(int)ERR_INVALID;
}

/* A version that came to an end before it had proved itself is replaced by the one before it, which then is this process. */
static void go_back_if_failed(void)
{
    struct err err = ERR_INIT;
    char *path = NULL;
    int rc = slots_boot(NULL, &path, &err);
    if (rc < 0)
        log_err(LOG_ERROR, &err, "the version before this one cannot be restored", NULL);
    if (rc != 1)
        return;
    log_event(LOG_ERROR, "this version came to an end before it had proved itself; the one before it is restored", "version", DAVIT_VERSION, NULL);
    program_argv[0] = path;
    (void)execv(path, program_argv);
    (void)err_sys(&err, errno, "cannot start %s", path);
    log_err(LOG_ERROR, &err, "the version before this one does not start", NULL);
    _exit(1);
}

static int read_pools(const struct opt_list *list, struct pool pools[POOLS_MAX], struct err *err)
{
    int rc = 0;
    if (list->n > POOLS_MAX)
        return err_set(err, ERR_INVALID, "more than %d address pools", POOLS_MAX);
    for (size_t i = 0; rc == 0 && i < list->n; i++)
        rc = pool_parse(str_from(list->v[i]), &pools[i], err);
    return rc;
}

static int run_run(const void *options, struct err *err)
{
    const struct run_opts *o = options;
    struct pool pools[POOLS_MAX];
    enum log_level level = LOG_INFO;
    struct agent_options agent = {.config_dir = o->config_dir,
                                  .link = o->link,
                                  .health_listen = o->health_listen,
                                  .docker = o->docker,
                                  .tailscale = o->tailscale,
                                  .ingress_listen = o->ingress_listen,
                                  .runtime_dir = o->runtime_dir,
                                  .ingress_image = o->ingress_image,
                                  .self = o->self,
                                  .places = o->places.v,
                                  .n_places = o->places.n,
                                  .policy = o->policy,
                                  .trial_wait = o->trial_wait,
                                  .disk_reserve = o->disk_reserve,
                                  .pools = pools,
                                  .n_pools = o->pools.n,
                                  .with_control_plane = o->with_control_plane,
                                  .takeover = o->takeover};
    int rc = check_health_listen(o->health_listen, err);
    if (rc == 0)
        rc = read_pools(&o->pools, pools, err);
    if (rc == 0)
        rc = agent_check_ingress_listen(o->ingress_listen, err);
    if (rc == 0)
        rc = log_level_from_name(o->log_level, &level);
    if (rc < 0)
        return rc;
    if (o->owner >= 0)
        policy_believe_owner((uid_t)o->owner);
    log_setup("davit-agent", level, str_eq(str_from(o->log_format), STR("json")) ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT);
    log_use_options(&o->log);
    if (!o->takeover)
        go_back_if_failed();
    return agent_run(&agent, err);
}

/* --- status ---- */

struct status_opts {
    const char *config_dir;
    bool json;
};

static const struct opt status_table[] = {
    CONFIG_DIR(struct status_opts),
    {.name = "json", .type = OPT_BOOL, .offset = offsetof(struct status_opts, json), .help = "print the whole answer as JSON"},
    {0},
};

/* What a peer said is shown, not obeyed by the terminal: control characters, C1 included, and what is not UTF-8 become "?". */
static void print_clean(FILE *out, struct str s)
{
    while (s.n > 0) {
        size_t n = str_utf8_len(s);
        const unsigned char *p = (const unsigned char *)s.p;
        bool harmless = n > 1 ? !(n == 2 && p[0] == 0xc2 && p[1] < 0xa0) : n == 1 && p[0] >= 0x20 && p[0] != 0x7f;
        if (harmless)
            (void)fwrite(s.p, 1, n, out);
        else
            (void)fputc('?', out);
        n = n ? n : 1;
        s = (struct str){s.p + n, s.n - n};
    }
}

/* One line per value that is there; numbers and texts only. */
static int print_health(struct str text, struct err *err)
{
    AUTO_JSON j = {0};
    struct str key, raw;
    json_init(&j, text);
    int rc = json_enter(&j, JSON_OBJECT, err);
    while (rc >= 0 && (rc = json_key(&j, &key, err)) == 1) {
        AUTO_FREE char *name = str_dup(key);
        rc = json_read_raw(&j, &raw, err);
        if (rc < 0 || str_eq(raw, STR("null")))
            continue;
        AUTO_JSON value = {0};
        enum json_type type;
        json_init(&value, raw);
        if ((rc = json_next(&value, &type, err)) == 0) {
            printf("%-22s ", name); /* credential_generation */
            print_clean(stdout, type == JSON_BOOL ? str_from(value.boolean ? "yes" : "no") : value.value);
            (void)fputc('\n', stdout);
        }
    }
    return rc;
}

static void status_main(void *arg)
{
    struct verb_run *run = arg;
    const struct status_opts *o = run->options;
    AUTO_BUF out = BUF_INIT(HEALTH_TEXT_MAX);
    bool online = false;
    run->rc = agent_ask_health(run->loop, o->config_dir, &out, &online, &run->err);
    if (run->rc == 0 && o->json)
        printf("%s", buf_cstr(&out));
    else if (run->rc == 0)
        run->rc = print_health(buf_str(&out), &run->err);
    if (run->rc == 0 && !online)
        run->rc = EXIT_NOT_ONLINE;
    loop_stop(run->loop);
}

static int run_status(const void *options, struct err *err)
{
    return on_fiber(status_main, options, err);
}

/* --- doctor ---- */

struct doctor_opts {
    const char *config_dir, *link, *docker, *tailscale;
    bool json, quiet;
};

static const struct opt doctor_table[] = {
    {.name = "json", .type = OPT_BOOL, .offset = offsetof(struct doctor_opts, json), .help = "print the report as JSON"},
    {.name = "quiet", .letter = 'q', .type = OPT_BOOL, .offset = offsetof(struct doctor_opts, quiet),
     .help = "print nothing; the exit status tells"},
    CONFIG_DIR(struct doctor_opts),
    {.name = "link", .type = OPT_STRING, .offset = offsetof(struct doctor_opts, link), .arg = "unix:PATH",
     .help = "socket of the control plane on this machine, instead of an enrolment"},
    DOCKER(struct doctor_opts),
    TAILSCALE(struct doctor_opts),
    {0},
};

static bool colour_wanted(void)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(STDOUT_FILENO) && !(no && *no) && !(term && str_eq(str_from(term), STR("dumb")));
}

static int print_report(const struct doctor_opts *o, const struct doctor_report *r, struct err *err)
{
    AUTO_BUF out = BUF_INIT(HEALTH_TEXT_MAX);
    int rc = 0;
    if (o->quiet)
        return 0;
    if (o->json && (rc = doctor_json(r, &out, err)) == 0)
        (void)fwrite(out.data, 1, out.len, stdout);
    else if (!o->json)
        doctor_print(stdout, r, colour_wanted());
    return rc;
}

static void doctor_main(void *arg)
{
    struct verb_run *run = arg;
    const struct doctor_opts *o = run->options;
    AUTO_FREE struct doctor_report *report = NEW(struct doctor_report);
    struct doctor_options options = {.config_dir = o->config_dir, .link = o->link, .docker = o->docker, .tailscale = o->tailscale};
    run->rc = doctor_run(run->loop, &options, report, &run->err);
    if (run->rc == 0)
        run->rc = print_report(o, report, &run->err);
    if (run->rc == 0)
        run->rc = doctor_ok(report) ? 0 : 1;
    if (report->stuck) /* a thread that hangs in the kernel cannot be waited for */
        _exit(fflush(stdout) == 0 && run->rc == 0 ? 0 : 1);
    loop_stop(run->loop);
}

static int run_doctor(const void *options, struct err *err)
{
    return on_fiber(doctor_main, options, err);
}

/* --- selftest ---- */

struct selftest_opts {
    const char *config_dir, *docker;
};

static const struct opt selftest_table[] = {
    CONFIG_DIR(struct selftest_opts),
    DOCKER(struct selftest_opts),
    {0},
};

static int run_selftest(const void *options, struct err *err)
{
    const struct selftest_opts *o = options;
    const struct agent_options agent = {.config_dir = o->config_dir, .docker = o->docker};
    int rc = agent_selftest(&agent, err);
    if (rc == 0)
        printf("davit-agent %s selftest passed\n", DAVIT_VERSION);
    return rc;
}

/* --- policy ---- */

struct policy_opts {
    const char *config_dir;
};

static const struct opt policy_table[] = {CONFIG_DIR(struct policy_opts), {0}};

enum { OPERANDS_MAX = 2 };
static const char *operands[OPERANDS_MAX];
static size_t n_operands;

static int run_policy(const void *options, struct err *err)
{
    const struct policy_opts *o = options;
    struct agent_config c = {0};
    if (n_operands == 0 || !str_eq(str_from(operands[0]), STR("check"))) {
        (void)err_set(err, ERR_INVALID, "policy: say what to do with it");
        err_hint(err, "davit-agent policy check [FILE]");
        return -(int)ERR_INVALID;
    }
    int rc = agent_config_init(&c, o->config_dir, err);
    if (rc < 0)
        return rc;
    AUTO_FREE char *path = n_operands > 1 ? str_dup(str_from(operands[1])) : agent_config_path(&c, POLICY_FILE_NAME);
    agent_config_release(&c);
    return policy_report(stdout, path, n_operands > 1, err);
}

/* --- The verbs ---- */

static const struct opt no_options[] = {{0}};

static int run_version(const void *options, struct err *err)
{
    (void)options;
    (void)err;
    puts("davit-agent " DAVIT_VERSION);
    return 0;
}

static const struct verb verbs[] = {
    {"enroll", "--server HOST:PORT --token-file PATH", "Make this machine a server of a control plane.",
     "printf '%s\\n' TOKEN | davit-agent enroll --server cp.example.org:7442 --token-file -", enroll_table, run_enroll},
    {"run", "[OPTIONS]", "Keep the link to the control plane and do what it commands.", "davit-agent run", run_table, run_run},
    {"status", "[OPTIONS]", "Tell how the agent of this machine is: exit status 0 online, 5 not.", "davit-agent status --json", status_table,
     run_status},
    {"doctor", "[OPTIONS]", "Check this machine and say what to do: exit status 1 if a check is FAIL, else 0.", "davit-agent doctor --json",
     doctor_table, run_doctor},
    {"selftest", "[OPTIONS]", "Check that this program can be the agent here; an update asks that first.", "davit-agent selftest", selftest_table,
     run_selftest},
    {"policy", "check [FILE]", "Tell what the owner's policy of this machine allows: exit status 0 if the file can be believed.",
     "davit-agent policy check", policy_table, run_policy},
    {"version", "", "Print the version.", "davit-agent version", no_options, run_version},
};

static void print_overview(FILE *out)
{
    fputs("davit-agent runs on each server and does there what its control plane commands.\n\nusage: davit-agent VERB [OPTIONS]\n\n", out);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        fprintf(out, "  %-8s %s\n", verbs[i].name, verbs[i].about);
    fputs("\ndavit-agent VERB --help tells the options and an example.\n", out);
}

static int fail(const struct err *err)
{
    fputs("davit-agent: ", stderr);
    print_clean(stderr, str_from(*err->msg ? err->msg : err_code_name(err->code)));
    if (*err->hint) {
        fputs("\n  hint: ", stderr);
        print_clean(stderr, str_from(err->hint));
    }
    fputc('\n', stderr);
    return err_exit_status(err->code);
}

static int run_verb(const struct verb *v, int argc, char **argv)
{
    union {
        struct enroll_opts enroll;
        struct run_opts run;
        struct status_opts status;
        struct doctor_opts doctor;
        struct selftest_opts selftest;
    } options;
    AUTO_FREE char *usage = str_printf("davit-agent %s %s", v->name, v->usage);
    struct err err = ERR_INIT;
    n_operands = v->run == run_policy ? OPERANDS_MAX : 0;
    int rc = opt_parse(v->opts, argc, argv, &options, operands, &n_operands, &err);
    if (rc == 1) {
        opt_help(stdout, usage, v->about, v->opts, v->example);
        return 0;
    }
    if (rc == 0)
        rc = v->run(&options, &err);
    if (rc < 0) {
        (void)err_ensure(&err, rc);
        return fail(&err);
    }
    return fflush(stdout) == 0 ? rc : 1;
}

int main(int argc, char **argv)
{
    program_argv = argv;
    struct str name = str_from(argc > 1 ? argv[1] : NULL);
    struct err err = ERR_INIT;
    /* Files that are made carry the mode that is asked for and never more. */
    (void)umask(077);
    if (str_eq(name, STR("help")) || str_eq(name, STR("--help")) || str_eq(name, STR("-h"))) {
        print_overview(stdout);
        return fflush(stdout) == 0 ? 0 : 1;
    }
    if (str_eq(name, STR("--version")))
        name = STR("version");
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (str_eq(name, str_from(verbs[i].name)))
            return run_verb(&verbs[i], argc - 1, argv + 1);
    (void)err_set(&err, ERR_INVALID, name.n ? "there is no verb \"%.64s\"" : "a verb is missing%s", name.n ? name.p : "");
    err_hint(&err, "davit-agent help lists them");
    return fail(&err);
}
