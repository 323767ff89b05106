/* SPDX-License-Identifier: Apache-2.0 */
/* servers_rpc — ServerService: what users do with servers, and the line that they paste on a new one. */
#include <arpa/inet.h>
#include <string.h>

#include "base/mem.h"
#include "control/servers/enroll.h"
#include "control/web/front.h"
#include "control/servers/releases.h"
#include "control/servers/servers.h"
#include "ident/proof.h"
#include "ident/token.h"
#include "net/endpoint.h"

enum { TOKEN_TTL_S = 3600, TOKEN_TTL_MAX_S = 7 * 24 * 3600, TOKEN_TTL_MIN_S = 10 };

#define REQUEST(type, m) ((const Davit__Control__V1__##type *)(m))

/* --- The install line --------------------------------------------------------------------------------------------------------- */

/* Port of the link listener: as bound, or as it will be. */
static struct str link_port(const struct control *c)
{
    struct str addr = str_from(*control_link_addr(c) ? control_link_addr(c) : c->opt.link_listen);
    size_t i = addr.n;
    while (i && addr.p[i - 1] != ':')
        i--;
    return (struct str){addr.p + i, addr.n - i};
}

static int append_host(struct buf *out, const char *host, struct str port)
{
    struct in6_addr v6;
    bool bare6 = inet_pton(AF_INET6, host, &v6) == 1;
    return buf_printf(out, "%s%s%s:" STR_FMT, bare6 ? "[" : "", host, bare6 ? "]" : "", STR_ARG(port));
}

static int check_mode(const char *mode, struct err *err)
{
    if (!*mode || str_eq(str_from(mode), STR("direct")) || str_eq(str_from(mode), STR("tunnel")))
        return 0;
    return err_set(err, ERR_INVALID, "mode: \"%.32s\" is unknown; direct or tunnel", mode);
}

static int no_address(const char *want, struct err *err)
{
    if (str_eq(str_from(want), STR("tunnel"))) {
        (void)err_set(err, ERR_PRECONDITION, "this control plane has no public name through which a tunnel could lead");
        err_hint(err, "run: davit up --hostname NAME, with the name under which the proxy in front of it is reached");
    } else {
        (void)err_set(err, ERR_PRECONDITION, "this control plane has no address that another server could reach");
        err_hint(err, "run: davit up --advertise HOST[:PORT], with an address of this machine in the network of your servers");
    }
    return -(int)ERR_PRECONDITION;
}

int servers_install_target(const struct control_options *opt, const char *want, struct str port, const char *own, const char **ret_mode,
                           struct buf *out, struct err *err)
{
    struct endpoint given;
    bool advertised = endpoint_parse(opt->advertise, &given, NULL) == 0;
    bool tunnel = str_eq(str_from(want), STR("tunnel")), direct = *want && !tunnel;
    char bound[ADDRESS_SIZE];
    /* What listens on one address only is reached there or nowhere. */
    address_host(text(opt->link_listen), bound);
    enum address_kind kind = address_kind_of(bound);
    const char *host = advertised ? given.host : kind > ADDRESS_LOCAL ? bound : kind == ADDRESS_LOCAL ? "" : own;
    *ret_mode = "direct";
    if (!tunnel && advertised && given.port)
        return buf_printf(out, given.v6 ? "[%s]:%u" : "%s:%u", given.host, given.port);
    if (!tunnel && *host)
        return append_host(out, host, port);
    if (!direct && *text(opt->hostname)) {
        *ret_mode = "tunnel";
        return buf_printf(out, "https://%s", opt->hostname);
    }
    if (!tunnel && kind == ADDRESS_LOCAL)
        return append_host(out, bound, port);
    return no_address(want, err);
}

static int choose_mode(const struct control *c, const char *want, const char **ret_mode, struct buf *out, struct err *err)
{
    char own[ADDRESS_SIZE];
    (void)address_reachable(own); /* none: "" */
    return servers_install_target(&c->opt, want, link_port(c), own, ret_mode, out, err);
}

/* Fetched from here and checked by the key of this listener, where there is a release to fetch; else for a machine that has the agent. The token
 * travels in the environment: what stands on a command line is seen by all. */
static int install_line(struct control *c, struct buf *out, const char *mode, const char *target, struct str token, bool again, struct err *err)
{
    const char *force = again ? " --force" : "";
    AUTO_BUF base = BUF_INIT(512);
    AUTO_BUF pin = BUF_INIT(128);
    bool tunnel = str_eq(str_from(mode), STR("tunnel"));
    int rc = front_open(c, err);
    if (rc < 0 && tunnel)
        return rc;
    if (rc == 0 && releases_refresh(c->releases, NULL) == 0 && releases_newest(c->releases) &&
        front_base(c, NULL, tunnel, &base, NULL) == 0) {
        rc = tunnel ? 0 : front_pin(c, &pin, err);
        if (rc == 0)
            rc = buf_printf(out,
                            "(export DAVIT_TOKEN='" STR_FMT "'; curl -fsSL %s%s%s%s/install.sh"
                            " | sudo --preserve-env=DAVIT_TOKEN sh -s -- --mode %s --server %s%s)",
                            STR_ARG(token), tunnel ? "" : "-k --pinnedpubkey '", buf_cstr(&pin), tunnel ? "" : "' ", buf_cstr(&base), mode,
                            target, force);
        return rc;
    }
    return buf_printf(out,
                      "printf '%%s\\n' '" STR_FMT
                      "' | sudo davit-agent enroll --mode %s --server %s%s --token-file - && sudo davit-agent run",
                      STR_ARG(token), mode, target, force);
}

struct fresh {
    struct join_token token;
    struct secret *text;
    uint8_t hash[TOKEN_HASH_SIZE];
    struct secret *mac_key;
    usec_t expires;
    const char *mode;
    struct buf target, line;
};

static void fresh_release(struct fresh *f)
{
    join_token_release(&f->token);
    f->text = secret_free(f->text);
    f->mac_key = secret_free(f->mac_key);
    if (f->line.data)
        explicit_bzero(f->line.data, f->line.cap);
    buf_release(&f->line);
    buf_release(&f->target);
}

/* What a token is for. */
struct fresh_ask {
    uint64_t ttl_s;
    const char *mode; /* "": by rule */
    bool again;       /* the machine was enrolled before */
};

/* Token, its hash and its line. Released by the caller also on failure. */
static int fresh_make(struct control *c, const struct fresh_ask *a, struct fresh *f, struct err *err)
{
    const uint64_t ttl_s = a->ttl_s;
    *f = (struct fresh){.target = BUF_INIT(512), .line = BUF_INIT(2048)};
    if (ttl_s && (ttl_s < TOKEN_TTL_MIN_S || ttl_s > TOKEN_TTL_MAX_S))
        return err_set(err, ERR_INVALID, "token_ttl: %llu s are not allowed; %d s to 7 days", (unsigned long long)ttl_s,
                       TOKEN_TTL_MIN_S);
    int rc = check_mode(a->mode, err);
    if (rc == 0)
        rc = choose_mode(c, a->mode, &f->mode, &f->target, err);
    if (rc == 0 && str_eq(str_from(f->mode), STR("direct")))
        rc = control_open_link(c, err);
    if (rc < 0)
        return err_ensure(err, rc);
    /* The port may be known only now. */
    buf_clear(&f->target);
    rc = choose_mode(c, a->mode, &f->mode, &f->target, err);
    if (rc < 0)
        return err_ensure(err, rc);
    join_token_make(c->pin, &f->token);
    f->text = join_token_text(&f->token);
    token_secret_hash(secret_reveal(f->token.secret), f->hash);
    f->mac_key = proof_mac_key(secret_reveal(f->token.secret));
    f->expires = clock_real() + (ttl_s ? ttl_s : TOKEN_TTL_S) * USEC_SEC;
    rc = install_line(c, &f->line, f->mode, buf_cstr(&f->target), secret_reveal(f->text), a->again, err);
    if (rc < 0)
        return err_ensure(err, rc);
    enroll_expect(c->enroll, f->token.id, f->expires, clock_real());
    return 0;
}

/* --- Handlers -------------------------------------------------------------------------------------------------------------------- */

static int reply(struct rpc_call *call, const ProtobufCMessage *m, struct err *err)
{
    return rpc_send(call, m) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

static int check_profile(int profile, struct err *err)
{
    if (profile < 0 || profile > DAVIT__CONTROL__V1__SERVER_PROFILE__SERVER_PROFILE_LOCAL)
        return err_set(err, ERR_INVALID, "profile: %d is unknown; public, local or unknown", profile);
    return 0;
}

/* A copy of what @s shows now: nothing of it is borrowed while an answer waits. */
static ProtobufCMessage *snapshot(const struct server *s)
{
    struct server_view view;
    ProtobufCMessage *copy = NULL;
    server_describe(s, &view);
    return rpc_copy(&view.m.base, &copy) == 0 ? copy : NULL;
}

static int create_server(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__CreateServerRequest *r = REQUEST(CreateServerRequest, request);
    Davit__Control__V1__CreateServerResponse m = DAVIT__CONTROL__V1__CREATE_SERVER_RESPONSE__INIT;
    struct fresh f;
    struct server *s = NULL;
    if (!str_is_label(str_from(r->name)))
        return err_set(err, ERR_INVALID, "name: \"%.80s\" is not allowed; 1 to 63 of a-z, 0-9 and \"-\", not at the ends",
                       r->name);
    int rc = check_profile((int)r->profile, err);
    if (rc < 0)
        return rc;
    const struct fresh_ask ask = {.ttl_s = r->token_ttl_s, .mode = text(r->mode)};
    rc = fresh_make(c, &ask, &f, err);
    if (rc == 0) {
        struct server_new n = {.name = r->name,
                               .profile =
                                   r->profile ? (int)r->profile : DAVIT__CONTROL__V1__SERVER_PROFILE__SERVER_PROFILE_UNKNOWN,
                               .mode = f.mode,
                               .token_id = f.token.id,
                               .token_hash = f.hash,
                               .token_mac_key = f.mac_key,
                               .token_expires = f.expires};
        rc = servers_add(c, &n, &s, err);
    }
    if (rc == 0) {
        m.server = (Davit__Control__V1__Server *)snapshot(s);
        m.token = lend(secret_reveal(f.text).p);
        m.install_command = lend(buf_cstr(&f.line));
        m.token_expires_us = f.expires;
        rc = reply(call, &m.base, err);
        (void)rpc_message_free(m.server);
    }
    fresh_release(&f);
    return rc;
}

static int list_servers(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    Davit__Control__V1__ListServersResponse m = DAVIT__CONTROL__V1__LIST_SERVERS_RESPONSE__INIT;
    struct server_view *views = mem_zalloc(c->n_servers + 1, sizeof(*views));
    Davit__Control__V1__Server **list = mem_zalloc(c->n_servers + 1, sizeof(*list));
    struct server *s;
    (void)request;
    m.servers = list;
    list_each(s, &c->servers, struct server, node) {
        server_describe(s, &views[m.n_servers]);
        list[m.n_servers] = &views[m.n_servers].m;
        m.n_servers++;
    }
    ProtobufCMessage *copy = NULL;
    int rc = rpc_copy(&m.base, &copy);
    free(list);
    free(views);
    if (rc < 0)
        return err_set(err, ERR_EXHAUSTED, "the list of servers is larger than a message may be");
    rc = reply(call, copy, err);
    (void)rpc_message_free(copy);
    return rc;
}

static int get_server(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    Davit__Control__V1__GetServerResponse m = DAVIT__CONTROL__V1__GET_SERVER_RESPONSE__INIT;
    struct server *s = NULL;
    int rc = servers_find(ctx, REQUEST(GetServerRequest, request)->server, &s, err);
    if (rc < 0)
        return rc;
    m.server = (Davit__Control__V1__Server *)snapshot(s);
    if (!m.server)
        return err_set(err, ERR_EXHAUSTED, "the server is larger than a message may be");
    rc = reply(call, &m.base, err);
    (void)rpc_message_free(m.server);
    return rc;
}

static int set_preferred(struct server *s, const char *address, struct err *err)
{
    if (!*text(address))
        return 0;
    if (str_eq(str_from(address), STR("auto"))) {
        s->preferred[0] = '\0';
        return 0;
    }
    if (address_kind_of(address) <= ADDRESS_LOCAL)
        return err_set(err, ERR_INVALID,
                       "preferred_address: \"%.64s\" is not an address that others could use; an IP address, or auto", address);
    (void)str_copy(s->preferred, sizeof(s->preferred), str_from(address));
    return 0;
}

static int update_server(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__UpdateServerRequest *r = REQUEST(UpdateServerRequest, request);
    Davit__Control__V1__UpdateServerResponse m = DAVIT__CONTROL__V1__UPDATE_SERVER_RESPONSE__INIT;
    struct server *s = NULL;
    int rc = servers_find(c, r->server, &s, err);
    if (rc == 0)
        rc = check_profile((int)r->profile, err);
    if (rc < 0)
        return rc;
    int old_profile = s->profile;
    char old_preferred[ADDRESS_SIZE];
    memcpy(old_preferred, s->preferred, sizeof(old_preferred));
    rc = set_preferred(s, r->preferred_address, err);
    if (rc < 0)
        return rc;
    if (r->profile)
        s->profile = (int)r->profile;
    (void)server_ref(s);
    rc = servers_save(c, s, err);
    if (rc < 0) {
        s->profile = old_profile;
        memcpy(s->preferred, old_preferred, sizeof(old_preferred));
    } else {
        server_changed(s);
        m.server = (Davit__Control__V1__Server *)snapshot(s);
        rc = reply(call, &m.base, err);
        (void)rpc_message_free(m.server);
    }
    server_unref(s);
    return rc;
}

static int create_token(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__CreateTokenRequest *r = REQUEST(CreateTokenRequest, request);
    Davit__Control__V1__CreateTokenResponse m = DAVIT__CONTROL__V1__CREATE_TOKEN_RESPONSE__INIT;
    struct server *s = NULL;
    struct fresh f;
    int rc = servers_find(c, r->server, &s, err);
    if (rc < 0)
        return rc;
    if (s->local) {
        (void)err_set(err, ERR_PRECONDITION, "server \"%s\" is this machine; its agent needs no token", s->name);
        err_hint(err, "add another server with: davit server add NAME");
        return -(int)ERR_PRECONDITION;
    }
    (void)server_ref(s);
    const struct fresh_ask ask = {.ttl_s = r->token_ttl_s, .mode = text(r->mode), .again = s->enrolled != 0};
    rc = fresh_make(c, &ask, &f, err);
    if (rc == 0)
        rc = servers_new_token(c, s, f.token.id, f.hash, f.mac_key, f.expires, err);
    if (rc == 0) {
        m.token = lend(secret_reveal(f.text).p);
        m.install_command = lend(buf_cstr(&f.line));
        m.token_expires_us = f.expires;
        m.replaces = ask.again;
        rc = reply(call, &m.base, err);
    }
    fresh_release(&f);
    server_unref(s);
    return rc;
}

static int remove_server(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    Davit__Control__V1__RemoveServerResponse m = DAVIT__CONTROL__V1__REMOVE_SERVER_RESPONSE__INIT;
    struct server *s = NULL;
    int rc = servers_find(c, REQUEST(RemoveServerRequest, request)->server, &s, err);
    if (rc < 0)
        return rc;
    /* Its agent would come back by the socket at once, as a new server that knows nothing of its services. */
    if (s->local) {
        (void)err_set(err, ERR_PRECONDITION, "server \"%s\" is the machine of this control plane", s->name);
        err_hint(err, "davit down --purge takes Davit off this machine");
        return -(int)ERR_PRECONDITION;
    }
    (void)server_ref(s);
    rc = servers_remove(c, s, err);
    server_unref(s);
    return rc < 0 ? rc : reply(call, &m.base, err);
}

CONTROL_HANDLER(create_server)
CONTROL_HANDLER(list_servers)
CONTROL_HANDLER(get_server)
CONTROL_HANDLER(update_server)
CONTROL_HANDLER(create_token)
CONTROL_HANDLER(remove_server)

const struct rpc_handler servers_handlers[] = {
    {.run = create_server_tracked}, {.run = list_servers_tracked}, {.run = get_server_tracked},
    {.run = update_server_tracked}, {.run = create_token_tracked}, {.run = remove_server_tracked},
};
