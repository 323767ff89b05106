/* SPDX-License-Identifier: Apache-2.0 */
/* grpc_server — how a call's answer looks in gRPC over HTTP/2.  Source: grpc/grpc doc/PROTOCOL-HTTP2.md. */
#include <stdio.h>
#include <string.h>

#include "rpc/rpc_internal.h"
#include "rpc/status.h"

static size_t head_fields(const struct rpc_call *c, struct h2_field *fields)
{
    fields[0] = (struct h2_field){":status", "200"};
    fields[1] = (struct h2_field){"content-type", c->json ? "application/grpc+json" : "application/grpc+proto"};
    fields[2] = (struct h2_field){"grpc-accept-encoding", "identity"};
    return 3;
}

int grpc_head(struct rpc_call *c)
{
    if (c->head_sent)
        return 0;
    struct h2_field fields[3];
    size_t n = head_fields(c, fields);
    c->head_sent = true;
    return h2_respond(c->st, fields, n);
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
    struct h2_field fields[8];
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
    if (at) {
        (void)!h2_respond_end(c->st, fields, n);
        return;
    }
    if (grpc_head(c) == 0)
        h2_finish(c->st, fields, n);
}

int envelope(struct rpc_call *c, const ProtobufCMessage *message, struct buf *out)
{
    uint8_t prefix[FRAMES_PREFIX] = {0};
    int rc = buf_append(out, prefix, sizeof(prefix));
    if (rc == 0)
        rc = c->json ? rpc_to_json(message, out, NULL) : rpc_pack(message, out);
    if (rc < 0)
        return rc;
    frames_prefix(out->len - FRAMES_PREFIX, prefix);
    memcpy(out->data, prefix, sizeof(prefix));
    return 0;
}
