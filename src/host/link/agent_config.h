/* SPDX-License-Identifier: Apache-2.0 */
/* agent_config — the agent's directory and what stands in it.
 *   config.yaml  plain `key: value` lines; written last, so that its presence means "enrolled"
 *   client.key   private key, PKCS#8        client.crt  its chain, leaf first        ca.crt  the root of the control plane
 *   bundles      what replaced those three since the enrolment, see bundle.h        last_known_good_time  see floor_time.h
 *   journal.db, journal.key  see journal.h  desired.db  see host/work/desired.h
 *   sandboxes/   see host/contain/contain.h
 *   lock         one agent per directory      health.sock  see agent.h
 * Directory 0700, files 0600.  All calls block: at program start, or in a lane.
 * Ownership: embedded, agent_config_release.  Thread: any, one at a time.
 * Input trust: files of the agent's own user; read strictly all the same: an unknown key, a second one, a bad value is an error with its line.
 * Limits: config.yaml AGENT_CONFIG_MAX bytes. */
#ifndef DAVIT_HOST_LINK_AGENT_CONFIG_H
#define DAVIT_HOST_LINK_AGENT_CONFIG_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/secret.h"
#include "base/str.h"

enum { AGENT_CONFIG_MAX = 16 * 1024, AGENT_VALUE_MAX = 1024 };
#define AGENT_DIR_ROOT "/etc/davit-agent"
#define AGENT_LOCK_MACHINE "/run/davit-agent.lock"

/* No text is NULL; what is not set is "". */
struct agent_config {
    char *dir;           /* absolute */
    char *server_id;
    char *grpc_endpoint; /* "host:port", or "unix:/path"; in tunnel mode the edge's */
    char *auth_mode;     /* "mtls", "tunnel" (see tunnel.h), "local" */
    char *cert_dir;      /* where the three files are; the directory itself unless the user moved them */
    char *server_name;
    char *public_ip_url;
    char *tunnel_ca;     /* tunnel mode: file with the roots that the edge is checked by; "": the system's */
    char *ingress_listen, *ingress_image; /* as agent.h; "": as it says there */
    uint32_t generation; /* of the certificate */
};

/* @dir NULL: the place of the system for root, else ~/.davit-agent by $HOME. Touches nothing. -ERR_PRECONDITION without $HOME. */
int agent_config_init(struct agent_config *c, const char *dir, struct err *err) MUST_USE;
void agent_config_release(struct agent_config *c);
/* Is @c->dir the place of the system, where one agent serves the machine? */
bool agent_config_is_system(const struct agent_config *c);
/* Replaces a text. */
void agent_config_set(char **field, const char *value);

/* Reads config.yaml. 0; 1: there is none (nothing changed). -ERR_INVALID names line and key. */
int agent_config_load(struct agent_config *c, struct err *err) MUST_USE;
/* Writes it whole. -ERR_INVALID for a value with a control character. */
int agent_config_save(const struct agent_config *c, struct err *err) MUST_USE;
/* Appends the lines of @c to @out; takes them apart. Apart for tests and fuzzing. */
int agent_config_format(const struct agent_config *c, struct buf *out, struct err *err) MUST_USE;
int agent_config_parse(struct agent_config *c, struct str text, struct err *err) MUST_USE;

/* "@dir/@name", fresh. */
char *agent_config_path(const struct agent_config *c, const char *name) MUST_USE;
/* The same below cert_dir. */
char *agent_config_cert_path(const struct agent_config *c, const char *name) MUST_USE;

/* The credentials of an enrolled agent. */
struct agent_identity {
    struct secret *key_pem;
    struct buf cert_pem, ca_pem;
    uint32_t generation;
    usec_t not_before, not_after; /* of the certificate */
    bool fallback;                /* those before the active ones, which cannot be read */
};
enum { AGENT_IDENTITY_EXPIRED = 1 };
/* Reads the active ones (see bundle.h; where they cannot be read, the previous ones) and checks them: the key fits the certificate, the chain
 * leads to the root, the name is that of @c->server_id. 0; AGENT_IDENTITY_EXPIRED: all of that holds and the certificate is out of date (@ret is
 * filled, @err says so: good for a recovery, see recover.h). What does not fit is -ERR_PRECONDITION with advice, what is not there
 * -ERR_NOT_FOUND. */
int agent_identity_load(const struct agent_config *c, struct agent_identity *ret, struct err *err) MUST_USE;
/* The same for the previous ones alone, while the active ones have not connected. -ERR_NOT_FOUND: there are none. */
int agent_identity_load_previous(const struct agent_config *c, struct agent_identity *ret, struct err *err) MUST_USE;
void agent_identity_release(struct agent_identity *id);

/* Makes the directory (0700) if it is not there and takes its lock, and for the system's place that of the machine. Descriptors are the
 * caller's; -1 where none was needed. Removes what a crash left half-written. -ERR_EXISTS: another agent runs. */
int agent_config_lock(const struct agent_config *c, int *ret_dir_fd, int *ret_machine_fd, struct err *err) MUST_USE;

#endif
