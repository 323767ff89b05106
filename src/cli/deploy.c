/* SPDX-License-Identifier: Apache-2.0 */
/* deploy — one service from flags, or all of a davit.yaml in file order; follows each deployment step by step until it ends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/secret.h"
#include "cli/follow.h"
#include "cli/manifest.h"
#include "cli/out.h"
#include "davit/control/v1/workloads.davit.h"
#include "davit/control/v1/workloads.pb-c.h"
#include "spec/spec.h"

enum { PASSWORD_MAX = 4096 };
static const usec_t CALL_TIMEOUT = 30 * USEC_SEC;

struct deploy_options {
    struct cli_common common;
    const char *file, *project, *name, *server, *health, *health_path, *restart, *pull;
    const char *registry_user, *registry_password_file;
    struct opt_list env, env_file, ports, volumes, binds, cap_add, allow, routes;
    uint64_t cpus_milli, memory;
    int64_t pids, replicas;
    usec_t health_interval, health_timeout, health_grace, timeout;
    int64_t health_retries;
    bool read_only, detach, force;
};

#define AT(field) offsetof(struct deploy_options, field)
static const struct opt deploy_opts[] = {
    {.name = "file", .letter = 'f', .type = OPT_STRING, .offset = AT(file), .arg = "PATH",
     .help = "deploy the services of this davit.yaml"},
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .arg = "NAME", .def = "default",
     .help = "project; its services share a network", .env = true},
    {.name = "name", .letter = 'n', .type = OPT_STRING, .offset = AT(name), .arg = "NAME",
     .help = "service; by default from the image's name"},
    {.name = "server", .letter = 's', .type = OPT_STRING, .offset = AT(server), .arg = "SERVER",
     .help = "where it runs; not needed with one server",
     .env = true},
    {.name = "env", .letter = 'e', .type = OPT_LIST, .offset = AT(env), .arg = "NAME=VALUE", .help = "environment variable"},
    {.name = "env-file", .type = OPT_LIST, .offset = AT(env_file), .arg = "PATH", .help = "file of NAME=VALUE lines"},
    {.name = "publish", .type = OPT_LIST, .offset = AT(ports), .arg = "HOST:CONTAINER",
     .help = "publish a port, on loopback unless an address is given"},
    {.name = "volume", .letter = 'v', .type = OPT_LIST, .offset = AT(volumes), .arg = "NAME:/PATH",
     .help = "named volume; :ro for read only"},
    {.name = "route", .type = OPT_LIST, .offset = AT(routes), .arg = "HOST[:PORT]",
     .help = "hostname that leads to it, at this port of its containers"},
    {.name = "replicas", .type = OPT_INT, .offset = AT(replicas), .min = 1, .max = SPEC_REPLICAS_MAX, .arg = "N",
     .help = "how many containers (as many as there are, or 1)"},
    {.name = "cpus", .type = OPT_MILLI, .offset = AT(cpus_milli), .max = 1024000, .arg = "N",
     .help = "limit in cores, for example 0.5"},
    {.name = "memory", .letter = 'm', .type = OPT_BYTES, .offset = AT(memory), .max = (int64_t)1 << 50, .arg = "SIZE",
     .help = "limit, for example 128m"},
    {.name = "pids", .type = OPT_INT, .offset = AT(pids), .max = 4194304, .arg = "N", .help = "limit of processes (512)"},
    {.name = "health", .type = OPT_STRING, .offset = AT(health), .arg = "CHECK",
     .help = "/path, 8080/path, tcp, tcp:8080, docker or none (/health with a route)"},
    {.name = "health-path", .type = OPT_STRING, .offset = AT(health_path), .arg = "PATH", .help = "as --health PATH; '' skips the check"},
    {.name = "health-interval", .type = OPT_USEC, .offset = AT(health_interval), .min = 100000, .max = 300000000, .arg = "TIME",
     .help = "between checks (10s)"},
    {.name = "health-timeout", .type = OPT_USEC, .offset = AT(health_timeout), .min = 100000, .max = 60000000, .arg = "TIME",
     .help = "of one check (5s)"},
    {.name = "health-retries", .type = OPT_INT, .offset = AT(health_retries), .min = 1, .max = 100, .arg = "N",
     .help = "failures until it counts as failed (3)"},
    {.name = "health-grace", .type = OPT_USEC, .offset = AT(health_grace), .min = 1000, .max = 1800000000, .arg = "TIME",
     .help = "failures do not count before (30s; 2s without a check)"},
    {.name = "restart", .type = OPT_ENUM, .offset = AT(restart), .choices = "no|on-failure|always|unless-stopped", .arg = "POLICY",
     .help = "when it ends by itself (unless-stopped)"},
    {.name = "pull", .type = OPT_ENUM, .offset = AT(pull), .choices = "missing|always|never", .arg = "WHEN",
     .help = "pull the image (missing)"},
    {.name = "cap-add", .type = OPT_LIST, .offset = AT(cap_add), .arg = "CAP", .help = "capability beyond the default list"},
    {.name = "bind", .type = OPT_LIST, .offset = AT(binds), .arg = "/SOURCE:/PATH",
     .help = "folder of the server, where its owner allows it; :ro for read only"},
    {.name = "allow", .type = OPT_LIST, .offset = AT(allow), .arg = "RIGHT",
     .help = "right beyond the default, for example device:/dev/ttyUSB0"},
    {.name = "read-only", .type = OPT_BOOL, .offset = AT(read_only), .help = "read-only root file system"},
    {.name = "registry-user", .type = OPT_STRING, .offset = AT(registry_user), .arg = "NAME",
     .help = "for an image behind a login"},
    {.name = "registry-password-file", .type = OPT_STRING, .offset = AT(registry_password_file), .arg = "PATH",
     .help = "its password; - is standard input"},
    {.name = "detach", .letter = 'd', .type = OPT_BOOL, .offset = AT(detach), .help = "do not wait for the outcome"},
    {.name = "force", .type = OPT_BOOL, .offset = AT(force), .help = "deploy again although nothing changed"},
    {.name = "timeout", .type = OPT_USEC, .offset = AT(timeout), .min = 1000000, .max = 86400000000, .arg = "TIME", .def = "15m",
     .help = "how long to follow one deployment"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

/* "registry:5000/team/web-app:1.2@sha256:..." -> "web-app"; characters that a label lacks become '-'. */
static char *name_of_image(const char *image)
{
    struct str rest = str_from(image);
    struct str s = str_cut(&rest, '@');
    char *name;

    for (struct str tail = s; tail.n > 0;) {
        s = str_cut(&tail, '/');
        if (tail.n == 0)
            break;
    }
    s = str_cut(&s, ':');
    name = str_dup(s);
    for (char *p = name; *p; p++)
        if ((*p < 'a' || *p > 'z') && (*p < '0' || *p > '9'))
            *p = '-';
    return name;
}

/* NAME=VALUE lines; blank ones and those that start with # do not count. */
static int env_file(Davit__Common__V1__ServiceSpec *spec, const char *path, struct err *err)
{
    AUTO_BUF text = BUF_INIT(MANIFEST_MAX);
    struct str rest;
    int rc = fd_read_file(path, &text, err);

    for (rest = buf_str(&text); rc == 0 && rest.n > 0;) {
        struct str line = str_cut(&rest, '\n');
        if (line.n > 0 && line.p[line.n - 1] == '\r')
            line.n--;
        if (str_trim(line).n == 0 || line.p[0] == '#')
            continue;
        if ((rc = spec_add_env(spec, line, err)) < 0)
            (void)err_wrap(err, "%s", path);
    }
    return rc;
}

static int add_lists(Davit__Common__V1__ServiceSpec *spec, const struct deploy_options *o, struct err *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < o->env_file.n; i++)
        rc = env_file(spec, o->env_file.v[i], err);
    for (size_t i = 0; rc == 0 && i < o->env.n; i++)
        rc = spec_add_env(spec, str_from(o->env.v[i]), err);
    for (size_t i = 0; rc == 0 && i < o->ports.n; i++)
        rc = spec_add_port(spec, str_from(o->ports.v[i]), err);
    for (size_t i = 0; rc == 0 && i < o->volumes.n; i++)
        rc = spec_add_volume(spec, str_from(o->volumes.v[i]), err);
    for (size_t i = 0; rc == 0 && i < o->binds.n; i++)
        rc = spec_add_bind(spec, str_from(o->binds.v[i]), err);
    for (size_t i = 0; rc == 0 && i < o->allow.n; i++)
        rc = spec_add_right(spec, str_from(o->allow.v[i]), err);
    for (size_t i = 0; rc == 0 && i < o->routes.n; i++)
        rc = spec_add_route(spec, str_from(o->routes.v[i]), err);
    if (rc == 0 && o->cap_add.n > 0) {
        spec->cap_add = calloc(o->cap_add.n, sizeof(char *));
        BUG_ON(!spec->cap_add);
        for (; spec->n_cap_add < o->cap_add.n; spec->n_cap_add++)
            spec->cap_add[spec->n_cap_add] = str_dup(str_from(o->cap_add.v[spec->n_cap_add]));
    }
    return rc;
}

static void add_health_times(Davit__Common__V1__HealthCheck *h, const struct deploy_options *o)
{
    h->interval_ms = (uint32_t)(o->health_interval / USEC_MSEC);
    h->timeout_ms = (uint32_t)(o->health_timeout / USEC_MSEC);
    h->grace_ms = (uint32_t)(o->health_grace / USEC_MSEC);
    h->retries = (uint32_t)o->health_retries;
}

static int spec_from_flags(Davit__Common__V1__ServiceSpec *spec, const struct deploy_options *o, const char **operands, size_t n, struct err *err)
{
    AUTO_FREE char *name = o->name ? str_dup(str_from(o->name)) : name_of_image(operands[0]);
    const char *health = o->health ? o->health : o->health_path;
    int rc = add_lists(spec, o, err);

    spec_set_text(&spec->project, str_from(o->project));
    spec_set_text(&spec->name, str_from(name));
    spec_set_text(&spec->image, str_from(operands[0]));
    if (o->restart)
        spec_set_text(&spec->restart, str_from(o->restart));
    if (o->pull)
        spec_set_text(&spec->pull, str_from(o->pull));
    spec->cpu_milli = o->cpus_milli;
    spec->memory_bytes = o->memory;
    spec->pids_limit = (uint32_t)o->pids;
    spec->read_only = o->read_only;
    spec->replicas = (uint32_t)o->replicas;
    add_health_times(spec->health, o);
    if (rc == 0 && health)
        rc = spec_set_health(spec, str_from(health), err);
    spec_settle_health(spec, health);
    for (size_t i = 1; rc == 0 && i < n; i++)
        rc = spec_add_command(spec, str_from(operands[i]), err);
    return rc;
}

static int read_password(const char *path, struct secret **ret, struct err *err)
{
    AUTO_BUF text = BUF_INIT(PASSWORD_MAX);
    struct str s, line;
    int rc = fd_read_file(strcmp(path, "-") == 0 ? "/dev/stdin" : path, &text, err);

    if (rc < 0)
        return rc;
    s = buf_str(&text);
    line = str_cut(&s, '\n');
    *ret = secret_new(line);
    explicit_bzero(text.data, text.len);
    return 0;
}

/* Host part of an image reference, as registries are told apart: it has a '.' or ':' or is "localhost". */
static struct str registry_of(const char *image)
{
    struct str rest = str_from(image);
    struct str head = str_cut(&rest, '/');

    if (rest.n > 0 && (memchr(head.p, '.', head.n) || memchr(head.p, ':', head.n) || str_eq(head, STR("localhost"))))
        return head;
    return STR("");
}

struct deploy {
    struct cli *cli;
    const struct deploy_options *o;
    const char *server;
    struct secret *password;
    struct str registry; /* that the login is for; "": of whatever image it is */
};

/* Where it is reached by name. */
static void show_routes(const struct cli *cli, const Davit__Common__V1__ServiceSpec *spec)
{
    for (size_t i = 0; !cli->json && i < spec->n_routes; i++) {
        AUTO_FREE char *host = out_clean(str_from(spec->routes[i]->hostname));
        printf("  http://%s/\n", host);
    }
    (void)fflush(stdout);
}

/* Sends one spec and follows it. 0; 1: it failed and the user was told. */
static int deploy_one(struct deploy *d, Davit__Common__V1__ServiceSpec *spec, struct err *err)
{
    Davit__Control__V1__DeployRequest req = DAVIT__CONTROL__V1__DEPLOY_REQUEST__INIT;
    Davit__Common__V1__RegistryAuth auth = DAVIT__COMMON__V1__REGISTRY_AUTH__INIT;
    AUTO_FREE char *registry = str_dup(registry_of(spec->image));
    ProtobufCMessage *message = NULL;
    char request_id[37];
    int rc;

    rng_uuid(request_id);
    req.spec = spec;
    req.server = (char *)(uintptr_t)(d->server ? d->server : "");
    req.request_id = request_id;
    req.if_changed = !d->o->force;
    if (d->password && (!d->registry.n || str_eq(registry_of(spec->image), d->registry))) {
        auth.server = registry;
        auth.username = (char *)(uintptr_t)d->o->registry_user;
        auth.password = (char *)(uintptr_t)secret_reveal(d->password).p;
        req.registry_auth = &auth;
    }
    rc = cli_call(d->cli, &davit_control_v1_workload_service, "Deploy", &req.base, CALL_TIMEOUT, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__DeployResponse *r = (const void *)message;
    if (r->unchanged || d->o->detach)
        rc = follow_skip(d->cli, spec, r, d->o->detach, err);
    else
        rc = follow_deployment(d->cli, spec, r, deadline_in(d->o->timeout), err);
    if (rc == 0)
        show_routes(d->cli, spec);
    rpc_message_free(message);
    return rc;
}

/* A login is for one registry, and no other may see it: the one that images of the file name. Those that name none come from elsewhere then. */
static int choose_registry(struct deploy *d, const struct manifest *m, struct err *err)
{
    for (size_t i = 0; d->password && i < m->n; i++) {
        struct str registry = registry_of(m->services[i]->image);
        if (d->registry.n > 0 && registry.n > 0 && !str_eq(registry, d->registry)) {
            (void)err_set(err, ERR_INVALID, "%s names more than one registry, and the login is for one", d->o->file);
            err_hint(err, "deploy the services of each registry from a file of their own");
            return -ERR_INVALID;
        }
        if (registry.n > 0)
            d->registry = registry;
    }
    return 0;
}

static int deploy_file(struct deploy *d, struct err *err)
{
    struct manifest m;
    int rc = manifest_load(d->o->file, &m, err);

    if (rc < 0)
        return rc;
    if (!d->server)
        d->server = m.server;
    rc = choose_registry(d, &m, err);
    for (size_t i = 0; rc == 0 && i < m.n; i++)
        rc = deploy_one(d, m.services[i], err);
    manifest_release(&m);
    return rc;
}

static int deploy_flags(struct deploy *d, const char **operands, size_t n, struct err *err)
{
    Davit__Common__V1__ServiceSpec *spec = spec_new();
    int rc = spec_from_flags(spec, d->o, operands, n, err);

    if (rc == 0)
        rc = deploy_one(d, spec, err);
    rpc_message_free(spec);
    return rc;
}

/* Was anything given that --file would pass over in silence? */
static bool describes(const struct deploy_options *o)
{
    bool health = o->health || o->health_path || o->health_interval || o->health_timeout || o->health_grace || o->health_retries;
    bool lists = o->env.n || o->env_file.n || o->ports.n || o->volumes.n || o->binds.n || o->cap_add.n || o->allow.n || o->routes.n;

    return o->name || health || lists || o->replicas || o->restart || o->pull || o->cpus_milli || o->memory || o->pids || o->read_only;
}

static int check_operands(const struct deploy_options *o, size_t n, struct err *err)
{
    if (!o->file == (n == 0)) {
        (void)err_set(err, ERR_INVALID, o->file ? "give either --file or an image, not both" : "what shall be deployed?");
        err_hint(err, "davit deploy IMAGE, or davit deploy --file davit.yaml");
        return -ERR_INVALID;
    }
    if (o->file && describes(o)) {
        (void)err_set(err, ERR_INVALID, "with --file each service is described in the file, not by flags");
        err_hint(err, "beside --file go --server, --force, --detach, --timeout and the registry login");
        return -ERR_INVALID;
    }
    if (o->health && o->health_path)
        return err_set(err, ERR_INVALID, "--health and --health-path say the same: give one of them");
    if (!o->registry_user != !o->registry_password_file)
        return err_set(err, ERR_INVALID, "--registry-user and --registry-password-file belong together");
    return 0;
}

static int run_deploy(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    struct deploy d = {.cli = cli, .o = options};
    int rc = check_operands(d.o, n, err);

    d.server = d.o->server;
    if (rc == 0 && d.o->registry_password_file)
        rc = read_password(d.o->registry_password_file, &d.password, err);
    if (rc == 0)
        rc = d.o->file ? deploy_file(&d, err) : deploy_flags(&d, operands, n, err);
    d.password = secret_free(d.password);
    return rc;
}

const struct verb verb_deploy = {
    .name = "deploy",
    .group = "Services",
    .usage = "[OPTIONS] IMAGE [[--] COMMAND...]",
    .about = "run a service, or replace the one of that name",
    .example = "davit deploy --name web --publish 8080:80 --health / nginx:1.25\n"
               "davit deploy --name clock alpine:3 -- sh -c 'while date; do sleep 60; done'\n"
               "davit deploy --name shop --route shop.example.com:8080 --replicas 2 shop:1\n"
               "davit deploy --file davit.yaml",
    .opts = deploy_opts,
    .opts_size = sizeof(struct deploy_options),
    .max_operands = 64,
    .run = run_deploy,
};
