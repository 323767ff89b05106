/* SPDX-License-Identifier: Apache-2.0 */
/* tunnel — agents that come through an edge that ends TLS: links, enrolment and recovery on the listener of 7440. Who calls shows an access token
 * (access.h) instead of a certificate, and proves on each connection that it has the key of that token (ident/channel.h); from then on every
 * message travels sealed, and what links.h says of links holds for these as well. A link does not outlive its access token.
 * What an edge does ends a link without more: it ends connections as it likes, so a link that comes and goes says nothing in the log.
 * Limits: before the proof held TUNNEL_EARLY_MAX messages of TUNNEL_EARLY_BYTES; LINK_HELLO_WAIT for all of it; per server (and for all that are
 * none of ours together) TUNNEL_BURST handshakes, one more each TUNNEL_EVERY, counted before anything is signed.
 * Thread: loop.  Input trust: peer and edge. */
#ifndef DAVIT_CONTROL_TUNNEL_H
#define DAVIT_CONTROL_TUNNEL_H

#include "control/control_internal.h"

enum { TUNNEL_EARLY_MAX = 4, TUNNEL_EARLY_BYTES = 64 * 1024, TUNNEL_BURST = 20 };
#define TUNNEL_EVERY USEC_SEC

/* Serves what an agent in tunnel mode calls on c->web, which asks authz_web. */
void tunnel_mount(struct control *c);

#endif
