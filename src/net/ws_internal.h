/* SPDX-License-Identifier: Apache-2.0 */
/* ws_internal — what the handshakes of both sides share (ws.c, ws_client.c). Not included outside of src/net. */
#ifndef DAVIT_NET_WS_INTERNAL_H
#define DAVIT_NET_WS_INTERNAL_H

#include "net/ws.h"

enum { WS_KEY_SIZE = 16 };

/* What Sec-WebSocket-Accept must say to @key (base64 text). Freed by the caller. */
char *ws_proof(const char *key) MUST_USE;
/* A WebSocket on @c, which is taken and whose handshake is over. As ws_accept otherwise; never NULL. */
struct ws *ws_on(struct conn *c, bool client, size_t message_max, const struct ws_handler *h, void *arg) MUST_USE;

#endif
