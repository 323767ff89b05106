/* SPDX-License-Identifier: Apache-2.0 */
/* chain — the audit log as a chain of hashes: one entry, its canonical encoding, and the check of entries read in order. Pure: the control plane
 * checks its table with it, the CLI an exported file.
 * The hash of an entry is SHA-256(hash of the one before, 32 zero bytes for the first || encoding). The encoding is each field in the order of
 * `struct chain_entry` as decimal length in bytes, ":", and the bytes; numbers in decimal. doc/control.md has a checker in Python.
 * Thread: any.  Input trust: none; the entries are what is judged. */
#ifndef DAVIT_IDENT_CHAIN_H
#define DAVIT_IDENT_CHAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum { CHAIN_HASH_SIZE = 32, CHAIN_OPEN_MAX = 512, CHAIN_WHY_MAX = 200 };

/* Borrowed texts. */
struct chain_entry {
    uint64_t number, time_us;
    struct str actor, serial, action, object, outcome, code, reason, request;
    uint64_t count; /* how many events this entry stands for */
    uint64_t begun; /* number of the entry whose end this is; 0: none */
    uint8_t hash[CHAIN_HASH_SIZE];
};

/* Words that the check understands. */
#define CHAIN_BEGUN   "begun"
#define CHAIN_STARTED "davitd.started" /* action: what was begun before it and has no end was interrupted */
#define CHAIN_BROKEN  "audit.broken"   /* action: the control plane found at its start that entries are missing or changed */

/* What @e->hash must be behind an entry with hash @previous. */
void chain_hash(const uint8_t previous[CHAIN_HASH_SIZE], const struct chain_entry *e, uint8_t ret[CHAIN_HASH_SIZE]);

struct chain_check {
    uint64_t entries, last;
    uint8_t hash[CHAIN_HASH_SIZE]; /* of the last entry */
    uint64_t bad;                  /* number of the first entry that does not fit; 0: none */
    char why[CHAIN_WHY_MAX];
    uint64_t interrupted;       /* begun, and the control plane ended before they did */
    uint64_t first_interrupted; /* number; 0: none */
    uint64_t open[CHAIN_OPEN_MAX];
    unsigned n_open;
};

/* Nothing read yet. */
void chain_check_init(struct chain_check *k);
/* The next entry. False once something does not fit: @k->bad and @k->why say what. */
bool chain_check_next(struct chain_check *k, const struct chain_entry *e);
/* The end of the chain must be at @number with @hash, or later: from a head that was kept elsewhere, compared while reading. Call it after each
 * entry or at the end with the last one; @exact: the chain must end there. Sets bad and why. @where names the keeper ("the file audit.head"). */
bool chain_check_head(struct chain_check *k, uint64_t number, const uint8_t hash[CHAIN_HASH_SIZE], bool exact, const char *where);

#endif
