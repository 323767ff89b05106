/* SPDX-License-Identifier: Apache-2.0 */
/* server — the machines of this control plane: add, list, show, new token, settings, remove. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/out.h"
#include "cli/server_doctor.h"
#include "cli/server.h"
#include "cli/server_credentials.h"
#include "davit/control/v1/servers.davit.h"
#include "davit/control/v1/servers.pb-c.h"
#include "davit/control/v1/workloads.davit.h"
#include "davit/control/v1/workloads.pb-c.h"

enum { JSON_MAX = 16 * 1024 * 1024 };
static const usec_t CALL_TIMEOUT = 15 * USEC_SEC;

typedef Davit__Control__V1__Server server_message;

enum { PROFILE_UNSPECIFIED, PROFILE_UNKNOWN, PROFILE_PUBLIC, PROFILE_LOCAL };

static const struct {
    const char *name;
    const char *about;
} profiles[] = {
    [PROFILE_UNKNOWN] = {"unknown", "not yet classified; you can set it later"},
    [PROFILE_PUBLIC] = {"public", "it has a public IP address that others can reach"},
    [PROFILE_LOCAL] = {"local", "it stands behind NAT, at home or in an office"},
};

static const char *profile_name(int profile)
{
    return profile > PROFILE_UNSPECIFIED && profile < (int)ARRAY_LEN(profiles) ? profiles[profile].name : "unknown";
}

static int profile_of(const char *name)
{
    for (int i = PROFILE_UNKNOWN; name && i < (int)ARRAY_LEN(profiles); i++)
        if (strcmp(profiles[i].name, name) == 0)
            return i;
    return PROFILE_UNSPECIFIED;
}

static const char *state_name(int state)
{
    static const char *const names[] = {"-", "pending", "online", "offline"};

    return state > 0 && state < (int)ARRAY_LEN(names) ? names[state] : names[0];
}

static int call(struct cli *cli, const char *method, const ProtobufCMessage *request, ProtobufCMessage **ret, struct err *err)
{
    return cli_call(cli, &davit_control_v1_server_service, method, request, CALL_TIMEOUT, ret, err);
}

/* ---- add, token ---- */

struct add_options {
    struct cli_common common;
    const char *profile, *mode;
    usec_t ttl;
};

#define ADD_AT(field) offsetof(struct add_options, field)
static const struct opt add_opts[] = {
    {.name = "profile", .type = OPT_ENUM, .offset = ADD_AT(profile), .choices = "public|local|unknown", .arg = "PROFILE",
     .help = "what kind of network it stands in; asked when this is a terminal"},
    {.name = "mode", .type = OPT_ENUM, .offset = ADD_AT(mode), .choices = "direct|tunnel", .arg = "MODE",
     .help = "the way to this control plane: straight to --advertise, or through the proxy of --hostname (default: what is set up, direct first)"},
    {.name = "token-ttl", .type = OPT_USEC, .offset = ADD_AT(ttl), .min = 60000000, .max = 604800000000, .arg = "TIME", .def = "1h",
     .help = "how long the token may be used"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

/* Asks on the terminal; a blank or unusable answer is "unknown", which is always safe. */
static int ask_profile(struct cli *cli)
{
    char answer[32] = "";

    if (cli->json || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return PROFILE_UNKNOWN;
    fputs("Which network profile has this server?\n", stderr);
    for (size_t i = PROFILE_UNKNOWN; i < ARRAY_LEN(profiles); i++)
        fprintf(stderr, "  %-8s %s\n", profiles[i].name, profiles[i].about);
    fputs("profile [unknown]: ", stderr);
    if (!fgets(answer, sizeof answer, stdin))
        return PROFILE_UNKNOWN;
    answer[strcspn(answer, "\r\n")] = 0;
    int chosen = profile_of(answer);
    return chosen == PROFILE_UNSPECIFIED ? PROFILE_UNKNOWN : chosen;
}

/* @again: the machine holds an enrolment that the line replaces. */
static void print_token(struct cli *cli, const char *name, const char *token, const char *command, uint64_t expires_us, bool again)
{
    AUTO_FREE char *until = out_time(expires_us);
    bool by_hand = !strstr(command, "/install.sh"); /* there is no release here to install from */

    printf("Token of server %s (shown this once, works once, until %s UTC):\n\n  %s\n\n", name, until, token);
    if (by_hand)
        printf("Copy %s/davit-agent to /usr/local/bin of that machine.%s Then there, as root (without sudo leave that word out):\n\n  %s\n\n",
               cli->paths.bin, again ? " Stop the agent that runs there (systemctl stop davit-agent)." : "", command);
    else
        printf("On that machine, as root (without sudo leave that word out):\n\n  %s\n\n", command);
    if (again)
        out_note(cli, "It was enrolled before: --force replaces what it holds. Its containers go on.");
    out_note(cli, "Then `davit server show %s` tells when it is online.", name);
}

static int run_add(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct add_options *o = options;
    Davit__Control__V1__CreateServerRequest req = DAVIT__CONTROL__V1__CREATE_SERVER_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    int rc;

    (void)n;
    req.name = (char *)(uintptr_t)operands[0];
    req.token_ttl_s = o->ttl / USEC_SEC;
    if (o->mode)
        req.mode = (char *)(uintptr_t)o->mode;
    if ((rc = cli_connect(cli, err)) < 0)
        return rc;
    req.profile = (Davit__Control__V1__ServerProfile)(o->profile ? profile_of(o->profile) : ask_profile(cli));
    if ((rc = call(cli, "CreateServer", &req.base, &message, err)) < 0)
        return rc;
    if (cli->json) {
        rc = out_message(message, err);
    } else {
        const Davit__Control__V1__CreateServerResponse *r = (const void *)message;
        print_token(cli, operands[0], r->token, r->install_command, r->token_expires_us, false);
    }
    rpc_message_free(message);
    return rc;
}

static int run_token(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct add_options *o = options;
    Davit__Control__V1__CreateTokenRequest req = DAVIT__CONTROL__V1__CREATE_TOKEN_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    int rc;

    (void)n;
    req.server = (char *)(uintptr_t)operands[0];
    req.token_ttl_s = o->ttl / USEC_SEC;
    if (o->mode)
        req.mode = (char *)(uintptr_t)o->mode;
    if ((rc = call(cli, "CreateToken", &req.base, &message, err)) < 0)
        return rc;
    if (cli->json) {
        rc = out_message(message, err);
    } else {
        const Davit__Control__V1__CreateTokenResponse *r = (const void *)message;
        print_token(cli, operands[0], r->token, r->install_command, r->token_expires_us, r->replaces);
    }
    rpc_message_free(message);
    return rc;
}

/* ---- ls ---- */

struct plain_options {
    struct cli_common common;
};
static const struct opt plain_opts[] = {CLI_COMMON_OPTS, {.name = NULL}};

static void list_row(struct out_table *t, const server_message *s)
{
    char *cells[] = {
        str_dup(str_from(s->name)),
        str_dup(str_from(state_name((int)s->state))),
        str_dup(str_from(profile_name((int)s->profile))),
        str_dup(str_from(s->health)),
        str_dup(str_from(s->preferred_address)),
        str_dup(str_from(s->system ? s->system->docker_version : "")),
        str_dup(str_from(s->agent_version)),
        str_printf("%u", s->containers_running),
        out_age(s->last_heartbeat_us),
    };

    out_table_row(t, cells);
}

static int run_ls(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    static const char *const heads[] = {"NAME", "STATE", "PROFILE", "HEALTH", "ADDRESS", "DOCKER", "AGENT", "RUNNING", "SEEN", NULL};
    Davit__Control__V1__ListServersRequest req = DAVIT__CONTROL__V1__LIST_SERVERS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    int rc = call(cli, "ListServers", &req.base, &message, err);

    (void)options;
    (void)operands;
    (void)n;
    if (rc < 0)
        return rc;
    if (cli->json) {
        rc = out_message(message, err);
    } else {
        const Davit__Control__V1__ListServersResponse *list = (const void *)message;
        struct out_table t;
        out_table_init(&t, heads);
        for (size_t i = 0; i < list->n_servers; i++)
            list_row(&t, list->servers[i]);
        out_table_print(cli, &t);
        out_table_release(&t);
        if (list->n_servers == 0)
            out_note(cli, "No server yet. `davit server add NAME` makes one.");
    }
    rpc_message_free(message);
    return rc;
}

/* ---- show ---- */

/* One line "label  value"; empty values are shown as "-". @value is freed. */
static void line(const char *label, char *value)
{
    AUTO_FREE char *raw = value;
    AUTO_FREE char *clean = out_clean(str_from(raw && *raw ? raw : "-"));

    printf("%-18s %s\n", label, clean);
}

static void text_line(const char *label, const char *value)
{
    line(label, str_dup(str_from(value)));
}

static void list_line(const char *label, char **items, size_t n)
{
    AUTO_BUF all = BUF_INIT(65536);

    for (size_t i = 0; i < n; i++)
        (void)buf_printf(&all, "%s%s", i ? ", " : "", items[i]);
    text_line(label, buf_cstr(&all));
}

/* What the codes of SystemInfo.policy_forbids stand for. */
static void forbids_line(char **codes, size_t n)
{
    static const struct {
        const char *code, *words;
    } all[] = {
        {"policy_exec", "commands inside containers"},
        {"policy_update", "updates of the agent"},
        {"policy_image_source", "images, all or from some places"},
        {"policy_privileged", "privileged options"},
        {"policy_mount", "mounts of the machine's folders"},
        {"policy_sandbox", "sandboxes"},
        {"policy_unreadable", "all that a policy can, because its file cannot be read"},
    };
    AUTO_BUF text = BUF_INIT(65536);

    for (size_t i = 0; i < n; i++) {
        const char *words = codes[i];
        for (size_t k = 0; k < ARRAY_LEN(all); k++)
            if (strcmp(codes[i], all[k].code) == 0)
                words = all[k].words;
        (void)buf_printf(&text, "%s%s", i ? ", " : "", words);
    }
    text_line("owner forbids", buf_cstr(&text));
}

static void show_system(const Davit__Common__V1__SystemInfo *s)
{
    text_line("hostname", s->hostname);
    text_line("os", s->os);
    text_line("kernel", s->kernel);
    text_line("architecture", s->arch);
    line("cpus", str_printf("%u", s->cpu_count));
    line("memory", out_bytes(s->memory_bytes));
    text_line("docker", *s->docker_version ? s->docker_version : s->docker_error);
    text_line("cgroup", s->cgroup);
    list_line("lan addresses", s->lan_addresses, s->n_lan_addresses);
    if (s->n_policy_forbids)
        forbids_line(s->policy_forbids, s->n_policy_forbids);
    if (s->tailscale && s->tailscale->installed)
        line("tailscale", str_printf("%s %s (%s)", s->tailscale->address, s->tailscale->hostname, s->tailscale->state));
    else
        text_line("tailscale", "not installed");
}

static void show(const server_message *s)
{
    text_line("name", s->name);
    text_line("id", s->id);
    line("state", *s->state_reason ? str_printf("%s (%s)", state_name((int)s->state), s->state_reason)
                                   : str_dup(str_from(state_name((int)s->state))));
    text_line("health", s->health);
    for (size_t i = 0; i < s->n_health_reasons; i++)
        text_line("", s->health_reasons[i]);
    text_line("profile", profile_name((int)s->profile));
    text_line("connection", s->connection_mode);
    text_line("agent version", s->agent_version);
    text_line("public address", s->public_address);
    line("preferred address", *s->preferred_address ? str_printf("%s (%s)", s->preferred_address, s->preferred_source) : NULL);
    if (s->system)
        show_system(s->system);
    line("containers", str_printf("%u running", s->containers_running));
    line("clock skew", !s->last_heartbeat_us ? NULL /* nobody has told a time yet */
                                             : str_printf("%lld ms%s", (long long)(s->clock_skew_us / 1000), s->clock_unsure ? ", not set" : ""));
    line("created", out_time(s->created_us));
    line("enrolled", out_time(s->enrolled_us));
    line("last heartbeat", s->last_heartbeat_us ? out_age(s->last_heartbeat_us) : NULL);
    line("credentials", server_credentials_text(s));
    if (*s->credential_error)
        text_line("renewal failed", s->credential_error);
    if (s->duplicate)
        line("duplicate", server_duplicate_text(s));
    if (s->update) {
        AUTO_FREE char *said = server_update_text(s->update);
        line("last update", str_printf("to %s: %s", s->update->to_version, said));
    }
    if (s->token_expires_us)
        line("open token until", out_time(s->token_expires_us));
}

static int run_show(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    Davit__Control__V1__GetServerRequest req = DAVIT__CONTROL__V1__GET_SERVER_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    int rc;

    (void)options;
    (void)n;
    req.server = (char *)(uintptr_t)operands[0];
    if ((rc = call(cli, "GetServer", &req.base, &message, err)) < 0)
        return rc;
    if (cli->json)
        rc = out_message(message, err);
    else
        show(((const Davit__Control__V1__GetServerResponse *)(const void *)message)->server);
    rpc_message_free(message);
    return rc;
}

/* ---- set ---- */

struct set_options {
    struct cli_common common;
    const char *profile;
    const char *address;
};

#define SET_AT(field) offsetof(struct set_options, field)
static const struct opt set_opts[] = {
    {.name = "profile", .type = OPT_ENUM, .offset = SET_AT(profile), .choices = "public|local|unknown", .arg = "PROFILE",
     .help = "what kind of network it stands in"},
    {.name = "address", .type = OPT_STRING, .offset = SET_AT(address), .arg = "IP",
     .help = "preferred address; \"auto\": public, else tailnet, else LAN"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static int run_set(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct set_options *o = options;
    Davit__Control__V1__UpdateServerRequest req = DAVIT__CONTROL__V1__UPDATE_SERVER_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    int rc;

    (void)n;
    if (!o->profile && !o->address)
        return err_set(err, ERR_INVALID, "nothing to set: give --profile or --address");
    req.server = (char *)(uintptr_t)operands[0];
    req.profile = (Davit__Control__V1__ServerProfile)profile_of(o->profile);
    if (o->address)
        req.preferred_address = (char *)(uintptr_t)o->address;
    if ((rc = call(cli, "UpdateServer", &req.base, &message, err)) < 0)
        return rc;
    if (cli->json)
        rc = out_message(message, err);
    else
        printf("Server %s is changed.\n", operands[0]);
    rpc_message_free(message);
    return rc;
}

/* ---- rm ---- */

/* "project/service" of each that is on @server, before it is forgotten with it. The caller frees with rpc_message_free. */
static int services_of(struct cli *cli, const char *server, ProtobufCMessage **ret, struct err *err)
{
    Davit__Control__V1__ListServicesRequest req = DAVIT__CONTROL__V1__LIST_SERVICES_REQUEST__INIT;

    req.server = (char *)(uintptr_t)server;
    return cli_call(cli, &davit_control_v1_workload_service, "ListServices", &req.base, CALL_TIMEOUT, ret, err);
}

static int report_removed(struct cli *cli, const char *name, const Davit__Control__V1__ListServicesResponse *list, struct err *err)
{
    AUTO_BUF out = BUF_INIT(JSON_MAX);
    struct jsonw w;

    jsonw_init(&w, &out);
    jsonw_object(&w);
    jsonw_key(&w, "removed");
    jsonw_bool(&w, true);
    jsonw_key(&w, "services");
    jsonw_array(&w);
    if (!cli->json)
        printf("Server %s is forgotten. Its containers go on; its agent is cut off.\n", name);
    if (!cli->json && list->n_services)
        printf("Forgotten with it, and still running there if they did:\n");
    for (size_t i = 0; i < list->n_services; i++) {
        AUTO_FREE char *service = str_printf("%s/%s", list->services[i]->project, list->services[i]->name);
        jsonw_string(&w, service);
        if (!cli->json)
            printf("  %s\n", service);
    }
    jsonw_array_end(&w);
    jsonw_object_end(&w);
    if (!cli->json)
        return 0;
    if (jsonw_end(&w) < 0)
        return err_set(err, ERR_EXHAUSTED, "too many services to list");
    printf("%s\n", buf_cstr(&out));
    return 0;
}

static int run_rm(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    Davit__Control__V1__RemoveServerRequest req = DAVIT__CONTROL__V1__REMOVE_SERVER_REQUEST__INIT;
    ProtobufCMessage *message = NULL, *services = NULL;
    int rc;

    (void)options;
    (void)n;
    req.server = (char *)(uintptr_t)operands[0];
    if ((rc = services_of(cli, operands[0], &services, err)) == 0 && (rc = call(cli, "RemoveServer", &req.base, &message, err)) == 0)
        rc = report_removed(cli, operands[0], (const void *)services, err);
    rpc_message_free(message);
    rpc_message_free(services);
    return rc;
}

static const struct verb server_verbs[] = {
    {.name = "add", .usage = "[OPTIONS] NAME", .about = "record a server and print its one-time token", .opts = add_opts,
     .opts_size = sizeof(struct add_options), .min_operands = 1, .max_operands = 1, .run = run_add,
     .example = "davit server add web-1 --profile public"},
    {.name = "ls", .usage = "[OPTIONS]", .about = "list servers", .opts = plain_opts, .opts_size = sizeof(struct plain_options),
     .run = run_ls, .example = "davit server ls"},
    {.name = "show", .usage = "[OPTIONS] SERVER", .about = "everything that is known about a server", .opts = plain_opts,
     .opts_size = sizeof(struct plain_options), .min_operands = 1, .max_operands = 1, .run = run_show,
     .example = "davit server show web-1"},
    {.name = "set", .usage = "[OPTIONS] SERVER", .about = "change profile or preferred address", .opts = set_opts,
     .opts_size = sizeof(struct set_options), .min_operands = 1, .max_operands = 1, .run = run_set,
     .example = "davit server set web-1 --profile local"},
    {.name = "token", .usage = "[OPTIONS] SERVER", .about = "make a new token; the one before is void", .opts = add_opts + 1,
     .opts_size = sizeof(struct add_options), .min_operands = 1, .max_operands = 1, .run = run_token,
     .example = "davit server token web-1"},
    {.name = "update", .usage = "[OPTIONS] [SERVER...]", .about = "bring servers to a release, a few at a time", .opts = server_update_opts,
     .opts_size = sizeof(struct server_update_options), .max_operands = SERVER_UPDATE_OPERANDS_MAX, .run = server_update_run,
     .example = "davit server update web-1\ndavit server update --all --max-parallel 5 --halt-on-failure"},
    {.name = "doctor", .usage = "[OPTIONS] SERVER", .about = "what is wrong with a server: exit status 1 if a check is FAIL, else 0",
     .opts = server_doctor_opts, .opts_size = sizeof(struct server_doctor_options), .min_operands = 1, .max_operands = 1,
     .run = server_doctor_run, .example = "davit server doctor web-1"},
    {.name = "rotate", .usage = "[OPTIONS] [SERVER]", .about = "have a server renew its credentials now; those before open nothing then",
     .opts = server_rotate_opts, .opts_size = sizeof(struct server_rotate_options), .max_operands = 1, .run = server_rotate_run,
     .example = "davit server rotate web-1\ndavit server rotate --all"},
    {.name = "revoke", .usage = "[OPTIONS] SERVER", .about = "take its credentials from a server; it comes back with a new token only",
     .opts = plain_opts, .opts_size = sizeof(struct plain_options), .min_operands = 1, .max_operands = 1, .run = server_revoke_run,
     .example = "davit server revoke web-1"},
    {.name = "rm", .usage = "[OPTIONS] SERVER", .about = "forget a server; its containers go on", .opts = plain_opts,
     .opts_size = sizeof(struct plain_options), .min_operands = 1, .max_operands = 1, .run = run_rm,
     .example = "davit server rm web-1"},
    {.name = NULL},
};

const struct verb verb_server = {
    .name = "server",
    .group = "Servers",
    .about = "add, list, show, set, token, update, doctor, rotate, revoke, rm: the machines of this control plane",
    .sub = server_verbs,
};
