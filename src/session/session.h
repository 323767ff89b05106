/* SPDX-License-Identifier: Apache-2.0 */
/* session — davit-session: the half of a sandbox's supervisor that its server's agent dials (port 7700) and speaks davit.session.v1 with. PID 1, its
 * parent, starts the main program and knows how it stands; what the two say to each other is init/wire.h.
 * It opens no file of the image but /etc/passwd and /etc/group, which it reads with a parser of its own (init/account.h): its C library never looks
 * up a name, OpenSSL reads no configuration.
 * Trust: the one peer whose certificate names session_options.peer; it may do anything in here. Whoever else connects is refused in the handshake,
 * and the container's log says why. The main program is hostile: it cannot reach this process but by the output of what the agent runs. */
#ifndef DAVIT_SESSION_SESSION_H
#define DAVIT_SESSION_SESSION_H

#include "base/err.h"

struct session_options {
    const char *listen;   /* ADDR:PORT */
    const char *material; /* folder with cert.pem, key.pem, ca.pem, assertion.jwt */
    const char *peer;     /* SAN URI of who may connect */
    const char *reg;      /* ADDR:PORT of AgentService, numeric; NULL: none */
    const char *agent, *project; /* what the sandbox registers as */
};

/* Runs until PID 1 says that it is over, or is gone: 0. -ERR_PRECONDITION or -ERR_INVALID: configuration or material is wrong, trying again is
 * useless (WIRE_EXIT_CONFIG). Other failures may pass. */
int session_run(const struct session_options *options, struct err *err) MUST_USE;

#endif
