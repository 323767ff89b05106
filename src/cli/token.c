/* SPDX-License-Identifier: Apache-2.0 */
/* token — API tokens for programs: add, ls, revoke. (Those by which servers join are of `server token`.) */
#include <stdio.h>
#include <string.h>

#include "cli/out.h"
#include "davit/control/v1/people.davit.h"
#include "davit/control/v1/people.pb-c.h"

static const usec_t CALL_TIMEOUT = 15 * USEC_SEC;

struct token_options {
    struct cli_common common;
    const char *scope;
    usec_t expires;
};

#define AT(field) offsetof(struct token_options, field)
static const struct opt token_add_opts[] = {
    {.name = "scope", .type = OPT_ENUM, .offset = AT(scope), .choices = "read|write|admin", .arg = "SCOPE", .def = "read",
     .help = "what it may do; write holds read, admin holds all"},
    {.name = "expires", .type = OPT_USEC, .offset = AT(expires), .min = 1000000, .max = 31622400000000, .arg = "TIME", .def = "30d",
     .help = "how long it is good"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};
static const struct opt token_opts[] = {CLI_COMMON_OPTS, {.name = NULL}};

static int call(struct cli *cli, const char *method, const ProtobufCMessage *request, ProtobufCMessage **ret, struct err *err)
{
    return cli_call(cli, &davit_control_v1_api_token_service, method, request, CALL_TIMEOUT, ret, err);
}

static int run_add(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct token_options *o = options;
    Davit__Control__V1__CreateApiTokenRequest req = DAVIT__CONTROL__V1__CREATE_API_TOKEN_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    (void)n;
    req.name = (char *)(uintptr_t)operands[0];
    req.scope = (char *)(uintptr_t)o->scope;
    req.ttl_s = o->expires / USEC_SEC;
    int rc = call(cli, "CreateApiToken", &req.base, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__CreateApiTokenResponse *m = (const void *)message;
    if (cli->json) {
        rc = out_message(message, err);
    } else {
        AUTO_FREE char *until = out_time(m->token ? m->token->expires_us : 0);
        AUTO_FREE char *secret = out_clean(str_from(m->secret));
        out_note(cli, "It is shown this once. Send it as: authorization: Bearer TOKEN. Scope %s, good until %s UTC.", o->scope, until);
        printf("%s\n", secret);
        explicit_bzero(secret, strlen(secret));
    }
    rpc_message_free(message);
    return rc;
}

static const char *state_of(const Davit__Control__V1__ApiToken *t)
{
    return t->revoked ? "revoked" : t->expires_us <= clock_real() ? "expired" : "good";
}

static void print_list(const struct cli *cli, const Davit__Control__V1__ListApiTokensResponse *m)
{
    static const char *const heads[] = {"NAME", "ID", "SCOPE", "STATE", "EXPIRES", "LAST USED", "FROM", "MADE BY", NULL};
    struct out_table table;
    out_table_init(&table, heads);
    for (size_t i = 0; i < m->n_tokens; i++) {
        const Davit__Control__V1__ApiToken *t = m->tokens[i];
        char *cells[] = {out_clean(str_from(t->name)),       out_clean(str_from(t->id)),        out_clean(str_from(t->scope)),
                         str_dup(str_from(state_of(t))),     out_time(t->expires_us),           out_time(t->used_us),
                         t->used_from && *t->used_from ? out_clean(str_from(t->used_from)) : NULL, out_clean(str_from(t->created_by))};
        out_table_row(&table, cells);
    }
    out_table_print(cli, &table);
    out_table_release(&table);
}

static int run_ls(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    Davit__Control__V1__ListApiTokensRequest req = DAVIT__CONTROL__V1__LIST_API_TOKENS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    (void)options;
    (void)operands;
    (void)n;
    int rc = call(cli, "ListApiTokens", &req.base, &message, err);
    if (rc < 0)
        return rc;
    if (cli->json)
        rc = out_message(message, err);
    else
        print_list(cli, (const void *)message);
    rpc_message_free(message);
    return rc;
}

static int run_revoke(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    Davit__Control__V1__RevokeApiTokenRequest req = DAVIT__CONTROL__V1__REVOKE_API_TOKEN_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    (void)options;
    (void)n;
    req.token = (char *)(uintptr_t)operands[0];
    int rc = call(cli, "RevokeApiToken", &req.base, &message, err);
    if (rc < 0)
        return rc;
    rpc_message_free(message);
    if (cli->json)
        printf("{\"revoked\":true}\n");
    else
        printf("API token %s opens nothing any more; calls that were open are cut.\n", operands[0]);
    return 0;
}

static const struct verb token_verbs[] = {
    {.name = "add", .usage = "[OPTIONS] NAME", .about = "make an API token and print it, once", .opts = token_add_opts,
     .opts_size = sizeof(struct token_options), .min_operands = 1, .max_operands = 1, .run = run_add,
     .example = "davit token add ci --scope write --expires 90d"},
    {.name = "ls", .usage = "[OPTIONS]", .about = "list API tokens and when they were used", .opts = token_opts,
     .opts_size = sizeof(struct cli_common), .run = run_ls, .example = "davit token ls"},
    {.name = "revoke", .usage = "[OPTIONS] TOKEN", .about = "end an API token, by name or id", .opts = token_opts,
     .opts_size = sizeof(struct cli_common), .min_operands = 1, .max_operands = 1, .run = run_revoke, .example = "davit token revoke ci"},
    {.name = NULL},
};

const struct verb verb_token = {
    .name = "token",
    .group = "Servers",
    .about = "add, ls, revoke: API tokens for programs",
    .sub = token_verbs,
};
