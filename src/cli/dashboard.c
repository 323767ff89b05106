/* SPDX-License-Identifier: Apache-2.0 */
/* dashboard — see dashboard.h, and the verb. */
#include "cli/dashboard.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "cli/out.h"
#include "davit/control/v1/people.davit.h"
#include "davit/control/v1/people.pb-c.h"

static const usec_t CALL_TIMEOUT = 15 * USEC_SEC;

struct dashboard_options {
    struct cli_common common;
    bool reset;
};

static const struct opt dashboard_opts[] = {
    {.name = "reset", .type = OPT_BOOL, .offset = offsetof(struct dashboard_options, reset),
     .help = "print a link that sets a new password, once; using it ends all sessions"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static int call(struct cli *cli, const char *method, const ProtobufCMessage *request, ProtobufCMessage **ret, struct err *err)
{
    return cli_call(cli, &davit_control_v1_session_service, method, request, CALL_TIMEOUT, ret, err);
}

static int make_link(struct cli *cli, struct dashboard *d, struct err *err)
{
    Davit__Control__V1__CreateSetupLinkRequest req = DAVIT__CONTROL__V1__CREATE_SETUP_LINK_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    int rc = call(cli, "CreateSetupLink", &req.base, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__CreateSetupLinkResponse *m = (const void *)message;
    if (m->url && *m->url)
        d->setup = out_clean(str_from(m->url));
    d->expires = m->expires_us;
    rpc_message_free(message);
    return 0;
}

int dashboard_find(struct cli *cli, bool reset, struct dashboard *ret, struct err *err)
{
    Davit__Control__V1__GetSessionRequest req = DAVIT__CONTROL__V1__GET_SESSION_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    *ret = (struct dashboard){0};
    int rc = call(cli, "GetSession", &req.base, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__GetSessionResponse *m = (const void *)message;
    ret->owner = m->owner_exists;
    if (m->n_urls)
        ret->url = out_clean(str_from(m->urls[0]));
    rpc_message_free(message);
    return ret->url && (reset || !ret->owner) ? make_link(cli, ret, err) : 0;
}

void dashboard_print(const struct dashboard *d)
{
    if (!d->url)
        printf("The dashboard is served nowhere: davit up --local-web-listen 127.0.0.1:7441 serves it on this machine; is that port taken?\n");
    else if (!d->setup)
        printf("Dashboard: %s\n", d->url);
    else
        printf("%s\n  %s\n",
               d->owner ? "This link sets a new password for the dashboard, once, within an hour:"
                        : "Set the password of the dashboard: this link does it, once, within an hour.",
               d->setup);
}

static void print_url(const char *key, const char *url)
{
    AUTO_BUF out = BUF_INIT(4096);
    struct jsonw w;
    jsonw_init(&w, &out);
    jsonw_string(&w, url);
    printf("\"%s\":%s", key, url && jsonw_end(&w) == 0 ? buf_cstr(&out) : "null");
}

void dashboard_print_json(const struct dashboard *d)
{
    print_url("dashboard", d->url);
    printf(",");
    print_url("setup", d->setup);
}

void dashboard_release(struct dashboard *d)
{
    if (d->setup)
        explicit_bzero(d->setup, strlen(d->setup));
    free(d->url);
    free(d->setup);
    *d = (struct dashboard){0};
}

static int run_dashboard(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct dashboard_options *o = options;
    CLEANUP(dashboard_release) struct dashboard d;
    (void)operands;
    (void)n;
    int rc = dashboard_find(cli, o->reset, &d, err);
    if (rc == 0 && !d.url) {
        (void)err_set(err, ERR_PRECONDITION, "the dashboard is served nowhere");
        err_hint(err, "davit up --local-web-listen 127.0.0.1:7441 serves it on this machine; is that port taken?");
        rc = -ERR_PRECONDITION;
    }
    if (rc < 0)
        return rc;
    if (!cli->json) {
        dashboard_print(&d);
        return 0;
    }
    printf("{");
    dashboard_print_json(&d);
    printf(",\"expiresUs\":\"%llu\",\"ownerExists\":%s}\n", (unsigned long long)d.expires, d.owner ? "true" : "false");
    return 0;
}

const struct verb verb_dashboard = {
    .name = "dashboard",
    .group = "This machine",
    .usage = "[OPTIONS]",
    .about = "print the address of the dashboard, or the link that sets its password",
    .example = "davit dashboard\ndavit dashboard --reset",
    .opts = dashboard_opts,
    .opts_size = sizeof(struct dashboard_options),
    .run = run_dashboard,
};
