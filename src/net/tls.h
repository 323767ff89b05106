/* SPDX-License-Identifier: Apache-2.0 */
/* tls — one long-lived TLS context per role (OpenSSL 3 behind this wall), TLS 1.3 only.
 * A context is immutable and shared by reference count.  No session tickets (links stay connected), buffers released when idle.
 * openssl.cnf of the host is never read.
 * Identity is by SAN URI ("davit://server/<id>", "davit://controlplane") and by pins, never by host name: a control plane is reached by any
 * address.  verify_host additionally checks a DNS name or IP address against the system's roots, for foreign HTTPS servers.
 * Thread: loop.  Input trust: peer certificates. */
#ifndef DAVIT_NET_TLS_H
#define DAVIT_NET_TLS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct tls_ctx;

enum tls_verify {
    TLS_VERIFY_NONE,     /* server: ask for no client certificate */
    TLS_VERIFY_OPTIONAL, /* server: a certificate that is sent must verify; none is accepted (enrolment) */
    TLS_VERIFY_REQUIRED
};

enum { TLS_PIN_SIZE = 32 };

struct tls_config {
    bool server;
    struct str cert_pem;      /* own chain, leaf first; empty: none (client) */
    struct str key_pem;       /* PKCS#8 */
    struct str ca_pem;        /* roots to trust for the peer; empty with pin: the pinned root of the peer's own chain */
    enum tls_verify verify;   /* server only; a client always verifies */
    const uint8_t *pin;       /* client: SHA-256 of the SPKI that the root of the peer's chain must have; NULL: ca_pem decides */
    const char *peer_uri;     /* client: SAN URI that the peer's leaf must carry; NULL: not checked */
    const char *verify_host;  /* client: DNS name or IP; ca_pem empty = system roots */
    const char *alpn;         /* comma list in order of preference: "h2,http/1.1"; NULL: none */
};

/* 0; -ERR_INVALID for PEM that does not parse or a key that does not fit. Everything in @config is copied. */
int tls_ctx_new(const struct tls_config *config, struct tls_ctx **ret, struct err *err) MUST_USE;
struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx);
/* Accepts NULL. Returns NULL. */
struct tls_ctx *tls_ctx_unref(struct tls_ctx *ctx);

/* What a verified peer certificate says. Strings are empty when absent. */
struct tls_peer {
    bool present;
    char uri[256];              /* first SAN URI of the leaf */
    uint8_t spki_sha256[32];
    uint8_t cert_sha256[32];
    char serial[48];            /* hex */
    uint64_t not_after_us;
};

#endif
