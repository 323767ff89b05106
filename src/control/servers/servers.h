/* SPDX-License-Identifier: Apache-2.0 */
/* servers — the registry of enrolled machines. The rows in memory are the working set, the store is the truth: what a person or an
 * enrolment changes is written before it is answered; what a heartbeat changes is written behind it, within seconds, and the time of the
 * last heartbeat at least every five minutes.
 * States: pending (created, its agent was never here), online (it sends heartbeats), offline (none for offline_after). One setter, one table.
 * Ownership: the registry holds one reference, so do links and fibers that wait; `gone` tells them that the server was removed.
 * Limits: CONTROL_SERVERS_MAX.  Thread: loop.  Input trust: names from users, system information from agents (already checked as UTF-8). */
#ifndef DAVIT_CONTROL_SERVERS_H
#define DAVIT_CONTROL_SERVERS_H

#include "control/servers/address.h"
#include "control/control_internal.h"
#include "control/servers/inventory.h"
#include "davit/control/v1/servers.pb-c.h"
#include "davit/control/v1/updates.pb-c.h"

/* The numbers are those of the schema. */
enum server_state { SERVER_NONE, SERVER_PENDING, SERVER_ONLINE, SERVER_OFFLINE, SERVER_STATE_MAX };

enum { SERVER_NAME_SIZE = 64, SERVER_REASON_SIZE = 192, SERVER_HEALTH_MAX = 12, SERVER_HEALTH_SIZE = 256, SERVER_ROOTS_SIZE = 200 };

/* Clock difference beyond which a server's health is a warning. */
#define SERVER_SKEW_MAX (30 * USEC_SEC)

struct link;

/* Another agent with the identity of a server, see duplicates.h. */
struct duplicate {
    char address[ADDRESS_SIZE], hostname[SERVER_NAME_SIZE], instance[40];
    uint32_t generation;
    bool displaced; /* it was connected until the other one came */
    usec_t seen;    /* real time, 0: never */
};

struct server {
    struct list node;
    struct control *control;
    unsigned refs;
    bool gone;
    bool dirty;

    char id[37];
    char name[SERVER_NAME_SIZE];
    enum server_state state; /* server_set_state only */
    char reason[SERVER_REASON_SIZE];
    int profile;                  /* Davit__Control__V1__ServerProfile */
    char preferred[ADDRESS_SIZE]; /* the user's choice, or "" */
    bool local;
    Davit__Common__V1__SystemInfo *system; /* owned, or NULL */
    char seen[ADDRESS_SIZE];
    char mode[8]; /* direct | tunnel | local */
    usec_t created, enrolled, heartbeat, heartbeat_saved;
    int64_t skew;
    bool clock_unsure;                    /* its agent does not believe its own clock */
    uint32_t generation, oldest;          /* see credentials.h */
    usec_t certificate_issued, certificate_expires; /* of the one that it connected with last */
    usec_t token_expires;
    char credential_error[SERVER_REASON_SIZE]; /* why its last renewal failed, as its agent says */
    const char *rotate;                   /* why it shall renew them now, static; NULL: it need not */
    uint32_t rotate_from;                 /* `oldest` when that was said */
    char roots[SERVER_ROOTS_SIZE];        /* that its agent holds, see roots.h */
    uint8_t roots_asked;                  /* how often it was asked to take the present ones */
    usec_t renewals, proofs, handshakes;  /* buckets, see bucket.h */
    struct duplicate duplicate, suspect;  /* one that is a copy for certain, one that may be */

    Davit__Control__V1__RolloutStep *update; /* its last one, see rollouts.h; owned, or NULL */

    struct change changed; /* in changes.servers */
    struct change sampled; /* in changes.sampled; 0: no samples came */
    uint64_t moved;        /* number of the last change of its containers */
    usec_t beat;           /* monotonic: when a mere heartbeat was counted as a change last */

    struct timer offline;
    struct link *link; /* the live one, or NULL */
    struct inventory inventory;
    usec_t watched_until; /* monotonic: its agent samples often until then */
    uint64_t watch_from;  /* so many batches of samples make what a watcher wants to see */
    struct list commands; /* struct command.node by seq: those without a result */
    uint64_t counting;     /* the question of idle.h that its agent has not answered, 0: none */
    uint64_t known_seq;   /* commands up to this number have all been in the list */
};

/* Name as in the API's words: "pending". */
const char *server_state_name(enum server_state s);
/* May a server go from @from to @to? SERVER_NONE -> PENDING is its birth. */
bool server_move_allowed(enum server_state from, enum server_state to);
/* The one setter. @reason is kept and shown. -ERR_INTERNAL for a move that the table does not have. */
int server_set_state(struct server *s, enum server_state to, const char *reason) MUST_USE;

/* One more holder. */
struct server *server_ref(struct server *s);
/* Accepts NULL. Returns NULL. */
struct server *server_unref(struct server *s);

/* Fills the registry from the store; blocks, at start. */
int servers_load(struct control *c, struct err *err) MUST_USE;
/* Drops the registry. */
void servers_release(struct control *c);
/* Borrowed, or NULL. */
struct server *servers_by_id(const struct control *c, const char *id);
struct server *servers_by_name(const struct control *c, const char *name);
struct server *servers_local(const struct control *c);
/* By name or id; "" means the only one there is. Failure says what is possible. */
int servers_find(const struct control *c, const char *name_or_id, struct server **ret, struct err *err) MUST_USE;

/* What a new server starts with. */
struct server_new {
    const char *name;
    int profile;
    const char *mode;
    bool local;
    /* A token to record in the same transaction; token_id NULL: none. */
    const char *token_id;
    const uint8_t *token_hash; /* 32 bytes */
    const struct secret *token_mac_key;
    usec_t token_expires;
};
/* Waits: writes the row and adds the server. -ERR_EXISTS (name taken), -ERR_EXHAUSTED. *ret is borrowed from the registry. */
int servers_add(struct control *c, const struct server_new *n, struct server **ret, struct err *err) MUST_USE;
/* Waits: removes row, commands, token; deployments become REMOVED; the link is cut. */
int servers_remove(struct control *c, struct server *s, struct err *err) MUST_USE;
/* Waits: a new open token for @s, voiding the one before. */
int servers_new_token(struct control *c, struct server *s, const char *token_id, const uint8_t hash[32], const struct secret *mac_key,
                      usec_t expires, struct err *err) MUST_USE;
/* Waits: writes @s as it is now. */
int servers_save(struct control *c, struct server *s, struct err *err) MUST_USE;
/* Waits: writes all that is dirty. */
int servers_save_dirty(struct control *c, struct err *err) MUST_USE;
/* Has it written soon. */
void server_touch(struct server *s);

/* Which way the agents of new servers take, if @want is "" (else that one or none): mode "direct" and HOST:PORT (what is advertised, else
 * the one address that --link-listen names, else @own, an address of this machine that others can reach, or ""; @port unless HOST has one),
 * else mode "tunnel" and a URL of --hostname, else a loopback address that --link-listen names, else -ERR_PRECONDITION with advice. */
int servers_install_target(const struct control_options *opt, const char *want, struct str port, const char *own, const char **ret_mode,
                           struct buf *out, struct err *err) MUST_USE;

/* A heartbeat came: clock of the agent, real time of ours. Pending and offline become online. */
void server_heard(struct server *s, usec_t agent_clock);
/* Counts as offline at once. */
void server_down(struct server *s, const char *reason);
/* Something that server_describe shows changed: who watches is told at once. */
void server_changed(struct server *s);
/* Containers, samples of use came: who watches is told. */
void server_containers_changed(struct server *s);
void server_sampled(struct server *s);
/* Replaces the system information by a copy. */
void server_set_system(struct server *s, const Davit__Common__V1__SystemInfo *system);
/* A DNS label made of a host name: "Web_1.example" -> "web-1"; "server" when nothing is left. */
void server_label(const char *hostname, char dst[SERVER_NAME_SIZE]);

/* A server as the API shows it: strings are borrowed from @s and from the view. */
struct server_view {
    Davit__Control__V1__Server m;
    Davit__Control__V1__Duplicate duplicate;
    char public_address[ADDRESS_SIZE], preferred[ADDRESS_SIZE];
    char reasons[SERVER_HEALTH_MAX][SERVER_HEALTH_SIZE];
    char *reason_ptrs[SERVER_HEALTH_MAX];
};
/* Fills @v from @s as it is now. */
void server_describe(const struct server *s, struct server_view *v);

#endif
