/* SPDX-License-Identifier: Apache-2.0 */
/* people — who may log in to the dashboard: the owner, with a password (ident/password.h) that is set by a one-time link and nothing else. There is
 * no password to begin with, and no page that sets one without that link's secret. What a person may do with a session is all that the API has.
 * Sessions and API tokens themselves are in passes.h; how often a password may be tried is in logins.h.
 * What changes is in the audit log by the same transaction; logins, refused ones and logouts too.
 * Limits: names of 1 to PERSON_NAME_MAX characters of [a-z0-9._@-]; PEOPLE_HASHES passwords are looked at at the same time, PEOPLE_WAITING more wait.
 * Thread: loop; what is said to wait runs on a fiber.  Input trust: anybody. */
#ifndef DAVIT_CONTROL_PEOPLE_H
#define DAVIT_CONTROL_PEOPLE_H

#include "base/secret.h"
#include "control/people/audit.h"
#include "control/people/passes.h"

enum { PERSON_NAME_MAX = 64, PEOPLE_HASHES = 2, PEOPLE_WAITING = 16 };
#define SETUP_LINK_LIFE     USEC_HOUR
#define SETUP_LINK_LIFE_MAX USEC_DAY
#define PERSON_DEFAULT_NAME "owner"

struct people;

/* Nobody. Never NULL. */
struct people *people_new(struct control *c) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct people *people_free(struct people *p);
/* At start, blocks. */
int people_load(struct people *p, struct err *err) MUST_USE;
bool people_have_owner(const struct people *p);
/* "owner" while it is not set; borrowed. */
const char *people_owner(const struct people *p);

/* What a call of a stranger brings along. Texts are borrowed. */
struct people_door {
    struct rpc_call *call;
    bool local;
    char host[ADDRESS_SIZE];        /* where it comes from */
    char agent[PASS_AGENT_MAX + 1]; /* clean */
    char before[PASS_ID_SIZE];      /* the session of the cookie that came along; "" none */
};

/* Waits: makes the secret of a new link, which voids the one before. Not itself in the audit log: its call is. */
int people_setup_link(struct people *p, usec_t life, char ret_secret[PASS_SECRET_TEXT + 1], usec_t *ret_expires, struct err *err) MUST_USE;
/* Waits: uses it up: sets the owner's name ("": as it is) and password, ends all sessions, begins one: *ret_secret goes into the cookie, *ret is
 * borrowed.
 * -ERR_DENIED: not the secret of a link that is open; -ERR_EXHAUSTED: too often; -ERR_INVALID. */
int people_set_up(struct people *p, const struct people_door *door, const char *secret, const char *name, const char *password,
                  char ret_secret[PASS_SECRET_TEXT + 1], struct pass **ret, struct err *err) MUST_USE;
/* Waits: a new session; the one of the cookie ends. -ERR_UNAUTHENTICATED with one message for all that can be wrong; -ERR_EXHAUSTED: too often. */
int people_login(struct people *p, const struct people_door *door, const char *name, const char *password, char ret_secret[PASS_SECRET_TEXT + 1],
                 struct pass **ret, struct err *err) MUST_USE;
/* Waits: the session @id of the caller ends. */
int people_logout(struct people *p, const struct people_door *door, struct err *err) MUST_USE;
/* Waits: sets a new password; all sessions end, one begins. -ERR_DENIED: the old one is wrong. */
int people_change_password(struct people *p, const struct people_door *door, const char *old, const char *password,
                           char ret_secret[PASS_SECRET_TEXT + 1], struct pass **ret, struct err *err) MUST_USE;
/* Waits: ends the session @id, or with @others all but it; *ret_n: how many. -ERR_NOT_FOUND. */
int people_revoke_session(struct people *p, const char *id, bool others, struct rpc_call *call, unsigned *ret_n, struct err *err) MUST_USE;

/* Waits: a token. @text gets what is shown once. -ERR_EXISTS the name, -ERR_EXHAUSTED API_TOKENS_MAX. *ret is borrowed. */
int people_add_token(struct people *p, const char *name, enum pass_scope scope, usec_t expires, const char *maker,
                     char text[API_TOKEN_TEXT_SIZE], struct pass **ret, struct err *err) MUST_USE;
/* Waits: @name or id opens nothing from now on. -ERR_NOT_FOUND. */
int people_revoke_token(struct people *p, const char *name, struct rpc_call *call, struct err *err) MUST_USE;

#endif
