/* SPDX-License-Identifier: Apache-2.0 */
/* audit — who did what to what, and how it ended: the table `audit`, one row an entry, each with the hash of the one before (ident/chain.h).
 * A call that changes something (scope write or admin) has an entry "begun" on disk before its handler runs and one with the outcome after it:
 * without the first it does not run. A change whose transaction is at hand writes its entry in there (audit_append). Everything else is noted:
 * queued and written soon. Calls of scope read leave nothing.
 * Refusals are told apart by who, what and why, and counted: see audit_refusals.h.
 * Limits: AUDIT_QUEUE_MAX notes in the queue (what is dropped is counted, and the count becomes an entry); the ends of calls do not count, for
 * there are no more of them than calls. Texts are cut to the sizes below and made plain UTF-8 without control characters.
 * Thread: loop, but audit_append and the audit_read functions, which run inside the store.  Input trust: texts may come from anybody. */
#ifndef DAVIT_CONTROL_AUDIT_H
#define DAVIT_CONTROL_AUDIT_H

#include "control/control_internal.h"
#include "ident/chain.h"

enum { AUDIT_QUEUE_MAX = 256, AUDIT_BATCH_MAX = 64, AUDIT_LOGINS_MAX = 256 };
/* The file with the head is at most this much behind the table. */
#define AUDIT_HEAD_EVERY (5 * USEC_SEC)
/* A certificate at an address that was silent for this long logs in anew. */
#define AUDIT_LOGIN_AGAIN USEC_HOUR

/* The end of the log outside of the database, in the state directory. */
#define AUDIT_HEAD_FILE "audit.head"

#define AUDIT_OK      "ok"
#define AUDIT_REFUSED "refused"
#define AUDIT_FAILED  "failed"

/* One entry as it is made. Zeroed is valid but for action and outcome, which must be set. Plain value. */
struct audit_record {
    uint64_t number, time_us, count, begun; /* count 0 is written as 1; number and time_us are set when it is written, time_us only if 0 */
    char actor[136], serial[72], action[96], object[200], outcome[12], code[24], reason[256], request[72];
    uint8_t hash[CHAIN_HASH_SIZE];
};

struct audit;

/* At start, when the store is open: compares the head that was kept outside of the table with it; what does not fit becomes an entry. So does
 * what davitd --restore left (RESTORED_FILE), which goes when the entry is on disk: a crash in between makes two entries. Never NULL. */
struct audit *audit_open(struct control *c) MUST_USE;
/* The control plane stops: what cannot be written now is not waited for. */
void audit_stopping(struct control *c);
/* Writes what is still queued, and the head. Blocks. No call runs any more. Accepts NULL. Returns NULL. */
struct audit *audit_close(struct audit *a);

/* @s as texts of entries are: cut to @size, plain UTF-8, nothing that a terminal obeys. */
void audit_text(char *dst, size_t size, struct str s);
/* Sets texts of @r, cut and cleaned. NULL leaves one as it is. */
void audit_who(struct audit_record *r, const char *actor, const char *serial);
void audit_what(struct audit_record *r, const char *action, const char *object);
void audit_how(struct audit_record *r, const char *outcome, const struct err *err);
/* The actor behind a connection: URI and serial of its certificate, "uid:N" of a unix socket, "addr:HOST" of a stranger. */
void audit_who_conn(struct audit_record *r, struct conn *conn);
/* The same for who makes @call: also the person or the token behind it. */
void audit_who_call(struct audit_record *r, const struct rpc_call *call);
/* "spec.project/spec.name" of @request as the option of the method says; "-" for nothing. @request may be NULL. */
void audit_object(const struct rpc_method *method, const ProtobufCMessage *request, char *dst, size_t size);
/* "WorkloadService/Deploy" for davit.control.v1.WorkloadService and Deploy. */
void audit_action(const struct rpc_service *service, const struct rpc_method *method, char *dst, size_t size);

/* Must calls of this method be in the log? Everything but public, read and link. */
bool audit_concerns(const struct rpc_method *method);
/* In place of the handlers of both servers; @ctx is the control plane. */
rpc_around audit_around;
/* The same for a caller that is known already: @r holds who and the request id. */
int audit_run(struct control *c, struct audit_record *r, struct rpc_call *call, const struct rpc_service *service,
              const struct rpc_method *method, const ProtobufCMessage *request, rpc_run *run, void *run_ctx, struct err *err) MUST_USE;

/* Queues an event. Harmless while there is no log yet. */
void audit_note(struct control *c, const struct audit_record *r);
/* A refusal: the first of its kind at once, the others counted. @r holds who. */
void audit_refused(struct control *c, struct audit_record *r, const char *action, const char *object, const struct err *err);
/* A call of a person's certificate was let in: "login" when it had been silent. */
void audit_login(struct control *c, struct conn *conn);

/* Inside a write transaction of the store: appends @r, and sets its number and hash. Fails the transaction when it cannot. Tell audit_touched
 * after the commit. */
int audit_append(struct db *db, struct audit_record *r, struct err *err) MUST_USE;
void audit_touched(struct control *c);

/* What could not be written and was given up since the start. */
uint64_t audit_dropped(const struct control *c);

/* ---- audit_store.c: inside the store ---- */
/* The end of the table as its row in settings tells: *ret_number 0 when there is none. */
int audit_read_head(struct db *db, uint64_t *ret_number, uint8_t ret_hash[CHAIN_HASH_SIZE], struct err *err) MUST_USE;
/* "7 <64 hex>\n" and back. 0 or -ERR_DATA_LOSS. */
int audit_head_parse(struct str text, uint64_t *ret_number, uint8_t ret_hash[CHAIN_HASH_SIZE]) MUST_USE;
enum { AUDIT_HEAD_SIZE = 96 };
void audit_head_format(uint64_t number, const uint8_t hash[CHAIN_HASH_SIZE], char dst[AUDIT_HEAD_SIZE]);
/* Do the last rows fit each other, the head in settings, and @file_number (0: no file)? 0; 1: no, @why says what; negative. */
struct audit_judge {
    uint64_t file_number;
    uint8_t file_hash[CHAIN_HASH_SIZE];
    bool file_bad; /* there, and no head */
    char why[CHAIN_WHY_MAX];
};
store_fn audit_read_judge;
/* SQLite only, which is the one whose file anybody may open: rows are neither changed nor deleted by any statement. */
store_fn audit_write_guard;

#endif
