/* SPDX-License-Identifier: Apache-2.0 */
/* tls_internal — what conn_tls needs of a context. Not included outside of src/net. */
#ifndef DAVIT_NET_TLS_INTERNAL_H
#define DAVIT_NET_TLS_INTERNAL_H

#include <openssl/ssl.h>

#include "net/tls.h"

/* A session on @ctx, of which it holds no reference of its own. @server_name: SNI of a client, NULL or a numeric address: none sent. */
int tls_session_new(struct tls_ctx *ctx, const char *server_name, SSL **ret, struct err *err) MUST_USE;
/* Turns what OpenSSL has to say about @ssl into @err; @code when it says nothing better. Empties OpenSSL's error queue. */
int tls_fail(SSL *ssl, enum err_code code, const char *what, struct err *err);
/* What the peer's certificate says. */
void tls_peer_read(SSL *ssl, struct tls_peer *ret);
/* After the handshake and tls_peer_read: gives back what only the handshake needed. */
void tls_session_trim(SSL *ssl);

#endif
