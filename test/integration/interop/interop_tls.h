/* SPDX-License-Identifier: Apache-2.0 */
/* interop_tls — options --ca, --cert, --key of both test programs, made into a TLS context. */
#ifndef INTEROP_TLS_H
#define INTEROP_TLS_H

#include "base/buf.h"
#include "base/fd.h"
#include "net/tls.h"

enum { PEM_MAX = 64 * 1024 };

struct interop_tls {
    const char *ca, *cert, *key; /* files; NULL: not used */
    const char *host;            /* client: name or address that the peer's certificate must carry */
    bool server;
    bool client_cert; /* server: ask for one and require it */
};

/* Appends the file at @path to @out; nothing for NULL. */
static inline int interop_read(const char *path, struct buf *out, struct err *err)
{
    return path ? fd_read_file(path, out, err) : 0;
}

/* *ret is NULL when no file was named: plain. */
static inline int interop_tls_make(const struct interop_tls *t, struct tls_ctx **ret, struct err *err)
{
    AUTO_BUF ca = BUF_INIT(PEM_MAX), cert = BUF_INIT(PEM_MAX), key = BUF_INIT(PEM_MAX);
    *ret = NULL;
    if (!t->ca && !t->cert)
        return 0;
    int rc = interop_read(t->ca, &ca, err);
    if (rc == 0)
        rc = interop_read(t->cert, &cert, err);
    if (rc == 0)
        rc = interop_read(t->key, &key, err);
    if (rc < 0)
        return rc;
    const struct tls_config config = {.server = t->server,
                                      .ca_pem = buf_str(&ca),
                                      .cert_pem = buf_str(&cert),
                                      .key_pem = buf_str(&key),
                                      .verify = t->client_cert ? TLS_VERIFY_REQUIRED : TLS_VERIFY_NONE,
                                      .verify_host = t->host,
                                      .alpn = t->server ? "h2,http/1.1" : "h2"};
    return tls_ctx_new(&config, ret, err);
}

#endif
