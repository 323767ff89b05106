/* SPDX-License-Identifier: Apache-2.0 */
/* passes — what opens the API on 7440 and 7441: sessions, whose secret is in a cookie, and API tokens. All that are good are in memory, for who asks
 * must not wait; the store has them too, so that they outlive us. Of a secret only its SHA-256 is kept, here and there.
 * Each call is bound to its pass (struct caller), and ends with it: a revoked or expired pass cuts its calls at once, streams too.
 * When a pass was used last is written lazily, PASSES_TOUCH_EVERY late at most.
 * Limits: SESSIONS_MAX sessions, of which the one unused for the longest makes room for a new one; API_TOKENS_MAX tokens.
 * Thread: loop.  Input trust: secrets come from anybody. */
#ifndef DAVIT_CONTROL_PASSES_H
#define DAVIT_CONTROL_PASSES_H

#include "control/servers/address.h"
#include "control/control_internal.h"

enum { SESSIONS_MAX = 256, API_TOKENS_MAX = 256, PASS_AGENT_MAX = 200, PASS_NAME_MAX = 64 };
#define SESSION_LIFE       (30 * USEC_DAY)
#define SESSION_IDLE       (7 * USEC_DAY)
#define API_TOKEN_LIFE     (30 * USEC_DAY)
#define API_TOKEN_LIFE_MAX (366 * USEC_DAY)
#define PASSES_TOUCH_EVERY USEC_MINUTE

enum { PASS_SECRET_SIZE = 32, PASS_SECRET_TEXT = 64, PASS_HASH_SIZE = 32, PASS_ID_SIZE = 40, API_TOKEN_ID_LEN = 16, API_TOKEN_TEXT_SIZE = 96 };

enum pass_kind { PASS_SESSION, PASS_API_TOKEN };
/* Each holds those before. */
enum pass_scope { SCOPE_NONE, SCOPE_READ, SCOPE_WRITE, SCOPE_ADMIN };

struct pass {
    struct list node;    /* in the passes, in order of making */
    struct list callers; /* struct caller.node */
    enum pass_kind kind;
    enum pass_scope scope;
    char id[PASS_ID_SIZE];
    uint8_t hash[PASS_HASH_SIZE];
    char person[PASS_ID_SIZE];      /* of a session: whose */
    char name[PASS_NAME_MAX + 1];   /* of a session: what that person is called; of a token: its own */
    char maker[136];                /* of a token: who made it, as in the audit log */
    char agent[PASS_AGENT_MAX + 1]; /* of a session: what its browser says it is; clean text */
    char from[ADDRESS_SIZE];        /* where it was used last */
    usec_t created, used, expires;  /* real time; used 0: never */
    usec_t exchanges;               /* a bucket, see exchange.h */
    bool dirty;                     /* used and from are newer than the store */
};

/* Who makes a call on 7440 or 7441. Lives as long as the call; all it points to may be gone before that. */
struct caller {
    struct list node; /* in pass->callers */
    struct rpc_call *call;
    struct pass *pass; /* NULL: nobody, or not any more */
    bool local;        /* by 7441 */
    bool exchanged;    /* by a token that was made of @pass (exchange.h): not logged in themselves */
    enum pass_scope scope; /* what this call may */
    char actor[136], serial[72]; /* for the audit log; "" nobody. They stay */
};

struct passes;

/* "read", "write", "admin". Static. */
const char *scope_name(enum pass_scope scope);
/* SCOPE_NONE: it is none. */
enum pass_scope scope_of(const char *name);

/* Empty. Never NULL. */
struct passes *passes_new(struct control *c) MUST_USE;
/* Calls are left alone. Accepts NULL. Returns NULL. */
struct passes *passes_free(struct passes *p);
/* At start, blocks: those in the store. After a restore sessions of before are dropped. */
int passes_load(struct passes *p, struct err *err) MUST_USE;

/* At the end, blocks: what is not written yet. Accepts NULL. */
void passes_save(struct passes *p);

/* Takes @pass, which was made by pass_new and is in the store. */
void passes_add(struct passes *p, struct pass *pass);
/* A zeroed one. */
struct pass *pass_new(enum pass_kind kind) MUST_USE;
/* One that is in no passes. Accepts NULL. */
void pass_free(struct pass *pass);
/* It opens nothing any more, and its calls end with @why, but for @except (may be NULL), whose caller is nobody then. Frees @pass. */
void passes_end(struct passes *p, struct pass *pass, const char *why, struct rpc_call *except);
/* All sessions but @keep (may be NULL). Returns how many. */
unsigned passes_end_sessions(struct passes *p, const struct pass *keep, const char *why, struct rpc_call *except);
/* How many there are of a kind; the session that was unused for the longest. */
unsigned passes_count(const struct passes *p, enum pass_kind kind);
struct pass *passes_stalest(const struct passes *p);
/* Those of @kind, one after the other; @after NULL: the first. */
struct pass *passes_next(const struct passes *p, enum pass_kind kind, const struct pass *after);

/* The session with this cookie value, which came by 7441 (@local) or 7440; the token with this text; NULL: none that is good now. In constant time
 * of what is secret. */
struct pass *passes_session(struct passes *p, struct str secret, bool local);
struct pass *passes_token(struct passes *p, struct str text);
/* By id, for people: of a session, or id or name of a token. */
struct pass *passes_find(const struct passes *p, enum pass_kind kind, const char *name);

/* When it ends by itself, as things are now. */
usec_t passes_good_until(const struct pass *pass);
/* Binds @call to @pass (may be NULL), which is used by it now. */
struct caller *passes_bind(struct passes *p, struct pass *pass, struct rpc_call *call, bool local);
/* NULL: the call came by another door (certificate, socket). */
struct caller *caller_of(const struct rpc_call *call);
/* What a record says of who asked for it: "cli", or the actor of the audit log. Borrowed from @call. */
const char *caller_name(const struct rpc_call *call);

/* A new secret: @hex is what its owner gets, @hash what is kept. */
void pass_secret(char hex[PASS_SECRET_TEXT + 1], uint8_t hash[PASS_HASH_SIZE]);
/* The same for a session that begins on 7441 (@local) or 7440. The first digit says which, and it opens nothing on the other: browsers send the
 * cookie of 7441 to every port of this machine, so that any service here that its owner looks at may have read it. */
void session_secret(bool local, char hex[PASS_SECRET_TEXT + 1], uint8_t hash[PASS_HASH_SIZE]);
/* "davit_<id>_<secret>" of 16 and 64 hex digits. False: not one. */
bool api_token_parse(struct str text, char id[API_TOKEN_ID_LEN + 1], uint8_t hash[PASS_HASH_SIZE]);

#endif
