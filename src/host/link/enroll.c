/* SPDX-License-Identifier: Apache-2.0 */
/* enroll — see enroll.h. */
#include "host/link/enroll.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "davit/link/v1/link.davit.h"
#include "host/link/bundle.h"
#include "host/link/enroll_tunnel.h"
#include "host/link/floor_time.h"
#include "host/link/link_dial.h"
#include "host/link/sysinfo.h"
#include "host/link/tunnel.h"
#include "ident/cert.h"
#include "net/resolve.h"

enum { TOKEN_FILE_MAX = 4096 };

struct enrolment {
    struct loop *loop;
    struct agent_config *config;
    const struct enroll_options *options;
    const struct join_token *token;
    struct tls_ctx *tls;
    struct tunnel_edge *edge; /* tunnel mode, in place of tls */
    struct sysinfo *sysinfo;
    struct key *key;
    struct buf csr;
    char request_id[37];
    struct buf root; /* through an edge: the one that is believed */
    bool fresh;      /* this key was made for this call, and nothing of it can have been accepted */
    Davit__Link__V1__EnrollResponse *answer;
};

static void enrolment_release(struct enrolment *e)
{
    (void)tls_ctx_unref(e->tls);
    (void)tunnel_edge_free(e->edge);
    (void)sysinfo_free(e->sysinfo);
    (void)key_free(e->key);
    buf_release(&e->csr);
    buf_release(&e->root);
    (void)rpc_message_free(e->answer);
}

/* Into the one piece of memory that is wiped: @out has its room already. */
static int read_input(const char *path, struct buf *out, struct err *err)
{
    ssize_t n = 1;
    if (!str_eq(str_from(path), STR("-")))
        return fd_read_file(path, out, err);
    while (n != 0) {
        size_t room = TOKEN_FILE_MAX - out->len;
        if (room == 0)
            return err_set(err, ERR_INVALID, "standard input is longer than a join token");
        n = read(STDIN_FILENO, out->data + out->len, room);
        if (n < 0 && errno != EINTR)
            return err_sys(err, errno, "the token cannot be read from standard input");
        buf_commit(out, n > 0 ? (size_t)n : 0);
    }
    return 0;
}

int enroll_read_token(const char *text, const char *path, struct join_token *ret, struct err *err)
{
    AUTO_SECRET_BUF bytes = BUF_INIT(TOKEN_FILE_MAX);
    if ((text != NULL) == (path != NULL)) {
        (void)err_set(err, ERR_INVALID, "exactly one of --token and --token-file is needed");
        err_hint(err, "--token-file - reads the token from standard input, where no list of processes shows it");
        return -(int)ERR_INVALID;
    }
    if (text)
        return join_token_parse(str_from(text), ret, NULL, err);
    BUG_ON(!buf_reserve(&bytes, TOKEN_FILE_MAX));
    int rc = read_input(path, &bytes, err);
    struct str s = buf_str(&bytes);
    while (s.n > 0 && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == '\r'))
        s.n--;
    if (rc == 0)
        rc = join_token_parse(s, ret, NULL, err);
    return rc;
}

static bool is_tunnel(const struct enroll_options *o)
{
    return str_eq(str_from(o->mode), STR("tunnel"));
}

static int check_options(const struct enroll_options *o, struct err *err)
{
    char host[256];
    unsigned port;
    if (is_tunnel(o)) {
        AUTO_FREE char *hostport = NULL;
        return tunnel_edge_parse(o->server, &hostport, err);
    }
    if (o->tunnel_ca)
        return err_set(err, ERR_INVALID, "tunnel-ca: direct mode needs no roots of others");
    if (o->server && net_split_hostport(o->server, host, &port) == 0)
        return 0;
    (void)err_set(err, ERR_INVALID, "server: \"%s\" is no HOST:PORT", o->server ? o->server : "");
    err_hint(err, "the line that \"davit server add\" printed has it, e.g. cp.example.org:7442");
    return -(int)ERR_INVALID;
}

/* Nothing that works is replaced by accident. */
static int check_place(struct agent_config *c, bool force, struct err *err)
{
    AUTO_FREE char *key = agent_config_path(c, "client.key");
    AUTO_FREE char *fresh = agent_config_path(c, "client.key.new");
    struct err e = ERR_INIT;
    int rc = agent_config_load(c, &e);
    if (force)
        return 0;
    if (rc < 0) {
        if (err)
            *err = e;
        return rc;
    }
    /* Without config.yaml, a key that still has its first name is one whose enrolment was interrupted: the same token finishes it. */
    AUTO_FREE char *bundles = agent_config_cert_path(c, "bundles/current");
    if (rc == 1 && ((access(key, F_OK) != 0 && access(bundles, F_OK) != 0) || access(fresh, F_OK) == 0))
        return 0;
    (void)err_set(err, ERR_EXISTS, "%s holds an enrolment already%s%s", c->dir, *c->server_name ? ", as server " : "", c->server_name);
    err_hint(err, "davit-agent run uses it; --force replaces it");
    return -(int)ERR_EXISTS;
}

static int prepare(struct enrolment *e, struct err *err)
{
    AUTO_FREE char *path = agent_config_path(e->config, "client.key.new");
    struct sysinfo_config si = {
        .loop = e->loop, .docker = e->options->docker, .tailscale = e->options->tailscale, .public_ip_url = e->options->public_ip_url};
    e->fresh = access(path, F_OK) != 0;
    int rc = key_load_or_make(path, &e->key, err);
    if (rc == 0)
        rc = csr_make(e->key, "davit-agent", &e->csr, err);
    if (rc == 0)
        rc = is_tunnel(e->options) ? tunnel_edge_new(e->options->server, e->options->tunnel_ca, &e->edge, err)
                                   : link_tls_pinned(e->token->pin, &e->tls, err);
    if (rc < 0)
        return rc;
    rng_uuid(e->request_id);
    e->sysinfo = sysinfo_new(&si);
    rc = sysinfo_collect(e->sysinfo);
    return rc < 0 ? err_set(err, ERR_CANCELLED, "enrolment was given up") : 0;
}

/* What is said in either mode. */
static void request(struct enrolment *e, Davit__Link__V1__EnrollRequest *m)
{
    m->token_id = (char *)(uintptr_t)e->token->id;
    m->csr_der = (ProtobufCBinaryData){e->csr.len, (uint8_t *)e->csr.data};
    m->request_id = e->request_id;
    m->system = (Davit__Common__V1__SystemInfo *)(uintptr_t)sysinfo_get(e->sysinfo);
}

static int ask(struct enrolment *e, struct rpc_channel *ch, struct err *err)
{
    Davit__Link__V1__EnrollRequest m = DAVIT__LINK__V1__ENROLL_REQUEST__INIT;
    struct str secret = secret_reveal(e->token->secret);
    ProtobufCMessage *answer = NULL;
    request(e, &m);
    m.token_secret = (ProtobufCBinaryData){secret.n, (uint8_t *)(uintptr_t)secret.p};
    int rc = rpc_unary(ch, &davit_link_v1_enroll_service, "Enroll", &m.base, deadline_in(ENROLL_TRY_WAIT), &answer, err);
    e->answer = (Davit__Link__V1__EnrollResponse *)answer;
    return rc;
}

/* Says what a failure to connect means for the token. */
static int explain_dial(const struct enrolment *e, struct err *err)
{
    struct err why = *err;
    if (why.code == ERR_UNAUTHENTICATED) {
        (void)err_set(err, ERR_UNAUTHENTICATED, "another control plane than the token's answers at %s: %s; nothing of the token was sent",
                      e->options->server, why.msg);
        err_hint(err, "check the address; if the control plane was set up anew, or its root was changed, make a new token there");
        return -(int)ERR_UNAUTHENTICATED;
    }
    if (why.code == ERR_UNAVAILABLE || why.code == ERR_DEADLINE || why.code == ERR_NOT_FOUND) {
        (void)err_set(err, ERR_UNAVAILABLE, "the control plane at %s cannot be reached: %s; the token was not used", e->options->server, why.msg);
        err_hint(err, "is davitd running there, and does a firewall let this server reach that port?");
        return -(int)ERR_UNAVAILABLE;
    }
    if (why.code == ERR_CANCELLED || why.code == ERR_INVALID)
        return -(int)why.code;
    /* It speaks, but not as a control plane does: an older TLS, something else on that port. */
    (void)err_set(err, ERR_UNAUTHENTICATED, "what answers at %s is no control plane: %s; nothing of the token was sent", e->options->server, why.msg);
    err_hint(err, "check the address and port: the line that \"davit server add\" printed has them");
    return -(int)ERR_UNAUTHENTICATED;
}

/* One try. *ret_sent: the token left this machine. */
static int try_once(struct enrolment *e, bool *ret_sent, struct err *err)
{
    struct rpc_channel *ch = NULL;
    *ret_sent = false;
    if (e->edge) {
        Davit__Link__V1__EnrollRequest m = DAVIT__LINK__V1__ENROLL_REQUEST__INIT;
        request(e, &m);
        return enroll_tunnel_ask(e->loop, e->edge, e->token, &m, &e->answer, ret_sent, err);
    }
    int rc = link_dial(e->loop, e->options->server, e->tls, 0, deadline_in(ENROLL_TRY_WAIT), &ch, err);
    if (rc < 0)
        return explain_dial(e, err);
    *ret_sent = true;
    rc = ask(e, ch, err);
    (void)rpc_channel_close(ch);
    return rc;
}

static int exchange(struct enrolment *e, struct err *err)
{
    struct err why = ERR_INIT;
    for (unsigned i = 0;; i++) {
        bool sent = false;
        why = ERR_INIT;
        int rc = try_once(e, &sent, &why);
        if (rc == 0)
            return 0;
        bool again = why.code == ERR_UNAVAILABLE || why.code == ERR_DEADLINE;
        if (sent && (again || why.code == ERR_CANCELLED))
            e->fresh = false;
        if (again && i + 1 < ENROLL_TRIES && fiber_sleep(backoff_wait(i, USEC_SEC, 8 * USEC_SEC)) == 0)
            continue;
        if (sent && again) {
            (void)err_wrap(&why, "the control plane did not answer");
            err_hint(&why, "try the same line again: the token stays good for this server's key");
        }
        if (why.code == ERR_UNAUTHENTICATED && !*why.hint)
            err_hint(&why, "make a new token on the control plane with \"davit server token NAME\"");
        if (err)
            *err = why;
        return err_ensure(err, rc);
    }
}

static int bad_answer(struct err *err, const char *what)
{
    (void)err_set(err, ERR_DATA_LOSS, "the answer of the control plane was not accepted: %s", what);
    err_hint(err, "nothing was changed on this server; look at the log of davitd");
    return -(int)ERR_DATA_LOSS;
}

static bool id_ok(struct str id)
{
    for (size_t i = 0; i < id.n; i++)
        if (!strchr("0123456789abcdef-", id.p[i]))
            return false;
    return id.n == 36;
}

static int check_answer(struct enrolment *e, struct err *err)
{
    const Davit__Link__V1__EnrollResponse *a = e->answer;
    struct str chain = str_from(a->certificate_pem), root = str_from(a->ca_pem);
    struct str vouchers = *a->cross_pem ? str_from(a->cross_pem) : chain;
    AUTO_BUF named = BUF_INIT(CERT_PEM_MAX);
    AUTO_CERT cert = NULL;
    struct cert_info leaf;
    struct err why = ERR_INIT;
    if (!id_ok(str_from(a->server_id)))
        return bad_answer(err, "it has no server id");
    if (e->edge)
        return enroll_tunnel_check(a, e->token, e->key, &e->root, &why) < 0 ? bad_answer(err, why.msg) : 0;
    AUTO_FREE char *uri = str_printf("davit://server/%s", a->server_id);
    if (cert_pem_by_pin(root, e->token->pin, &named) != 0)
        return bad_answer(err, "its root is not the one that the token names");
    if (cert_from_pem(chain, &cert, &why) < 0 || cert_info(cert, &leaf, &why) < 0)
        return bad_answer(err, why.msg);
    usec_t when = floor_time_judge(leaf.not_before);
    if (cert_roots_believed(root, buf_str(&named), vouchers, when, &e->root, &why) < 0 ||
        cert_verify_chain(chain, buf_str(&e->root), CERT_CLIENT, when, NULL, &why) < 0)
        return bad_answer(err, why.msg);
    if (!str_eq(str_from(leaf.uri), str_from(uri)))
        return bad_answer(err, "the certificate is for another server");
    if (!cert_fits_key(cert, e->key))
        return bad_answer(err, "the certificate is for another key");
    return 0;
}

/* What an enrolment before left of its mode, and what was learnt of its way. */
static int forget(const struct enrolment *e, struct err *err)
{
    const char *const files[] = {TUNNEL_CARRIER_FILE, TUNNEL_GENERATION_FILE, e->edge ? "client.crt" : TUNNEL_TOKEN_FILE};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        AUTO_FREE char *path = agent_config_path(e->config, files[i]);
        if (unlink(path) != 0 && errno != ENOENT)
            return err_sys(err, errno, "%s cannot be removed", path);
    }
    return bundle_forget(e->config, err);
}

/* A key that nobody certified is of no use: the next try makes another. */
static void drop_key(const struct enrolment *e)
{
    AUTO_FREE char *path = agent_config_path(e->config, "client.key.new");
    if (e->fresh)
        (void)unlink(path);
}

/* config.yaml goes first and comes last: while the files are exchanged this directory counts as not enrolled. The key keeps its first name
 * until then, under which a second call finds it again. */
static int activate(struct enrolment *e, struct err *err)
{
    struct agent_config *c = e->config;
    const Davit__Link__V1__EnrollResponse *a = e->answer;
    BUG_ON(!a);
    AUTO_FREE char *config = agent_config_path(c, "config.yaml");
    AUTO_FREE char *fresh = agent_config_path(c, "client.key.new");
    AUTO_FREE char *key = agent_config_path(c, "client.key");
    AUTO_FREE char *proof = agent_config_path(c, e->edge ? TUNNEL_TOKEN_FILE : "client.crt");
    const char *granted = e->edge ? a->access_token : a->certificate_pem;
    struct str believed = buf_str(&e->root);
    AUTO_FREE char *ca = agent_config_path(c, "ca.crt");
    if (unlink(config) != 0 && errno != ENOENT)
        return err_sys(err, errno, "%s cannot be removed", config);
    int rc = forget(e, err);
    if (rc == 0)
        rc = fd_write_file(proof, granted, strlen(granted), 0600, err);
    if (rc == 0)
        rc = fd_write_file(ca, believed.p, believed.n, 0600, err);
    if (rc == 0 && ((unlink(key) != 0 && errno != ENOENT) || link(fresh, key) != 0))
        rc = err_sys(err, errno, "%s cannot become client.key", fresh);
    if (rc < 0)
        return rc;
    agent_config_set(&c->server_id, a->server_id);
    AUTO_FREE char *name = sysinfo_clean(str_from(a->server_name));
    AUTO_FREE char *trimmed = str_dup(str_trim(str_from(name)));
    agent_config_set(&c->server_name, trimmed);
    agent_config_set(&c->grpc_endpoint, e->edge ? tunnel_edge_hostport(e->edge) : e->options->server);
    agent_config_set(&c->auth_mode, e->edge ? "tunnel" : "mtls");
    agent_config_set(&c->cert_dir, c->dir);
    agent_config_set(&c->public_ip_url, e->options->public_ip_url);
    AUTO_FREE char *roots = e->options->tunnel_ca ? realpath(e->options->tunnel_ca, NULL) : NULL;
    agent_config_set(&c->tunnel_ca, roots ? roots : "");
    agent_config_set(&c->ingress_listen, e->options->ingress_listen);
    agent_config_set(&c->ingress_image, e->options->ingress_image);
    c->generation = a->generation;
    rc = agent_config_save(c, err);
    if (rc == 0 && unlink(fresh) != 0 && errno != ENOENT)
        rc = err_sys(err, errno, "%s cannot be removed", fresh);
    return rc;
}

int enroll(struct loop *loop, struct agent_config *c, const struct enroll_options *o, const struct join_token *token, struct err *err)
{
    CLEANUP(enrolment_release) struct enrolment e = {
        .loop = loop, .config = c, .options = o, .token = token, .csr = BUF_INIT(CSR_MAX), .root = BUF_INIT(CERT_PEM_MAX)};
    AUTO_FD int dir_fd = -1;
    AUTO_FD int machine_fd = -1;
    int rc = check_options(o, err);
    if (rc == 0)
        rc = agent_config_lock(c, &dir_fd, &machine_fd, err);
    if (rc == 0)
        rc = check_place(c, o->force, err);
    floor_time_load(c);
    if (rc == 0)
        rc = prepare(&e, err);
    if (rc == 0 && (rc = exchange(&e, err)) < 0)
        drop_key(&e);
    if (rc == 0)
        rc = check_answer(&e, err);
    return rc < 0 ? rc : activate(&e, err);
}
