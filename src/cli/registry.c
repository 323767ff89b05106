/* SPDX-License-Identifier: Apache-2.0 */
/* registry — logins for registries, kept by the control plane: login, ls, logout. */
#include <stdio.h>

#include "cli/out.h"
#include "cli/secret_input.h"
#include "davit/control/v1/environment.davit.h"
#include "davit/control/v1/environment.pb-c.h"
#include "spec/registry_name.h"

enum { PASSWORD_MAX = 32 * 1024 };
static const usec_t CALL_TIMEOUT = 15 * USEC_SEC;

struct registry_options {
    struct cli_common common;
    const char *user, *password_file;
};

#define AT(field) offsetof(struct registry_options, field)
static const struct opt registry_login_opts[] = {
    {.name = "user", .letter = 'u', .type = OPT_STRING, .offset = AT(user), .arg = "NAME", .help = "who logs in"},
    {.name = "password-file", .type = OPT_STRING, .offset = AT(password_file), .arg = "PATH",
     .help = "the password; - is standard input; asked for by default"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};
static const struct opt registry_opts[] = {CLI_COMMON_OPTS, {.name = NULL}};

static int call(struct cli *cli, const char *method, const ProtobufCMessage *request, ProtobufCMessage **ret, struct err *err)
{
    return cli_call(cli, &davit_control_v1_registry_service, method, request, CALL_TIMEOUT, ret, err);
}

static int run_login(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct registry_options *o = options;
    Davit__Control__V1__SetRegistryRequest req = DAVIT__CONTROL__V1__SET_REGISTRY_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    AUTO_SECRET password = NULL;
    if (!o->user) {
        (void)err_set(err, ERR_INVALID, "who logs in?");
        err_hint(err, "davit registry login --user NAME SERVER");
        return -(int)ERR_INVALID;
    }
    /* Here first: what is no name goes nowhere. */
    char named[REGISTRY_NAME_SIZE];
    int rc = registry_name(str_from(n ? operands[0] : ""), named, err);
    if (rc == 0)
        rc = secret_input(o->password_file, "password", PASSWORD_MAX, &password, err);
    if (rc < 0)
        return rc;
    req.server = (char *)(uintptr_t)(n ? operands[0] : "");
    req.username = (char *)(uintptr_t)o->user;
    req.password = (char *)(uintptr_t)secret_reveal(password).p;
    rc = call(cli, "SetRegistry", &req.base, &message, err);
    if (rc < 0)
        return rc;
    if (cli->json) {
        rc = out_message(message, err);
    } else {
        AUTO_FREE char *server = out_clean(str_from(((const Davit__Control__V1__SetRegistryResponse *)(const void *)message)->server));
        printf("The login for %s is kept, encrypted, and used from the next pull on.\n", server);
    }
    rpc_message_free(message);
    return rc;
}

static void print_list(const struct cli *cli, const Davit__Control__V1__ListRegistriesResponse *m)
{
    static const char *const heads[] = {"SERVER", "USER", "CHANGED", "BY", NULL};
    struct out_table table;
    out_table_init(&table, heads);
    for (size_t i = 0; i < m->n_registries; i++) {
        const Davit__Control__V1__Registry *r = m->registries[i];
        char *cells[] = {out_clean(str_from(r->server)), out_clean(str_from(r->username)), out_time(r->changed_us),
                         out_clean(str_from(r->changed_by))};
        out_table_row(&table, cells);
    }
    out_table_print(cli, &table);
    out_table_release(&table);
}

static int run_ls(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    Davit__Control__V1__ListRegistriesRequest req = DAVIT__CONTROL__V1__LIST_REGISTRIES_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    (void)options;
    (void)operands;
    (void)n;
    int rc = call(cli, "ListRegistries", &req.base, &message, err);
    if (rc < 0)
        return rc;
    if (cli->json)
        rc = out_message(message, err);
    else
        print_list(cli, (const void *)message);
    rpc_message_free(message);
    return rc;
}

static int run_logout(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    Davit__Control__V1__RemoveRegistryRequest req = DAVIT__CONTROL__V1__REMOVE_REGISTRY_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    (void)options;
    (void)n;
    req.server = (char *)(uintptr_t)operands[0];
    int rc = call(cli, "RemoveRegistry", &req.base, &message, err);
    if (rc < 0)
        return rc;
    rpc_message_free(message);
    if (cli->json)
        printf("{\"removed\":true}\n");
    else
        printf("The login for %s is forgotten.\n", operands[0]);
    return 0;
}

static const struct verb registry_verbs[] = {
    {.name = "login", .usage = "[OPTIONS] [SERVER]", .about = "keep a login for a registry; without SERVER for docker.io",
     .opts = registry_login_opts, .opts_size = sizeof(struct registry_options), .max_operands = 1, .run = run_login,
     .example = "davit registry login --user ann registry.example:5000\n"
                "davit registry login --user ann --password-file token.txt ghcr.io"},
    {.name = "ls", .usage = "[OPTIONS]", .about = "list the logins, without passwords", .opts = registry_opts,
     .opts_size = sizeof(struct registry_options), .run = run_ls, .example = "davit registry ls"},
    {.name = "logout", .usage = "[OPTIONS] SERVER", .about = "forget a login", .opts = registry_opts, .opts_size = sizeof(struct registry_options),
     .min_operands = 1, .max_operands = 1, .run = run_logout, .example = "davit registry logout registry.example:5000"},
    {.name = NULL},
};

const struct verb verb_registry = {
    .name = "registry",
    .group = "Services",
    .about = "login, ls, logout: passwords for registries",
    .sub = registry_verbs,
};
