/* SPDX-License-Identifier: Apache-2.0 */
/* tls — contexts and the verification of peers.
 * The chain is always verified by OpenSSL; what is ours is the choice of the trusted roots (configured, the system's, or the one root of
 * the presented chain whose key has the pinned hash) and the check of the SAN URI. */
#include "net/tls.h"

#include <arpa/inet.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/tls_internal.h"

enum { TLS_PEM_MAX = 4 * 1024 * 1024, TLS_ALPN_MAX = 64 };

struct tls_ctx {
    unsigned refs;
    SSL_CTX *ssl;
    bool server;
    bool pinned;
    bool pin_only; /* no roots but the pinned one */
    uint8_t pin[TLS_PIN_SIZE];
    char *peer_uri;
    char *verify_host;
    uint8_t alpn[TLS_ALPN_MAX]; /* wire form */
    unsigned alpn_n;
};

/* Where distributions keep the bundle of public roots. */
static const char *const root_bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt",                /* Debian, Alpine */
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* Fedora, RHEL */
    "/etc/pki/tls/certs/ca-bundle.crt",                  /* older RHEL */
    "/etc/ssl/ca-bundle.pem",                            /* SUSE */
    "/etc/ssl/cert.pem",                                 /* Alpine, BSD */
};

static void tls_init(void)
{
    static bool done;
    if (!done)
        done = OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) == 1;
    BUG_ON(!done);
}

/* What the peer's alert means (RFC 8446, section 6): most say nothing about who we are. */
static enum err_code code_of_alert(int alert, enum err_code other)
{
    switch (alert) {
    case SSL3_AD_BAD_CERTIFICATE:
    case SSL3_AD_UNSUPPORTED_CERTIFICATE:
    case SSL3_AD_CERTIFICATE_REVOKED:
    case SSL3_AD_CERTIFICATE_EXPIRED:
    case SSL3_AD_CERTIFICATE_UNKNOWN:
    case TLS1_AD_UNKNOWN_CA:
    case TLS1_AD_ACCESS_DENIED:
    case TLS1_AD_DECRYPT_ERROR:
    case TLS13_AD_CERTIFICATE_REQUIRED: return ERR_UNAUTHENTICATED;
    case SSL3_AD_HANDSHAKE_FAILURE:
    case TLS1_AD_PROTOCOL_VERSION:
    case TLS1_AD_INSUFFICIENT_SECURITY:
    case TLS13_AD_MISSING_EXTENSION:
    case TLS1_AD_NO_APPLICATION_PROTOCOL: return ERR_UNIMPLEMENTED; /* no way of speaking in common */
    default: return other;
    }
}

int tls_fail(SSL *ssl, enum err_code code, const char *what, struct err *err)
{
    long verify = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;
    unsigned long e = ERR_peek_error();
    int reason = ERR_GET_REASON(e);
    const char *text = e ? ERR_reason_error_string(e) : NULL;
    int rc;
    if (verify == X509_V_ERR_CERT_UNTRUSTED)
        rc = err_set(err, ERR_UNAUTHENTICATED, "%s: the peer's certificate chain does not have the pinned root", what);
    else if (verify == X509_V_ERR_APPLICATION_VERIFICATION)
        rc = err_set(err, ERR_UNAUTHENTICATED, "%s: the peer's certificate is for somebody else", what);
    else if (verify != X509_V_OK)
        rc = err_set(err, ERR_UNAUTHENTICATED, "%s: the peer's certificate: %s", what, X509_verify_cert_error_string(verify));
    else if (e && (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE || reason == SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED))
        rc = err_set(err, ERR_UNAUTHENTICATED, "%s: no client certificate", what);
    else if (e && reason > SSL_AD_REASON_OFFSET) /* an alert: the peer said so */
        rc = err_set(err, code_of_alert(reason - SSL_AD_REASON_OFFSET, code), "%s: refused by the peer: %s", what,
                     text ? text : "alert");
    else
        rc = err_set(err, code, "%s: %s", what, text ? text : "connection ended");
    ERR_clear_error();
    return rc;
}

static int ssl_error(struct err *err, enum err_code code, const char *what)
{
    return tls_fail(NULL, code, what, err);
}

static bool spki_sha256(X509 *cert, uint8_t dst[TLS_PIN_SIZE])
{
    uint8_t *der = NULL;
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    unsigned md_n = TLS_PIN_SIZE;
    bool ok = n > 0 && EVP_Digest(der, (size_t)n, dst, &md_n, EVP_sha256(), NULL) == 1;
    OPENSSL_free(der);
    return ok;
}

/* --- Verification --------------------------------------------------------------------------------------------------------------- */

static bool has_pin(X509 *cert, const struct tls_ctx *ctx)
{
    uint8_t hash[TLS_PIN_SIZE];
    return spki_sha256(cert, hash) && CRYPTO_memcmp(hash, ctx->pin, sizeof(hash)) == 0;
}

/* The self-signed certificate with the pinned key among those that the peer sent; borrowed. */
static X509 *find_pinned_root(X509_STORE_CTX *store, const struct tls_ctx *ctx)
{
    STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(store);
    for (int i = 0; i < sk_X509_num(sent); i++) {
        X509 *cert = sk_X509_value(sent, i);
        if (X509_self_signed(cert, 1) == 1 && has_pin(cert, ctx))
            return cert;
    }
    return NULL;
}

static bool carries_uri(X509 *cert, const char *uri)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    bool found = false;
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI)
            continue;
        struct str value = {(const char *)ASN1_STRING_get0_data(name->d.uniformResourceIdentifier),
                            (size_t)ASN1_STRING_length(name->d.uniformResourceIdentifier)};
        found = str_eq(value, str_from(uri));
    }
    GENERAL_NAMES_free(names);
    return found;
}

static void not_before_of(X509 *cert, usec_t *when)
{
    struct tm tm = {0};
    time_t t = cert && ASN1_TIME_to_tm(X509_get0_notBefore(cert), &tm) == 1 ? timegm(&tm) : 0;
    if (t > 0 && (usec_t)t * USEC_SEC > *when)
        *when = (usec_t)t * USEC_SEC;
}

/* Where nobody knows how late it is: not before what we know, and not before the certificates were made, which their issuer vouches for. */
static usec_t judged_at(X509_STORE_CTX *store)
{
    usec_t when = clock_checked();
    STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(store);
    if (!clock_unsure())
        return when;
    not_before_of(X509_STORE_CTX_get0_cert(store), &when);
    for (int i = 0; i < sk_X509_num(sent); i++)
        not_before_of(sk_X509_value(sent, i), &when);
    return when;
}

static int verify_chain(X509_STORE_CTX *store, struct tls_ctx *ctx)
{
    X509_STORE_CTX_set_time(store, 0, (time_t)(judged_at(store) / USEC_SEC));
    if (!ctx->pin_only)
        return X509_verify_cert(store);
    X509 *root = find_pinned_root(store, ctx);
    STACK_OF(X509) *trusted = sk_X509_new_null();
    if (!root || !trusted || !sk_X509_push(trusted, root)) {
        sk_X509_free(trusted);
        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
        return 0;
    }
    X509_STORE_CTX_set0_trusted_stack(store, trusted);
    int ok = X509_verify_cert(store);
    X509_STORE_CTX_set0_trusted_stack(store, NULL);
    sk_X509_free(trusted);
    return ok;
}

/* OpenSSL's hook in place of X509_verify_cert: 1 accepted, 0 refused. */
static int on_verify(X509_STORE_CTX *store, void *arg)
{
    struct tls_ctx *ctx = arg;
    if (verify_chain(store, ctx) != 1) {
        if (X509_STORE_CTX_get_error(store) == X509_V_OK)
            X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
        return 0;
    }
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(store);
    if (ctx->pinned && !has_pin(sk_X509_value(chain, sk_X509_num(chain) - 1), ctx)) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
        return 0;
    }
    if (ctx->peer_uri && !carries_uri(sk_X509_value(chain, 0), ctx->peer_uri)) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
        return 0;
    }
    X509_STORE_CTX_set0_verified_chain(store, NULL); /* or the connection would keep it */
    return 1;
}

/* --- Contexts ------------------------------------------------------------------------------------------------------------------- */

/* Keys are never encrypted; without this OpenSSL would ask on the terminal. */
static int no_passphrase(char *dst, int size, int writing, void *arg)
{
    (void)dst;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

static BIO *pem_open(struct str pem)
{
    BIO *bio = pem.n && pem.n <= TLS_PEM_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
    return bio;
}

/* End of a PEM text, as against a broken one. */
static bool pem_ended(void)
{
    unsigned long e = ERR_peek_last_error();
    bool ended = ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
    if (ended)
        ERR_clear_error();
    return ended;
}

static int load_identity(struct tls_ctx *ctx, const struct tls_config *config, struct err *err)
{
    BIO *bio = pem_open(config->cert_pem);
    X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, no_passphrase, NULL) : NULL;
    bool ok = cert && SSL_CTX_use_certificate(ctx->ssl, cert) == 1;
    X509_free(cert);
    while (ok && (cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL))) {
        ok = SSL_CTX_add0_chain_cert(ctx->ssl, cert) == 1;
        if (!ok)
            X509_free(cert);
    }
    ok = ok && pem_ended();
    BIO_free(bio);
    if (!ok)
        return ssl_error(err, ERR_INVALID, "TLS certificate");
    bio = pem_open(config->key_pem);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    ok = key && SSL_CTX_use_PrivateKey(ctx->ssl, key) == 1 && SSL_CTX_check_private_key(ctx->ssl) == 1;
    EVP_PKEY_free(key);
    BIO_free(bio);
    return ok ? 0 : ssl_error(err, ERR_INVALID, "TLS key");
}

static int load_roots(struct tls_ctx *ctx, struct str pem, struct err *err)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ctx->ssl);
    BIO *bio = pem_open(pem);
    X509 *cert;
    unsigned n = 0;
    bool ok = bio;
    while (ok && (cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL))) {
        ok = X509_STORE_add_cert(store, cert) == 1;
        X509_free(cert);
        n++;
    }
    ok = ok && pem_ended() && n;
    BIO_free(bio);
    return ok ? 0 : ssl_error(err, ERR_INVALID, "TLS roots");
}

static int load_system_roots(struct tls_ctx *ctx, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(root_bundles); i++) {
        if (access(root_bundles[i], R_OK) == 0 && SSL_CTX_load_verify_file(ctx->ssl, root_bundles[i]) == 1)
            return 0;
    }
    ERR_clear_error();
    int rc = err_set(err, ERR_PRECONDITION, "this system has no bundle of public root certificates");
    err_hint(err, "install the package ca-certificates");
    return rc;
}

static int set_alpn(struct tls_ctx *ctx, const char *list, struct err *err)
{
    struct str rest = str_from(list);
    while (rest.n) {
        struct str name = str_trim(str_cut(&rest, ','));
        if (name.n == 0 || name.n > 30 || ctx->alpn_n + name.n + 1 > TLS_ALPN_MAX)
            return err_set(err, ERR_INVALID, "ALPN list \"%s\"", list);
        ctx->alpn[ctx->alpn_n] = (uint8_t)name.n;
        memcpy(ctx->alpn + ctx->alpn_n + 1, name.p, name.n);
        ctx->alpn_n += (unsigned)name.n + 1;
    }
    if (!ctx->server && ctx->alpn_n && SSL_CTX_set_alpn_protos(ctx->ssl, ctx->alpn, ctx->alpn_n) != 0)
        return ssl_error(err, ERR_INVALID, "ALPN");
    return 0;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n, const unsigned char *in, unsigned in_n, void *arg)
{
    struct tls_ctx *ctx = arg;
    unsigned char *chosen = NULL;
    (void)ssl;
    if (SSL_select_next_proto(&chosen, out_n, ctx->alpn, ctx->alpn_n, in, in_n) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int set_trust(struct tls_ctx *ctx, const struct tls_config *config, struct err *err)
{
    int mode = SSL_VERIFY_PEER;
    if (config->server && config->verify == TLS_VERIFY_NONE)
        mode = SSL_VERIFY_NONE;
    else if (config->server && config->verify == TLS_VERIFY_REQUIRED)
        mode = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(ctx->ssl, mode, NULL);
    SSL_CTX_set_cert_verify_callback(ctx->ssl, on_verify, ctx);
    if (mode == SSL_VERIFY_NONE)
        return 0;
    if (config->pin) {
        ctx->pinned = true;
        memcpy(ctx->pin, config->pin, TLS_PIN_SIZE);
    }
    ctx->peer_uri = config->peer_uri ? str_dup(str_from(config->peer_uri)) : NULL;
    ctx->verify_host = config->verify_host ? str_dup(str_from(config->verify_host)) : NULL;
    if (config->ca_pem.n)
        return load_roots(ctx, config->ca_pem, err);
    ctx->pin_only = ctx->pinned;
    if (ctx->pin_only)
        return 0;
    if (config->verify_host)
        return load_system_roots(ctx, err);
    return err_set(err, ERR_INVALID, "TLS: neither roots nor a pin to verify the peer with");
}

static int configure(struct tls_ctx *ctx, const struct tls_config *config, struct err *err)
{
    SSL_CTX_set_min_proto_version(ctx->ssl, TLS1_3_VERSION);
    SSL_CTX_set_mode(ctx->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(ctx->ssl,
                        SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(ctx->ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx->ssl, 0);
    SSL_CTX_set_security_level(ctx->ssl, 2);
    SSL_CTX_set_max_cert_list(ctx->ssl, 32 * 1024);
    if (SSL_CTX_set_session_id_context(ctx->ssl, (const unsigned char *)"davit", 5) != 1)
        return ssl_error(err, ERR_INTERNAL, "TLS context");
    if (config->server && config->cert_pem.n == 0)
        return err_set(err, ERR_INVALID, "TLS: a server needs a certificate");
    int rc = config->cert_pem.n ? load_identity(ctx, config, err) : 0;
    if (rc == 0)
        rc = set_trust(ctx, config, err);
    if (rc == 0 && config->alpn)
        rc = set_alpn(ctx, config->alpn, err);
    if (rc == 0 && ctx->server && ctx->alpn_n)
        SSL_CTX_set_alpn_select_cb(ctx->ssl, on_alpn, ctx);
    return rc;
}

int tls_ctx_new(const struct tls_config *config, struct tls_ctx **ret, struct err *err)
{
    tls_init();
    ERR_clear_error();
    struct tls_ctx *ctx = NEW(struct tls_ctx);
    ctx->refs = 1;
    ctx->server = config->server;
    ctx->ssl = SSL_CTX_new(config->server ? TLS_server_method() : TLS_client_method());
    int rc = ctx->ssl ? configure(ctx, config, err) : ssl_error(err, ERR_INTERNAL, "TLS context");
    if (rc < 0) {
        tls_ctx_unref(ctx);
        return rc;
    }
    *ret = ctx;
    return 0;
}

struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx)
{
    ctx->refs++;
    return ctx;
}

struct tls_ctx *tls_ctx_unref(struct tls_ctx *ctx)
{
    if (!ctx || --ctx->refs)
        return NULL;
    SSL_CTX_free(ctx->ssl);
    free(ctx->peer_uri);
    free(ctx->verify_host);
    free(ctx);
    return NULL;
}

/* --- Sessions ------------------------------------------------------------------------------------------------------------------- */

static bool is_address(const char *name)
{
    struct in6_addr any;
    return inet_pton(AF_INET, name, &any) == 1 || inet_pton(AF_INET6, name, &any) == 1;
}

int tls_session_new(struct tls_ctx *ctx, const char *server_name, SSL **ret, struct err *err)
{
    ERR_clear_error();
    SSL *ssl = SSL_new(ctx->ssl);
    bool ok = ssl;
    if (ok && ctx->server)
        SSL_set_accept_state(ssl);
    else if (ok)
        SSL_set_connect_state(ssl);
    if (ok && !ctx->server && server_name && *server_name && !is_address(server_name))
        ok = SSL_set_tlsext_host_name(ssl, server_name) == 1;
    if (ok && ctx->verify_host) {
        X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
        X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        ok = is_address(ctx->verify_host) ? X509_VERIFY_PARAM_set1_ip_asc(param, ctx->verify_host) == 1
                                          : X509_VERIFY_PARAM_set1_host(param, ctx->verify_host, 0) == 1;
    }
    if (!ok) {
        SSL_free(ssl);
        return ssl_error(err, ERR_INTERNAL, "TLS session");
    }
    *ret = ssl;
    return 0;
}

static void read_uri(X509 *cert, char *dst, size_t size)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI)
            continue;
        struct str value = {(const char *)ASN1_STRING_get0_data(name->d.uniformResourceIdentifier),
                            (size_t)ASN1_STRING_length(name->d.uniformResourceIdentifier)};
        /* A NUL inside or a cut would make one name look like another: such a certificate has no URI. */
        if (!memchr(value.p, '\0', value.n) && value.n < size)
            str_copy(dst, size, value);
        break;
    }
    GENERAL_NAMES_free(names);
}

void tls_peer_read(SSL *ssl, struct tls_peer *ret)
{
    *ret = (struct tls_peer){0};
    X509 *cert = SSL_get0_peer_certificate(ssl);
    if (!cert || SSL_get_verify_result(ssl) != X509_V_OK)
        return;
    ret->present = true;
    read_uri(cert, ret->uri, sizeof(ret->uri));
    (void)spki_sha256(cert, ret->spki_sha256);
    unsigned n = sizeof(ret->cert_sha256);
    (void)X509_digest(cert, EVP_sha256(), ret->cert_sha256, &n);
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    int serial_n = ASN1_STRING_length(serial);
    if (serial_n > 0 && (size_t)serial_n * 2 < sizeof(ret->serial))
        str_hex(ASN1_STRING_get0_data(serial), (size_t)serial_n, ret->serial);
    struct tm tm = {0};
    if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) == 1) {
        time_t t = timegm(&tm);
        ret->not_after_us = t > 0 ? (uint64_t)t * USEC_SEC : 0;
    }
    ERR_clear_error();
}

void tls_session_trim(SSL *ssl)
{
    /* The session keeps every certificate that the peer cared to send, up to 32 KB of them, as long as the connection lives. The stack itself
     * is OpenSSL's; there is no other way to empty it. */
    STACK_OF(X509) *sent = SSL_get_peer_cert_chain(ssl);
    while (sk_X509_num(sent) > 0)
        X509_free(sk_X509_pop(sent));
}
