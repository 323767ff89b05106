/* SPDX-License-Identifier: Apache-2.0 */
/* grpc_server — how a call's answer looks in gRPC over HTTP/2.  Source: grpc/grpc doc/PROTOCOL-HTTP2.md. */
#include <stdio.h>

#include "rpc/details.h"
#include "rpc/rpc_internal.h"
#include "rpc/status.h"

enum { OWN_FIELDS = 8 };

static size_t head_fields(const struct rpc_call *c, struct h2_field *fields)
{
    size_t n = 3;
    fields[0] = (struct h2_field){":status", "200"};
    fields[1] = (struct h2_field){"content-type", c->json ? "application/grpc+json" : "application/grpc+proto"};
    fields[2] = (struct h2_field){"grpc-accept-encoding", "identity,gzip"};
    if (call_compresses(c))
        fields[n++] = (struct h2_field){"grpc-encoding", "gzip"};
    return meta_fields(&c->header, fields, n);
}

int grpc_head(struct rpc_call *c)
{
    if (c->head_sent)
        return 0;
    struct h2_field fields[OWN_FIELDS + RPC_META_FIELDS_MAX];
    size_t n = head_fields(c, fields);
    c->head_sent = true;
    return h2_respond(c->st, fields, n);
}

/* What grpc-status-details-bin says, or NULL. */
static char *details_text(const struct err *failure)
{
    AUTO_BUF status = BUF_INIT(DETAILS_MAX);
    return details_status(failure, &status) < 0 ? NULL : meta_base64(buf_str(&status));
}

void grpc_end(struct rpc_call *c, const struct err *failure)
{
    if (!c->st)
        return;
    /* What is queued may never leave: after the deadline nobody waits for it. */
    if (failure && failure->code == ERR_DEADLINE && h2_queued(c->st)) {
        h2_reset(c->st, H2_CANCEL);
        c->st = NULL;
        return;
    }
    char code[8], message[STATUS_TEXT_MAX], hint[STATUS_TEXT_MAX];
    AUTO_FREE char *details = failure ? details_text(failure) : NULL;
    struct h2_field fields[OWN_FIELDS + RPC_META_FIELDS_MAX];
    size_t at = c->head_sent || !failure ? 0 : head_fields(c, fields), n = at;
    (void)snprintf(code, sizeof(code), "%d", failure ? (int)failure->code : 0);
    fields[n++] = (struct h2_field){"grpc-status", code};
    if (failure && failure->msg[0]) {
        status_escape(failure->msg, message);
        fields[n++] = (struct h2_field){"grpc-message", message};
    }
    if (failure && failure->hint[0]) {
        status_escape(failure->hint, hint);
        fields[n++] = (struct h2_field){"davit-hint", hint};
    }
    if (details)
        fields[n++] = (struct h2_field){"grpc-status-details-bin", details};
    n = meta_fields(&c->trailer, fields, n);
    if (at) {
        (void)!h2_respond_end(c->st, fields, n);
        return;
    }
    if (grpc_head(c) == 0)
        h2_finish(c->st, fields, n);
}
