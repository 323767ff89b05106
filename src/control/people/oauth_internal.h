/* SPDX-License-Identifier: Apache-2.0 */
/* oauth_internal — what oauth.c (tokens, who may), oauth_pages.c (HTTP) and oauth_store.c share. Not included elsewhere but in tests. */
#ifndef DAVIT_CONTROL_OAUTH_INTERNAL_H
#define DAVIT_CONTROL_OAUTH_INTERNAL_H

#include "control/servers/access.h"
#include "control/people/form.h"
#include "control/people/oauth.h"
#include "control/people/passes.h"
#include "ident/jwt_oauth.h"

enum { TOKEN_ID_SIZE = 33, TOKEN_SEEN_MAX = 64, OAUTH_AUDIENCES = 3 };

/* Who may ask for tokens. */
struct oauth_client {
    const char *id, *file, *old_file; /* of its public key, in the state directory; and of that of before, while the root is changed */
    const char *uri;       /* of the certificate that it comes with */
    enum pass_scope scope; /* the most that it gets */
    struct assertion_rules rules;
};

struct revoked {
    char id[TOKEN_ID_SIZE];
    usec_t expires;
};

/* A token that was judged good. */
struct token_seen {
    uint8_t hash[32]; /* of its text */
    struct oauth_claims claims;
    enum pass_scope scope;
};

struct oauth {
    struct control *c;
    struct jwk keys[ACCESS_KEYS]; /* the one that signs first */
    size_t n_keys;
    char issuer[OAUTH_URL_MAX + 1], endpoint[OAUTH_URL_MAX + 1], second[OAUTH_URL_MAX + 1]; /* second: endpoint of the second port */
    const char *audiences[OAUTH_AUDIENCES]; /* what an assertion may be made for: those above that there are */
    size_t n_audiences;
    usec_t bucket;                          /* of davit-cli */
    usec_t told;                            /* bucket of refusals that are logged */
    unsigned untold;                        /* since the last one that was */
    struct revoked *revoked;
    size_t n_revoked;
    struct token_seen seen[TOKEN_SEEN_MAX]; /* by hash; a newer one takes the place */
};

/* The client, or NULL. Static. */
const struct oauth_client *oauth_client_of(const char *id);
/* A new token for @client, bound to @certificate; appended to @out. */
int oauth_sign(struct oauth *o, const struct oauth_client *client, enum pass_scope scope, const uint8_t certificate[OAUTH_X5T_SIZE],
               struct buf *out, struct err *err) MUST_USE;
/* Is it ours, good now and not revoked? As access_verify. */
int oauth_verify(const struct oauth *o, struct str token, struct oauth_claims *ret, struct err *err) MUST_USE;

/* ---- oauth_pages.c: for exchange.c, too ---- */
/* What one request comes to when it fails: RFC 6749, 5.2. */
struct oauth_failure {
    int status;
    const char *error;
    char why[ERR_MSG_MAX];
    const char *extra, *value; /* a field of the answer, or NULL */
};
/* -1. */
int oauth_fail(struct oauth_failure *f, int status, const char *error, const char *why);
/* Waits: the form that @p posts. 0; -1: @f says why not. */
int oauth_read_form(struct rpc_page *p, struct form *form, struct oauth_failure *f) MUST_USE;
/* The widest of the scopes that @asked names (RFC 6749, 3.3), if none is wider than @most; all of @most where @asked is NULL. 0; -1: @f says why not,
 * @too_wide (borrowed for the call) where one is not to be had. */
int oauth_choose_scope(enum pass_scope most, const char *asked, const char *too_wide, enum pass_scope *ret, struct oauth_failure *f) MUST_USE;
/* @extra (may be NULL) is one more field. */
void oauth_answer(struct rpc_page *p, int status, struct str body, const char *extra, const char *value);
/* The answer, and the audit log. */
void oauth_tell_failure(struct control *c, struct rpc_page *p, const char *action, const struct oauth_failure *f);

/* ---- oauth_store.c ---- */
/* Waits: @id of @client, good until @expires, is used now. 0; 1: it was before; 2: there is no room for more; negative: the store. */
int oauth_use(struct oauth *o, const char *client, const char *id, usec_t expires, struct err *err) MUST_USE;
/* Waits: the token opens nothing any more. 0; 2: no room; negative. */
int oauth_revoke(struct oauth *o, const char *id, usec_t expires, struct err *err) MUST_USE;
bool oauth_is_revoked(const struct oauth *o, const char *id);

#endif
