/* SPDX-License-Identifier: Apache-2.0 */
/* server_credentials — see server_credentials.h. */
#include "cli/server_credentials.h"

#include <stdio.h>

#include "cli/out.h"
#include "davit/control/v1/credentials.davit.h"
#include "davit/control/v1/credentials.pb-c.h"

enum { JSON_MAX = 16 * 1024 * 1024 };
static const usec_t CALL_TIMEOUT = 15 * USEC_SEC, ROTATE_TIMEOUT_MAX = 24 * USEC_HOUR;

#define AT(field) offsetof(struct server_rotate_options, field)
const struct opt server_rotate_opts[] = {
    {.name = "all", .type = OPT_BOOL, .offset = AT(all), .help = "all servers"},
    {.name = "timeout", .type = OPT_USEC, .offset = AT(timeout), .min = 1000000, .max = 3600000000, .arg = "TIME", .def = "1m",
     .help = "how long to wait for each"},
    {.name = "max-parallel", .type = OPT_INT, .offset = AT(max_parallel), .min = 1, .max = 256, .arg = "N", .def = "16",
     .help = "how many at a time"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

int server_revoke_run(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    Davit__Control__V1__RevokeRequest req = DAVIT__CONTROL__V1__REVOKE_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    (void)options;
    (void)n;
    req.server = (char *)(uintptr_t)operands[0];
    int rc = cli_call(cli, &davit_control_v1_credential_service, "Revoke", &req.base, CALL_TIMEOUT, &message, err);
    if (rc < 0)
        return rc;
    rpc_message_free(message);
    if (cli->json) {
        printf("{\"revoked\":true}\n");
    } else {
        printf("Nothing that server %s has opens anything any more; its link is cut. Its containers go on.\n", operands[0]);
        out_note(cli, "`davit server token %s` makes a token with which it can come back.", operands[0]);
    }
    return 0;
}

struct tally {
    unsigned done, failed;
    struct buf json; /* the outcomes, with commas between */
};

static void tally_release(struct tally *t)
{
    buf_release(&t->json);
}

static int show(const struct cli *cli, const Davit__Control__V1__RotateResponse *r, struct tally *t, struct err *err)
{
    bool failed = r->state == DAVIT__CONTROL__V1__ROTATE_STATE__ROTATE_STATE_FAILED;
    t->failed += failed;
    t->done += r->state == DAVIT__CONTROL__V1__ROTATE_STATE__ROTATE_STATE_DONE;
    bool asked = r->state == DAVIT__CONTROL__V1__ROTATE_STATE__ROTATE_STATE_ASKED;
    if (cli->json)
        return asked || (t->json.len && buf_append_byte(&t->json, ',') < 0) ? 0 : rpc_to_json(&r->base, &t->json, err);
    if (asked) {
        out_note(cli, "%s: asked", r->server);
    } else if (!failed) {
        printf("%s: connected with generation %u\n", r->server, r->generation);
    } else {
        AUTO_FREE char *why = out_clean(str_from(r->failure ? r->failure->message : ""));
        AUTO_FREE char *hint = out_clean(str_from(r->failure ? r->failure->hint : ""));
        printf("%s: failed: %s%s%s%s\n", r->server, why, *hint ? " (" : "", hint, *hint ? ")" : "");
    }
    (void)fflush(stdout);
    return 0;
}

static int follow(struct cli *cli, const Davit__Control__V1__RotateRequest *req, struct tally *t, struct err *err)
{
    struct rpc_stream *stream = NULL;
    usec_t deadline = deadline_in(ROTATE_TIMEOUT_MAX);
    int rc = rpc_stream_open(cli->channel, &davit_control_v1_credential_service, "Rotate", deadline, &stream, err);
    if (rc == 0)
        rc = rpc_stream_put(stream, &req->base, deadline, err);
    if (rc == 0)
        rpc_stream_half_close(stream);
    while (rc == 0) {
        ProtobufCMessage *message = NULL;
        if ((rc = rpc_stream_get(stream, deadline, &message, err)) == 0)
            rc = show(cli, (const Davit__Control__V1__RotateResponse *)(const void *)message, t, err);
        rpc_message_free(message);
    }
    rpc_stream_close(stream);
    return rc < 0 ? rc : 0;
}

int server_rotate_run(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct server_rotate_options *o = options;
    Davit__Control__V1__RotateRequest req = DAVIT__CONTROL__V1__ROTATE_REQUEST__INIT;
    CLEANUP(tally_release) struct tally t = {.json = BUF_INIT(JSON_MAX)};

    if (o->all == (n > 0))
        return err_set(err, ERR_INVALID, o->all ? "name a server or give --all, not both" : "name a server, or give --all");
    if (n)
        req.server = (char *)(uintptr_t)operands[0];
    req.all = o->all;
    req.timeout_s = (uint32_t)(o->timeout / USEC_SEC);
    req.max_parallel = (uint32_t)o->max_parallel;
    int rc = cli_connect(cli, err);
    if (rc == 0)
        rc = follow(cli, &req, &t, err);
    if (rc < 0)
        return rc;
    if (cli->json)
        printf("{\"servers\":[%s]}\n", buf_cstr(&t.json));
    else if (o->all)
        printf("%u renewed, %u failed\n", t.done, t.failed);
    return t.failed ? 1 : 0;
}

char *server_credentials_text(const Davit__Control__V1__Server *s)
{
    AUTO_FREE char *until = out_time(s->certificate_expires_us);
    if (s->revoked)
        return str_dup(STR("revoked"));
    if (s->generation == 0)
        return str_dup(STR("-"));
    AUTO_FREE char *next = s->generation > s->generation_connected ? str_printf(" (%u issued)", s->generation) : str_dup(STR(""));
    return str_printf("generation %u%s, until %s", s->generation_connected, next, until);
}

char *server_duplicate_text(const Davit__Control__V1__Server *s)
{
    const Davit__Control__V1__Duplicate *d = s->duplicate;
    if (!d)
        return NULL;
    AUTO_FREE char *age = out_age(d->seen_us);
    return str_printf("%s (%s) with generation %u, turned away %s ago; connected: %s", *d->address ? d->address : "this machine", d->hostname,
                      d->generation, age, *d->connected_address ? d->connected_address : "this machine");
}
