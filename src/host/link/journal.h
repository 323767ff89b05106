/* SPDX-License-Identifier: Apache-2.0 */
/* journal — the agent's memory of what it was told: every command is on disk before it runs, every step before it begins, every result
 * until the control plane has it.
 * A command goes RECEIVED -> RUNNING (first step) -> FINISHED (result) -> forgotten (acknowledged). Numbers (seq) only grow; one that was
 * ever received is known for ever, also after it was forgotten.
 * What a command says (its payload, with the environment values of a deployment) is sealed by a key in journal.key, beside the journal.
 * Ownership: journal_open .. journal_close; the caller holds the lock of the data directory.
 * Thread: with a loop every call waits on a fiber (each at most JOURNAL_WAIT); without one it blocks.
 * Limits: JOURNAL_MAX commands that are not acknowledged, payload and result JOURNAL_BYTES_MAX each.
 * Errors: those of store/store.h; once a call has returned 0 its record survives a power cut. */
#ifndef DAVIT_HOST_LINK_JOURNAL_H
#define DAVIT_HOST_LINK_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"

struct loop;
struct journal;

enum { JOURNAL_MAX = 10000, JOURNAL_BYTES_MAX = 1024 * 1024, JOURNAL_ID_SIZE = 37, JOURNAL_STEP_SIZE = 64, JOURNAL_VALUE_SIZE = 256 };
#define JOURNAL_WAIT (30 * USEC_SEC)

/* Opens or makes the file @path (0600), and journal.key in its directory. @loop may be NULL. Blocks. -ERR_DATA_LOSS with advice when that key
 * is not the journal's. */
int journal_open(struct loop *loop, const char *path, struct journal **ret, struct err *err) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct journal *journal_close(struct journal *journal);

/* Binds the journal to a control plane's name for this server. Another one than before empties it, since numbers begin anew there; connections
 * are counted on, for the one that is up was told of the count before.
 * 0: as before (or first); 1: it was emptied. */
int journal_set_server(struct journal *journal, const char *server_id, struct err *err) MUST_USE;
/* Counts connections of this identity: increments, and returns only when that is on disk. */
int journal_next_epoch(struct journal *journal, uint64_t *ret, struct err *err) MUST_USE;
/* The same count, left as it is; 0: there was none. */
int journal_epoch(struct journal *journal, uint64_t *ret, struct err *err) MUST_USE;

/* 0: recorded; 1: known already, by number or by id: do not run it again; -ERR_EXHAUSTED at JOURNAL_MAX; -ERR_INVALID for seq 0, an id that is
 * empty or too long, or too many bytes. @deadline is real time, 0 for none. */
int journal_add(struct journal *journal, uint64_t seq, const char *id, uint32_t kind, struct str payload, usec_t deadline, struct err *err) MUST_USE;
/* Records that step @index is in @state (numbers of host/link/jobs.h). -ERR_NOT_FOUND for a command that is unknown or finished. */
int journal_step(struct journal *journal, uint64_t seq, uint32_t index, const char *name, uint32_t state, struct err *err) MUST_USE;
/* Records the end; the payload is dropped. 0; 1: it had a result already, which stays. -ERR_NOT_FOUND. */
int journal_result(struct journal *journal, uint64_t seq, struct str result, struct err *err) MUST_USE;
/* Forgets a finished command. 0, also for one that is unknown; -ERR_PRECONDITION for one that has no result yet. */
int journal_acked(struct journal *journal, uint64_t seq, struct err *err) MUST_USE;

/* One command as the journal knows it. */
struct journal_entry {
    uint64_t seq;
    char id[JOURNAL_ID_SIZE];
    uint32_t kind;
    usec_t deadline;
    usec_t received; /* real time at which it was added */
    int32_t step; /* the last one that was recorded; -1: it has not begun */
    uint32_t step_state;
    char step_name[JOURNAL_STEP_SIZE];
    bool unreadable;  /* the payload does not open: `bytes` is empty, the rest holds */
    struct buf bytes; /* payload, or the result of a finished one */
};
/* Frees the bytes; harmless on a zeroed one. */
void journal_entry_release(struct journal_entry *entry);

/* The first command behind @after_seq that has no result: 0 with @ret filled (released by the caller), 1: none. One at a time, so that a full
 * journal is never in memory. */
int journal_pending(struct journal *journal, uint64_t after_seq, struct journal_entry *ret, struct err *err) MUST_USE;
/* The same for finished commands that are not acknowledged. */
int journal_unacked(struct journal *journal, uint64_t after_seq, struct journal_entry *ret, struct err *err) MUST_USE;
/* The highest number that was ever recorded, 0 for none. */
int journal_last_seq(struct journal *journal, uint64_t *ret, struct err *err) MUST_USE;

/* Small facts of the agent's that must outlive it. @value NULL or "" removes. -ERR_INVALID past JOURNAL_VALUE_SIZE - 1 bytes. */
int journal_meta_set(struct journal *journal, const char *key, const char *value, struct err *err) MUST_USE;
/* 0, or 1: absent (@dst is ""). */
int journal_meta_get(struct journal *journal, const char *key, char dst[JOURNAL_VALUE_SIZE], struct err *err) MUST_USE;

#endif
