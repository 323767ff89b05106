/* SPDX-License-Identifier: Apache-2.0 */
/* enroll — the first contact of a server: one token becomes a certificate.
 * The key is born here, before anything is sent. The control plane proves by the pin in the token who it is before it hears of the token. What
 * it answers is checked before a file changes. A lost answer is asked for again with the same key and token, also by a second call after a
 * crash (the key waits in client.key.new; a refusal leaves none).
 * Thread: loop, on a fiber of a program that does nothing else: file calls block.
 * Input trust: the token is pasted text; the answer is checked as any peer's. */
#ifndef DAVIT_HOST_LINK_ENROLL_H
#define DAVIT_HOST_LINK_ENROLL_H

#include "docker/docker.h"
#include "host/link/agent_config.h"
#include "ident/token.h"

enum { ENROLL_TRIES = 4 };
#define ENROLL_TRY_WAIT (15 * USEC_SEC)

struct enroll_options {
    const char *server;        /* "host:port" of the control plane; in tunnel mode "https://host" of the edge before it */
    const char *mode;          /* "direct" or "tunnel" */
    const char *tunnel_ca;     /* tunnel mode: file with roots for the edge; NULL: the system's */
    const char *public_ip_url; /* NULL: none */
    const char *tailscale;     /* as in sysinfo.h */
    const char *ingress_listen, *ingress_image; /* for the agent's configuration, see agent.h; NULL: what it says there */
    struct docker *docker;     /* borrowed; may be NULL */
    bool force;                /* replaces an enrolment */
};

/* Waits. Fills @c and writes its files. -ERR_EXISTS enrolled already (or an agent runs here), -ERR_INVALID server or token malformed,
 * -ERR_UNAUTHENTICATED refused (or the control plane is another one), -ERR_UNAVAILABLE not reached; each with a hint. */
int enroll(struct loop *loop, struct agent_config *c, const struct enroll_options *o, const struct join_token *token, struct err *err) MUST_USE;

/* Reads a token: @text itself, or from file @path ("-": standard input). Exactly one is given. Blocks. @ret: join_token_release. */
int enroll_read_token(const char *text, const char *path, struct join_token *ret, struct err *err) MUST_USE;

#endif
