/* SPDX-License-Identifier: Apache-2.0 */
/* link_dial — see link_dial.h. */
#include "host/link/link_dial.h"

#include "net/resolve.h"

int link_tls_pinned(const uint8_t *pin, struct tls_ctx **ret, struct err *err)
{
    struct tls_config config = {.pin = pin, .peer_uri = LINK_PEER_URI, .alpn = "h2"};
    return tls_ctx_new(&config, ret, err);
}

int link_tls_identity(const struct agent_identity *id, struct tls_ctx **ret, struct err *err)
{
    struct tls_config config = {
        .cert_pem = buf_str(&id->cert_pem),
        .key_pem = secret_reveal(id->key_pem),
        .ca_pem = buf_str(&id->ca_pem),
        .peer_uri = LINK_PEER_URI,
        .alpn = "h2",
    };
    return tls_ctx_new(&config, ret, err);
}

int link_route(struct loop *loop, const char *endpoint, usec_t deadline, char *addr, size_t size, struct proxy **ret, struct err *err)
{
    int rc = proxy_from_env(endpoint, ret, err);
    if (rc < 0)
        return rc;
    if (!*ret)
        return net_resolve(loop, endpoint, deadline, addr, size, err);
    return str_copy(addr, size, str_from(endpoint)) == 0 ? 0 : err_set(err, ERR_INVALID, "%.100s: address too long", endpoint);
}

int link_dial(struct loop *loop, const char *endpoint, struct tls_ctx *tls, usec_t keepalive, usec_t deadline, struct rpc_channel **ret,
              struct err *err)
{
    char addr[NET_ADDR_SIZE];
    struct proxy *proxy = NULL;
    if (str_starts(str_from(endpoint), STR("unix:")))
        return rpc_channel_open(loop, endpoint, NULL, keepalive, deadline, ret, err);
    if (!tls)
        return err_set(err, ERR_INVALID, "%s: a link without TLS goes over a unix socket only", endpoint);
    int rc = link_route(loop, endpoint, deadline, addr, sizeof(addr), &proxy, err);
    if (rc < 0)
        return rc;
    const struct rpc_dial dial = {.addr = addr, .tls = tls, .proxy = proxy, .keepalive = keepalive};
    rc = rpc_channel_open_with(loop, &dial, deadline, ret, err);
    if (rc == -(int)ERR_UNAUTHENTICATED && err && !*err->hint)
        err_hint(err, "if the root of the control plane was changed while this server was away, enroll it again with a new token");
    (void)proxy_unref(proxy);
    return rc;
}
