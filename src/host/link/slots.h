/* SPDX-License-Identifier: Apache-2.0 */
/* slots — where the programs of Davit lie, so that there are always two sets of them and one name that says which is used:
 *   PREFIX/slots/<version>-<number>/   all programs of one release and MANIFEST; what runs is slots/X/davit-agent
 *   PREFIX/current   -> slots/X        what the service starts, through PREFIX/bin/davit-agent -> ../current/davit-agent
 *   PREFIX/previous  -> slots/Y        what was used before
 *   PREFIX/slots/pending               the slot that is used now and has not proved itself yet, see slots_boot
 *   PREFIX/slots/counter               the highest counter of a release that was ever seen
 *   PREFIX/slots/.fetch-<number>, .new-<number>   an update that is being made
 * Both names are replaced by rename(2) and are on disk when a call returns. No symbolic link is followed below PREFIX but these two, which lead
 * to a slot by its name and nowhere else. A PREFIX or slots directory that others than root and this account may write to is not used.
 * Ownership: embedded, slots_open .. slots_close.  All calls block: at program start, or in a lane.  Thread: any, one at a time.
 * Input trust: files of root and the agent's own account; names are checked all the same. */
#ifndef DAVIT_HOST_LINK_SLOTS_H
#define DAVIT_HOST_LINK_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum { SLOT_NAME_SIZE = 96, SLOTS_PATH_SIZE = 1024, SLOTS_MAX = 64 };

struct slots {
    char prefix[SLOTS_PATH_SIZE];
    char running[SLOT_NAME_SIZE]; /* the slot of this program */
    int prefix_fd, dir_fd;
};

/* Finds the slot that @exe (NULL: this program) is in. 0; 1: it is in none (nothing to close); -ERR_DENIED: it is, but somebody else may write
 * there. */
int slots_open(const char *exe, struct slots *ret, struct err *err) MUST_USE;
/* Harmless on a zeroed one and on a closed one. */
void slots_close(struct slots *s);

/* "<version>-<number>". 0, or -ERR_INVALID for a version that is no part of a name. */
int slot_name(const char *version, uint64_t number, char ret[SLOT_NAME_SIZE], struct err *err) MUST_USE;
bool slot_name_valid(struct str name);
/* The file name of the slot's program @program, whole. The caller frees. */
char *slots_path(const struct slots *s, const char *slot, const char *program) MUST_USE;

enum slots_link { SLOTS_CURRENT, SLOTS_PREVIOUS };
/* 0 with the slot's name; 1: there is no such name; -ERR_PRECONDITION: it does not lead to a slot. */
int slots_read(const struct slots *s, enum slots_link link, char ret[SLOT_NAME_SIZE], struct err *err) MUST_USE;
/* Makes it lead to @slot, which must be a directory with the agent's program. */
int slots_point(const struct slots *s, enum slots_link link, const char *slot, struct err *err) MUST_USE;
/* Is there a slot of this name, with the agent's program? */
bool slots_has(const struct slots *s, const char *slot);

/* Bytes that may still be written there. */
int slots_room(const struct slots *s, uint64_t *ret, struct err *err) MUST_USE;
/* Removes everything that is neither current, previous nor running, and what an update left half made. */
int slots_collect(const struct slots *s, struct err *err) MUST_USE;

/* Removes what a killed program left of the small files here. Only while nobody writes them. */
int slots_tidy(const struct slots *s, struct err *err) MUST_USE;

/* The highest counter of a release so far; 0 for none. */
int slots_counter(const struct slots *s, uint64_t *ret, struct err *err) MUST_USE;
int slots_counter_set(const struct slots *s, uint64_t counter, struct err *err) MUST_USE;

/* The slot that has not proved itself, "" for none. */
int slots_pending(const struct slots *s, char ret[SLOT_NAME_SIZE], struct err *err) MUST_USE;
/* @slot NULL: none is, or it has proved itself. @stopped: it was told to end, so its next start is no failure. */
int slots_pending_set(const struct slots *s, const char *slot, bool stopped, struct err *err) MUST_USE;
/* @slot is not pending any more, if it was. */
int slots_pending_drop(const struct slots *s, const char *slot, struct err *err) MUST_USE;

/* The first thing that an agent does that a service manager started: if its slot is pending, then it ran before and came to an end it was not
 * told to. Then the previous slot becomes current, and 1 is returned with the path of its agent, to be executed in place of this program
 * (the caller frees), and the slot stays pending: so the update that is resumed there knows that it was tried, whether or not the new one had come
 * to note it. 0: go on. Negative: it could not be restored; going on is better than nothing. */
int slots_boot(const char *exe, char **ret_path, struct err *err) MUST_USE;

#endif
