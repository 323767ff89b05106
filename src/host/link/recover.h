/* SPDX-License-Identifier: Apache-2.0 */
/* recover — the way back for a server whose certificate ran out or is not taken any more: new credentials for who proves to hold the old key.
 * No certificate is shown: TLS proves the control plane by the roots we have, and it proves itself once more by signing a nonce of ours (where an
 * edge ends TLS, only that counts); the old key signs the control plane's nonce together with the request for a new key.
 * Thread: loop, on a fiber.  Input trust: peer; what it grants is checked as any credentials are (renew.c). */
#ifndef DAVIT_HOST_LINK_RECOVER_H
#define DAVIT_HOST_LINK_RECOVER_H

#include "davit/link/v1/link.davit.h"
#include "host/link/agent_config.h"
#include "rpc/rpc.h"

#define RECOVER_WAIT (20 * USEC_SEC)

/* Waits: dials @endpoint without a certificate and asks. @id: the credentials whose key signs; @csr: the request for the new key.
 * 0: *ret is the caller's (rpc_message_free). -ERR_UNAUTHENTICATED, -ERR_DENIED: refused, with advice how to enroll again. Else as a dial. */
int recover_ask(struct loop *loop, const char *endpoint, const char *server_id, const struct agent_identity *id, struct str csr,
                Davit__Link__V1__RecoverResponse **ret, struct err *err) MUST_USE;
/* Waits: the same over a channel that is there, whoever ends its TLS. Of @id the key and the roots are used; @csr empty: the key stays (tunnel
 * mode), and @generation, told if the control plane takes it, is of the last credentials that a link was up with (0: there was none). */
int recover_over(struct rpc_channel *ch, const char *server_id, const struct agent_identity *id, struct str csr, uint32_t generation,
                 Davit__Link__V1__RecoverResponse **ret, struct err *err) MUST_USE;

#endif
