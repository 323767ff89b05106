/* SPDX-License-Identifier: Apache-2.0 */
/* audit_internal — what the files of the audit log share.  Not included outside of src/control/audit*.c and its tests.  Thread: loop. */
#ifndef DAVIT_CONTROL_AUDIT_INTERNAL_H
#define DAVIT_CONTROL_AUDIT_INTERNAL_H

#include "base/hmap.h"
#include "control/servers/address.h"
#include "control/people/audit.h"
#include "control/people/audit_refusals.h"

/* Who waits for an entry, and what became of it. */
struct ticket {
    unsigned refs;
    struct event written; /* or given up */
    int rc;
    struct err err;
    uint64_t number; /* of a begin, once written */
};

struct pending {
    struct list node;
    struct audit_record record;
    struct ticket *ticket; /* NULL: nobody waits */
    struct ticket *begin;  /* of an end */
    bool is_begin, is_note;
};

struct audit {
    struct control *control;
    struct list queue; /* struct pending, in order */
    unsigned notes;    /* of them */
    bool writing;      /* a fiber works the queue off */
    bool failing;      /* the last try to write failed */
    bool restored;     /* the entry of a restore is in the first batch, and its mark is still there */
    struct event wake; /* the writer, out of its pause */
    uint64_t dropped, dropped_all;
    struct refusals *refusals;
    struct timer tick;
    struct hmap *logins; /* serial and host -> usec_t of the last call, owned */
    struct timer head_timer;
    bool head_running;
};

/* Waits: @r as "begun" is on disk. *ret: audit_end takes it. -ERR_UNAVAILABLE with hint. */
int audit_begin(struct control *c, const struct audit_record *r, struct ticket **ret, struct err *err) MUST_USE;
/* The end of what began with @begin (taken; may be NULL: an entry of its own). @wait: returns when it is on disk, or could not be. */
void audit_end(struct control *c, const struct audit_record *r, struct ticket *begin, bool wait);
/* Something was added to the refusals. */
void audit_tick(struct control *c);
/* Accepts NULL. Returns NULL. */
struct ticket *audit_ticket_unref(struct ticket *t);
/* Blocks: the file audit.head. 0 (*ret_number 0: there is none), or negative: damaged. */
int audit_file_head(const char *state_dir, uint64_t *ret_number, uint8_t ret_hash[CHAIN_HASH_SIZE]) MUST_USE;

#endif
