/* SPDX-License-Identifier: Apache-2.0 */
/* ps — services and their containers on all servers; deployments — what was tried and how it ended. */
#include <stdio.h>

#include "cli/container.h"
#include "cli/names.h"
#include "cli/out.h"
#include "davit/control/v1/workloads.davit.h"
#include "davit/control/v1/workloads.pb-c.h"

static const usec_t CALL_TIMEOUT = 15 * USEC_SEC;

struct ps_options {
    struct cli_common common;
    const char *project, *server;
    int64_t limit;
    bool all;
};

#define AT(field) offsetof(struct ps_options, field)
static const struct opt ps_opts[] = {
    {.name = "all", .letter = 'a', .type = OPT_BOOL, .offset = AT(all), .help = "also containers that Davit did not make"},
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .arg = "NAME", .help = "only this project"},
    {.name = "server", .letter = 's', .type = OPT_STRING, .offset = AT(server), .arg = "SERVER", .help = "only this server"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static char *ports_text(const Davit__Control__V1__Service *s)
{
    AUTO_BUF text = BUF_INIT(4096);
    /* After a failed deployment it is the container of the one before that serves, on its ports. */
    bool old = s->state == DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_FAILED && s->n_containers > 0;
    Davit__Common__V1__PortPublish **ports = old ? s->containers[0]->ports : s->ports;
    size_t n = old ? s->containers[0]->n_ports : s->n_ports;

    for (size_t i = 0; i < n; i++) {
        const Davit__Common__V1__PortPublish *p = ports[i];
        const char *ip = *p->host_ip ? p->host_ip : "127.0.0.1";
        bool plain = !*p->protocol || str_eq(str_from(p->protocol), STR("tcp"));
        (void)buf_printf(&text, "%s%s:%u->%u%s%s", i ? ", " : "", ip, p->host_port, p->container_port, plain ? "" : "/", plain ? "" : p->protocol);
    }
    return text.len ? buf_take(&text) : NULL;
}

/* What the containers do now; what the control plane last knew is marked while the server is away. */
static char *containers_text(const Davit__Control__V1__Service *s)
{
    AUTO_BUF text = BUF_INIT(4096);
    size_t running = 0;

    for (size_t i = 0; i < s->n_containers; i++)
        running += str_eq(str_from(s->containers[i]->state), STR("running"));
    bool all = s->replicas > 1 && running == s->n_containers;
    if (all)
        (void)buf_printf(&text, "%zu of %u running", running, s->replicas);
    for (size_t i = 0; !all && i < s->n_containers; i++) {
        const Davit__Common__V1__Container *c = s->containers[i];
        (void)buf_printf(&text, "%s%s", i ? ", " : "", c->state);
        if (*c->health && !str_eq(str_from(c->health), STR("none")))
            (void)buf_printf(&text, " (%s)", c->health);
        if (str_eq(str_from(c->state), STR("exited")))
            (void)buf_printf(&text, " %lld%s", (long long)c->exit_code, c->oom_killed ? " out of memory" : "");
    }
    if (!s->server_online)
        (void)buf_append_cstr(&text, text.len ? " (server offline)" : "server offline");
    return text.len ? buf_take(&text) : NULL;
}

static char *image_text(const char *image)
{
    struct str digest = str_from(image);
    struct str name = str_cut(&digest, '@');

    /* A digest is known by its beginning. */
    return digest.n > 19 ? str_printf(STR_FMT "@%.19s", STR_ARG(name), digest.p) : str_dup(str_from(image));
}

static void ps_row(struct out_table *t, const Davit__Control__V1__Service *s)
{
    char *cells[] = {
        str_printf("%s/%s", s->project, s->name),
        str_dup(str_from(s->server_name)),
        str_dup(str_from(deployment_state_name((int)s->state))),
        containers_text(s),
        image_text(s->image),
        ports_text(s),
        out_age(s->updated_us),
    };

    out_table_row(t, cells);
}

/* Two documents as one: both are objects, and no key is in both. */
static int print_both(const ProtobufCMessage *services, const ProtobufCMessage *containers, struct err *err)
{
    AUTO_BUF one = BUF_INIT(16 * RPC_MESSAGE_MAX);
    AUTO_BUF two = BUF_INIT(16 * RPC_MESSAGE_MAX);
    int rc = rpc_to_json(services, &one, err);

    if (rc == 0)
        rc = rpc_to_json(containers, &two, err);
    if (rc < 0)
        return rc;
    bool both = one.len > 2 && two.len > 2;
    printf("%.*s%s%.*s\n", (int)one.len - 1, one.data, both ? "," : "", (int)two.len - 1, two.data + 1);
    return 0;
}

/* What is of no service, below the services. */
static int show_others(struct cli *cli, const struct ps_options *o, const ProtobufCMessage *services, struct err *err)
{
    ProtobufCMessage *message = NULL;
    int rc = container_list(cli, o->server, true, &message, err);

    if (rc < 0)
        return rc;
    if (cli->json) {
        rc = print_both(services, message, err);
    } else {
        printf("\n");
        container_table(cli, (const void *)message, true);
    }
    rpc_message_free(message);
    return rc;
}

static int run_ps(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    static const char *const heads[] = {"SERVICE", "SERVER", "DEPLOYMENT", "CONTAINERS", "IMAGE", "PORTS", "CHANGED", NULL};
    const struct ps_options *o = options;
    Davit__Control__V1__ListServicesRequest req = DAVIT__CONTROL__V1__LIST_SERVICES_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct out_table t;
    int rc;

    (void)operands;
    (void)n;
    if (o->project)
        req.project = (char *)(uintptr_t)o->project;
    if (o->server)
        req.server = (char *)(uintptr_t)o->server;
    rc = cli_call(cli, &davit_control_v1_workload_service, "ListServices", &req.base, CALL_TIMEOUT, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__ListServicesResponse *list = (const void *)message;
    if (cli->json) {
        rc = o->all ? 0 : out_message(message, err);
    } else {
        out_table_init(&t, heads);
        for (size_t i = 0; i < list->n_services; i++)
            ps_row(&t, list->services[i]);
        out_table_print(cli, &t);
        out_table_release(&t);
        if (list->n_services == 0 && o->project)
            out_note(cli, "No service in project %s%s%s.", o->project, o->server ? " on server " : "", o->server ? o->server : "");
        else if (list->n_services == 0)
            out_note(cli, "No service yet. `davit deploy IMAGE` runs one.");
    }
    if (rc == 0 && o->all)
        rc = show_others(cli, o, message, err);
    rpc_message_free(message);
    return rc;
}

const struct verb verb_ps = {
    .name = "ps",
    .group = "Services",
    .usage = "[OPTIONS]",
    .about = "list services and what their containers do",
    .example = "davit ps\ndavit ps --project shop --output json",
    .opts = ps_opts,
    .opts_size = sizeof(struct ps_options),
    .run = run_ps,
};

static const struct opt deployments_opts[] = {
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .arg = "NAME", .help = "only this project"},
    {.name = "limit", .type = OPT_INT, .offset = AT(limit), .min = 1, .max = 1000, .def = "20", .arg = "N", .help = "how many, newest first"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

/* The word is enough in a table; the sentence is in the JSON and was shown when it failed. */
static const char *failure_text(const Davit__Common__V1__Failure *f)
{
    if (!f)
        return "";
    return *f->reason ? f->reason : f->message;
}

/* Which one it repeats; which ones can be rolled back to. */
static char *source_text(const Davit__Control__V1__Deployment *d)
{
    bool active = d->state == DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_ACTIVE;

    if (*d->source_deployment_id)
        return str_printf("rollback to %.8s", d->source_deployment_id);
    return d->was_active && !active ? str_dup(STR("was active")) : NULL;
}

static void deployment_row(struct out_table *t, const Davit__Control__V1__Deployment *d)
{
    char *cells[] = {
        str_printf("%.8s", d->id),
        str_printf("%s/%s", d->spec ? d->spec->project : "", d->spec ? d->spec->name : ""),
        str_dup(str_from(d->server_name)),
        str_dup(str_from(deployment_state_name((int)d->state))),
        image_text(d->spec ? d->spec->image : ""),
        source_text(d),
        out_time(d->created_us),
        str_dup(str_from(failure_text(d->failure))),
    };

    out_table_row(t, cells);
}

static int run_deployments(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    static const char *const heads[] = {"DEPLOYMENT", "SERVICE", "SERVER", "STATE", "IMAGE", "NOTE", "CREATED", "FAILURE", NULL};
    const struct ps_options *o = options;
    Davit__Control__V1__ListDeploymentsRequest req = DAVIT__CONTROL__V1__LIST_DEPLOYMENTS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct out_table t;
    int rc;

    if (o->project)
        req.project = (char *)(uintptr_t)o->project;
    if (n > 0)
        req.service = (char *)(uintptr_t)operands[0];
    req.limit = (uint32_t)o->limit;
    rc = cli_call(cli, &davit_control_v1_workload_service, "ListDeployments", &req.base, CALL_TIMEOUT, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__ListDeploymentsResponse *list = (const void *)message;
    if (cli->json) {
        rc = out_message(message, err);
    } else {
        out_table_init(&t, heads);
        for (size_t i = 0; i < list->n_deployments; i++)
            deployment_row(&t, list->deployments[i]);
        out_table_print(cli, &t);
        out_table_release(&t);
    }
    rpc_message_free(message);
    return rc;
}

const struct verb verb_deployments = {
    .name = "deployments",
    .group = "Services",
    .usage = "[OPTIONS] [SERVICE]",
    .about = "list what was deployed, when, and how it ended",
    .example = "davit deployments --project shop web",
    .opts = deployments_opts,
    .opts_size = sizeof(struct ps_options),
    .max_operands = 1,
    .run = run_deployments,
};
