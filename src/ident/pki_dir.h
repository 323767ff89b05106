/* SPDX-License-Identifier: Apache-2.0 */
/* pki_dir — where keys and certificates lie, on both sides, and the steps between them.
 *   user's config directory (0700), the CLI's:       root.key root.crt cli.key cli.crt assertion.key
 *                                                     (old-root.key old-root.crt while the root is changed, see pki_roots.h)
 *   control plane's state directory (0700):           root.crt {server,agents,sandboxes}-ca.{key,csr,crt} controlplane.{key,crt} master.key (seal.h)
 *                                                     assertion.jwk, the public half of the user's assertion.key
 * Keys 0600, certificates 0644. cli.crt is issued by the root itself, so the control plane, which has only intermediates, can mint no CLI; a chain
 * file holds leaf then intermediate.
 * Order at first use: pki_user_init (CLI), pki_control_prepare (control plane or CLI on its behalf), pki_user_sign (CLI), pki_control_leaf
 * (control plane, at every start and daily).  Every step may be repeated: what is there and valid stays, byte for byte.
 * Thread: any; all calls block on files.  Input trust: own files; CSRs of agents come from peers. */
#ifndef DAVIT_IDENT_PKI_DIR_H
#define DAVIT_IDENT_PKI_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"
#include "ident/cert.h"

/* What the CLI signs assertions with (jwt_oauth.h): PKI_ASSERTION.key at the user, PKI_ASSERTION.jwk at the control plane. */
#define PKI_ASSERTION      "assertion"
#define PKI_ASSERTION_KEY  "assertion.key"
#define PKI_ASSERTION_FILE "assertion.jwk"

/* Makes the directory @dir, the user's root and the CLI identity in it; renews cli.crt at two thirds of its life. */
int pki_user_init(const char *dir, struct err *err) MUST_USE;
/* Makes keys and requests of the intermediates in @dir; needs nothing of the user. */
int pki_control_prepare(const char *dir, struct err *err) MUST_USE;
/* Signs the requests in @dir_control with the root in @dir_user; writes the certificates and root.crt there, and
 * the public half of the assertion key, which it makes in @dir_user if there is none. Goes on with a change of the root that
 * a crash interrupted, see pki_roots.h. -ERR_PRECONDITION when @dir_control belongs to another root. */
int pki_user_sign(const char *dir_user, const char *dir_control, struct err *err) MUST_USE;
/* Issues the control plane's own certificate (davit://controlplane, server and client, 90 days) with @names, or renews it at two thirds
 * of its life or when @names changed. 0: the present one stays; 1: a new one was written; -ERR_PRECONDITION: the intermediates are not signed yet. */
int pki_control_leaf(const char *dir, const char *const *names, size_t n_names, struct err *err) MUST_USE;

/* An issued agent certificate. */
struct pki_issued {
    char serial[CERT_SERIAL_SIZE];
    usec_t not_after;
    uint8_t spki_hash[SPKI_HASH_SIZE];
    uint8_t cert_hash[32];
};

/* Certificate davit://server/<server_id> (client only) for the key in @csr_der, valid @lifetime from now; appends leaf and intermediate, and the
 * cross certificate while the root is changed, to @chain_pem. @server_id is a UUID. @generation goes into the common name for people. */
int pki_control_sign_agent(const char *dir, struct str csr_der, const char *server_id, uint32_t generation, usec_t lifetime, struct buf *chain_pem,
                           struct pki_issued *ret, struct err *err) MUST_USE;

/* Certificate davit://sandbox/<sandbox_id> and davit://container/<container_id> (client and server, CERT_SANDBOX_DAYS), as pki_control_sign_agent.
 * -ERR_INVALID: an id that is none. */
int pki_control_sign_sandbox(const char *dir, struct str csr_der, const char *sandbox_id, const char *container_id, struct buf *chain_pem,
                             struct pki_issued *ret, struct err *err) MUST_USE;

/* What to do about what the checks name. */
#define PKI_CURE "davit auth rotate makes all of it anew"
/* The same where something is of a time to come, which is then the reason in the struct err. What is made with a wrong clock helps nobody. */
#define PKI_CLOCK      "clock_wrong"
#define PKI_CLOCK_CURE "it is likely that the clock of this machine is wrong: set it right first"
/* Do the CA, certificates and keys of the control plane in @dir belong together, and are they good now? 0, or -ERR_PRECONDITION: each file
 * that is not as it should be is named, with what is wrong. */
int pki_control_check(const char *dir, struct err *err) MUST_USE;
/* The same of its own certificate (controlplane.crt), which pki_control_leaf makes anew in any case. Absent is fine. */
int pki_control_check_leaf(const char *dir, struct err *err) MUST_USE;
/* The control plane does not run: makes intermediates, its own key and that of its tokens anew under the user's root, whatever @dir has of them,
 * so that whoever believed the root still believes it. Tokens of before open nothing.
 * -ERR_PRECONDITION: it is of another root, in all that is left; or the user's root is of a time to come (PKI_CLOCK). */
int pki_user_repair(const char *dir_user, const char *dir, struct err *err) MUST_USE;

/* Has the control plane all that it needs to serve? 0; 1: prepared, waits for pki_user_sign; 2: empty; negative: as pki_control_check.
 * The authority of sandboxes may be missing: an earlier version made none. */
int pki_control_state(const char *dir, struct err *err) MUST_USE;
/* Was a first pki_user_sign of the user in @dir_user cut off in @dir_control? Then no root.crt is there and nothing of a control plane that served,
 * and what is there belongs together and to the user's root: it may be repeated. */
bool pki_user_unfinished(const char *dir_user, const char *dir_control);
/* Appends the file @name of @dir ("root.crt", "controlplane.crt", ...) to @out. */
int pki_read(const char *dir, const char *name, struct buf *out, struct err *err) MUST_USE;
/* Pin of the root in @dir, of the first where there are two: what join tokens carry. */
int pki_pin(const char *dir, uint8_t ret[SPKI_HASH_SIZE], struct err *err) MUST_USE;

#endif
