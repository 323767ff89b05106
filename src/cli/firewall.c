/* SPDX-License-Identifier: Apache-2.0 */
/* firewall — `davit firewall status`: the filter of what sandboxes send. While the control plane has none, it is off. */
#include <stdio.h>

#include "base/json.h"
#include "cli/cli.h"
#include "cli/out.h"
#include "davit/admin/v1/admin.davit.h"

enum { JSON_MAX = 16 * 1024 };
static const usec_t CALL_TIMEOUT = 15 * USEC_SEC;

struct firewall_options {
    struct cli_common common;
    bool quiet;
};

static const struct opt status_opts[] = {
    {.name = "quiet", .letter = 'q', .type = OPT_BOOL, .offset = offsetof(struct firewall_options, quiet), .help = "one word: running or stopped"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

typedef Davit__Admin__V1__FirewallStatusResponse status_response;

static int print_json(const status_response *m, const char *why, struct err *err)
{
    const char *const keys[] = {"envoy_ip", "coredns_ip", "network_id", "cidr"};
    const char *const texts[] = {m->envoy_ip, m->coredns_ip, m->network_id, m->cidr};
    AUTO_BUF text = BUF_INIT(JSON_MAX);
    struct jsonw w;

    jsonw_init(&w, &text);
    jsonw_object(&w);
    jsonw_key(&w, "running"), jsonw_bool(&w, m->running);
    jsonw_key(&w, "envoy_health"), jsonw_bool(&w, m->envoy_health);
    jsonw_key(&w, "coredns_health"), jsonw_bool(&w, m->coredns_health);
    jsonw_key(&w, "rule_count"), jsonw_u64(&w, m->rule_count > 0 ? (uint64_t)m->rule_count : 0);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        jsonw_key(&w, keys[i]), jsonw_string(&w, texts[i]);
    jsonw_key(&w, "reason"), jsonw_string(&w, why);
    jsonw_object_end(&w);
    if (jsonw_end(&w) < 0)
        return err_set(err, ERR_EXHAUSTED, "the answer is too long");
    puts(buf_cstr(&text));
    return 0;
}

static void print_text(struct cli *cli, const status_response *m)
{
    printf("Firewall: %s%s%s\n", out_color(cli, m->running ? OUT_GREEN : OUT_RED), m->running ? "running" : "stopped", out_color(cli, OUT_PLAIN));
    printf("Gate:     %s (%s)\n", m->envoy_health ? "healthy" : "unhealthy", m->envoy_ip);
    printf("DNS:      %s (%s)\n", m->coredns_health ? "healthy" : "unhealthy", m->coredns_ip);
    printf("Rules:    %d active\n", m->rule_count);
    printf("Network:  %s\n", m->network_id);
}

static void print_off(struct cli *cli, const struct err *why)
{
    AUTO_FREE char *text = out_clean(str_from(why->msg));

    printf("Firewall: off%s\n", cli->settings.firewall_off ? " (firewall.enable: false in settings.yaml)" : "");
    out_note(cli, "%s", text);
    if (*why->hint) {
        AUTO_FREE char *hint = out_clean(str_from(why->hint));
        out_note(cli, "hint: %s", hint);
    }
}

static int run_status(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct firewall_options *o = options;
    Davit__Admin__V1__FirewallStatusRequest q = DAVIT__ADMIN__V1__FIREWALL_STATUS_REQUEST__INIT;
    status_response none = DAVIT__ADMIN__V1__FIREWALL_STATUS_RESPONSE__INIT;
    ProtobufCMessage *message = NULL;
    struct err why = ERR_INIT;
    (void)operands;
    (void)n;
    int rc = cli_call(cli, &davit_admin_v1_admin_service, "FirewallStatus", &q.base, CALL_TIMEOUT, &message, &why);
    /* That it is not set up is what was asked; without keys nobody was asked. */
    bool off = rc == -ERR_PRECONDITION && cli->channel;
    if (rc < 0 && !off) {
        *err = why;
        return rc;
    }
    const status_response *m = off ? &none : (const void *)message;
    rc = 0;
    if (o->quiet)
        puts(m->running ? "running" : "stopped");
    else if (cli->json)
        rc = print_json(m, off ? why.msg : "", err);
    else if (off)
        print_off(cli, &why);
    else
        print_text(cli, m);
    (void)rpc_message_free(message);
    return rc;
}

static const struct verb subs[] = {
    {
        .name = "status",
        .usage = "[OPTIONS]",
        .about = "is what sandboxes send filtered?",
        .example = "davit firewall status\ndavit firewall status --output json",
        .opts = status_opts,
        .opts_size = sizeof(struct firewall_options),
        .run = run_status,
        .wakes = true,
    },
    {.name = NULL},
};

const struct verb verb_firewall = {
    .name = "firewall",
    .group = "Sandboxes",
    .about = "status: the filter of what sandboxes send",
    .sub = subs,
};
