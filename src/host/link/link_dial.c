/* SPDX-License-Identifier: Apache-2.0 */
/* link_dial — see link_dial.h. */
#include "host/link/link_dial.h"

#include "net/resolve.h"

int link_tls_pinned(const uint8_t *pin, struct tls_ctx **ret, struct err *err)
{
    struct tls_config config = {.pin = pin, .peer_uri = LINK_PEER_URI, .alpn = "h2"};
    return tls_ctx_new(&config, ret, err);
}

int link_tls_enrolled(const struct agent_config *c, struct tls_ctx **ret, struct err *err)
{
    CLEANUP(agent_identity_release) struct agent_identity id = {0};
    int rc = agent_identity_load(c, &id, err);
    if (rc < 0)
        return rc;
    struct tls_config config = {
        .cert_pem = buf_str(&id.cert_pem),
        .key_pem = secret_reveal(id.key_pem),
        .ca_pem = buf_str(&id.ca_pem),
        .peer_uri = LINK_PEER_URI,
        .alpn = "h2",
    };
    return tls_ctx_new(&config, ret, err);
}

int link_dial(struct loop *loop, const char *endpoint, struct tls_ctx *tls, usec_t keepalive, usec_t deadline, struct rpc_channel **ret,
              struct err *err)
{
    char numeric[NET_ADDR_SIZE];
    if (str_starts(str_from(endpoint), STR("unix:")))
        return rpc_channel_open(loop, endpoint, NULL, keepalive, deadline, ret, err);
    if (!tls)
        return err_set(err, ERR_INVALID, "%s: a link without TLS goes over a unix socket only", endpoint);
    int rc = net_resolve(loop, endpoint, deadline, numeric, sizeof(numeric), err);
    return rc < 0 ? rc : rpc_channel_open(loop, numeric, tls, keepalive, deadline, ret, err);
}
