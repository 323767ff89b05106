/* SPDX-License-Identifier: Apache-2.0 */
/* front — see front.h: the listener, and under which address it is reached. What it serves is in front_pages.c. */
#include "control/web/front.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/mem.h"
#include "control/servers/address.h"
#include "control/people/audit.h"
#include "control/web/front_pages.h"
#include "control/servers/servers.h"
#include "control/servers/tunnel.h"
#include "control/web/web_pages.h"
#include "ident/cert.h"
#include "ident/pki_dir.h"
#include "net/endpoint.h"
#include "rpc/rpc.h"

enum { PEM_MAX = 2 * CERT_PEM_MAX };

void front_start(struct control *c)
{
    c->web = rpc_server_new(c->loop, authz_web, c);
    rpc_server_set_around(c->web, audit_around, c);
    rpc_server_set_pages(c->web, web_pages, c);
    rpc_server_take_posts(c->web, "/oauth2/");
    tunnel_mount(c);
    c->local = rpc_server_new(c->loop, authz_local, c);
    rpc_server_set_around(c->local, audit_around, c);
    rpc_server_set_pages(c->local, web_pages_local, c);
    rpc_server_take_posts(c->local, "/oauth2/");
}

/* --- Where it is listened, and what is told of it --- */

char *control_bind(const struct control *c, const char *addr)
{
    const char *port = strrchr(addr, ':');
    if (!*text(c->opt.inside) || !port || str_starts(str_from(addr), STR("unix:")))
        return str_dup(str_from(addr));
    return str_printf("%s%s", c->opt.inside, port);
}

const char *control_told(const struct control *c, const char *bound, const char *addr)
{
    return !bound ? "" : *text(c->opt.inside) && *text(addr) ? addr : bound;
}

/* --- 7441 --- */

void front_open_local(struct control *c)
{
    struct err why = ERR_INIT;
    const char *addr = text(c->opt.local_web_listen);
    if (!*addr || strcmp(addr, "none") == 0)
        return;
    AUTO_FREE char *at = control_bind(c, addr);
    int rc = rpc_server_listen(c->local, at, 0, NULL, &why);
    if (rc == 0)
        log_event(LOG_NOTICE, "dashboard opened", "address", front_local_addr(c), NULL);
    else
        log_err(LOG_WARN, &why, "the dashboard is not served on this machine: see --local-web-listen", NULL);
}

const char *front_local_addr(const struct control *c)
{
    return control_told(c, c->local ? rpc_server_addr(c->local, 0) : NULL, c->opt.local_web_listen);
}

/* --- 7440 --- */

const char *front_addr(const struct control *c)
{
    return control_told(c, c->web ? rpc_server_addr(c->web, 0) : NULL, c->opt.web_listen);
}

int front_open(struct control *c, struct err *err)
{
    struct tls_ctx *tls = NULL;
    int rc = *front_addr(c) ? 0 : control_make_tls(c, TLS_VERIFY_NONE, &tls, err);
    if (rc == 0 && c->stopping)
        rc = err_set(err, ERR_UNAVAILABLE, "the control plane is stopping");
    if (rc == 0 && !*text(c->opt.web_listen))
        rc = err_set(err, ERR_PRECONDITION, "this control plane has no --web-listen");
    /* Another call may have opened it while this one waited. */
    if (rc == 0 && !*front_addr(c)) {
        AUTO_FREE char *at = control_bind(c, c->opt.web_listen);
        rc = rpc_server_listen(c->web, at, 0, tls, err);
        if (rc == 0)
            log_event(LOG_NOTICE, "front opened", "address", front_addr(c), NULL);
        else
            err_hint(err, "servers are installed and updated from this address: see --web-listen");
    }
    (void)tls_ctx_unref(tls);
    return rc;
}

void front_renew(struct control *c)
{
    if (*front_addr(c))
        control_set_tls(c, c->web, front_addr(c), TLS_VERIFY_NONE);
}

/* --- Addresses -------------------------------------------------------------------------------------------------------------------- */

static int put_host(struct buf *out, const char *host, const char *addr)
{
    struct in6_addr v6;
    const char *port = strrchr(addr, ':');
    bool bare6 = inet_pton(AF_INET6, host, &v6) == 1;
    return buf_printf(out, "https://%s%s%s%s", bare6 ? "[" : "", host, bare6 ? "]" : "", port ? port : "");
}

int front_base(const struct control *c, const struct server *s, bool tunnel, struct buf *out, struct err *err)
{
    char bound[ADDRESS_SIZE], own[ADDRESS_SIZE];
    struct endpoint advertised;
    const char *addr = front_addr(c);
    if (!*addr)
        return err_set(err, ERR_PRECONDITION, "the port that servers are installed and updated from (--web-listen) is not open");
    if (tunnel && *text(c->opt.hostname))
        return buf_printf(out, "https://%s", c->opt.hostname);
    address_host(addr, bound);
    /* What listens on one address only is reached there or nowhere. */
    bool one = address_kind_of(bound) != ADDRESS_NONE;
    if (s && s->local)
        return put_host(out, one ? bound : "127.0.0.1", addr);
    if (endpoint_parse(c->opt.advertise, &advertised, NULL) == 0)
        return put_host(out, advertised.host, addr);
    if (one || address_reachable(own) == 0)
        return put_host(out, one ? bound : own, addr);
    if (*text(c->opt.hostname))
        return put_host(out, c->opt.hostname, addr);
    (void)err_set(err, ERR_PRECONDITION, "this control plane has no address that another server could reach");
    err_hint(err, "run: davit up --advertise HOST[:PORT], with an address of this machine in the network of your servers");
    return -(int)ERR_PRECONDITION;
}

int front_url(const struct control *c, const struct server *s, struct buf *out, struct err *err)
{
    return front_base(c, s, str_eq(str_from(s->mode), STR("tunnel")), out, err);
}

struct pin_job {
    const char *dir;
    uint8_t hash[SPKI_HASH_SIZE];
    struct err err;
};

static int pin_on_lane(void *arg)
{
    struct pin_job *j = arg;
    AUTO_BUF pem = BUF_INIT(PEM_MAX);
    int rc = pki_read(j->dir, "controlplane.crt", &pem, &j->err);
    return rc < 0 ? rc : cert_pem_pin(buf_str(&pem), j->hash, &j->err);
}

int front_pin(struct control *c, struct buf *out, struct err *err)
{
    struct pin_job job = {.dir = c->opt.state_dir, .err = ERR_INIT};
    int rc = lane_call(c->fast, pin_on_lane, &job, deadline_in(STORE_WAIT));
    if (rc < 0) {
        if (err)
            *err = job.err;
        return err_ensure(err, rc);
    }
    AUTO_FREE char *text = str_base64(job.hash, sizeof(job.hash));
    return buf_printf(out, "sha256//%s", text);
}

const char *control_web_addr(const struct control *c)
{
    return front_addr(c);
}

const char *control_local_addr(const struct control *c)
{
    return front_local_addr(c);
}
