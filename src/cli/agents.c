/* SPDX-License-Identifier: Apache-2.0 */
/* agents — see agents.h. */
#include "cli/agents.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/out.h"
#include "davit/admin/v1/admin.davit.h"

enum { SHORT_ID = 12, JSON_MAX = 4 * 1024 * 1024 };
static const usec_t CALL_TIMEOUT = 15 * USEC_SEC;

const struct opt agents_opts[] = {
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static void when(int64_t unix_seconds, char at[CLOCK_TEXT_SIZE])
{
    clock_format((usec_t)(unix_seconds > 0 ? unix_seconds : 0) * USEC_SEC, 0, at);
}

static void field(struct jsonw *w, const char *key, const char *value)
{
    jsonw_key(w, key);
    jsonw_string(w, value);
}

/* The keys are those that tools for clawker look for. */
static int print_json(const Davit__Admin__V1__ListAgentsResponse *m, struct err *err)
{
    AUTO_BUF text = BUF_INIT(JSON_MAX);
    struct jsonw w;
    jsonw_init(&w, &text);
    jsonw_array(&w);
    for (size_t i = 0; i < m->n_agents; i++) {
        const Davit__Admin__V1__Agent *a = m->agents[i];
        char registered[CLOCK_TEXT_SIZE], seen[CLOCK_TEXT_SIZE];
        when(a->registered_at_unix, registered);
        when(a->last_seen_unix, seen);
        jsonw_object(&w);
        field(&w, "agent_name", a->agent_name);
        field(&w, "project", a->project);
        field(&w, "container_id", a->container_id);
        field(&w, "cert_thumbprint", a->cert_thumbprint);
        field(&w, "registered_at", registered);
        field(&w, "last_seen", seen);
        jsonw_object_end(&w);
    }
    jsonw_array_end(&w);
    if (jsonw_end(&w) < 0)
        return err_set(err, ERR_EXHAUSTED, "the list is too long for JSON output");
    puts(buf_cstr(&text));
    return 0;
}

static void print_table(const struct cli *cli, const Davit__Admin__V1__ListAgentsResponse *m)
{
    static const char *const heads[] = {"AGENT", "PROJECT", "CONTAINER", "THUMBPRINT", "REGISTERED", "LAST SEEN", NULL};
    struct out_table t;
    out_table_init(&t, heads);
    for (size_t i = 0; i < m->n_agents; i++) {
        const Davit__Admin__V1__Agent *a = m->agents[i];
        char registered[CLOCK_TEXT_SIZE], seen[CLOCK_TEXT_SIZE];
        when(a->registered_at_unix, registered);
        when(a->last_seen_unix, seen);
        char *cells[] = {str_dup(str_from(a->agent_name)), *a->project ? str_dup(str_from(a->project)) : NULL,
                         str_printf("%.*s", SHORT_ID, a->container_id), str_printf("%.*s", SHORT_ID, a->cert_thumbprint),
                         str_dup(str_from(registered)), str_dup(str_from(seen))};
        out_table_row(&t, cells);
    }
    if (m->n_agents)
        out_table_print(cli, &t);
    out_table_release(&t);
    if (!m->n_agents)
        out_note(cli, "No agent is registered. `davit run IMAGE` makes a sandbox, which registers itself.");
}

int run_agents(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    Davit__Admin__V1__ListAgentsRequest q = DAVIT__ADMIN__V1__LIST_AGENTS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    (void)options;
    (void)operands;
    (void)n;
    int rc = cli_call(cli, &davit_admin_v1_admin_service, "ListAgents", &q.base, CALL_TIMEOUT, &message, err);
    if (rc < 0)
        return rc;
    if (cli->json)
        rc = print_json((const void *)message, err);
    else
        print_table(cli, (const void *)message);
    (void)rpc_message_free(message);
    return rc;
}
