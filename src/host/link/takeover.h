/* SPDX-License-Identifier: Apache-2.0 */
/* takeover — what an agent and the one that is to follow it say to each other while both run. The old one starts the new one with
 * `run --takeover`, and with descriptors that it finds at fixed numbers; then they exchange lines over a pair of sockets:
 *   new: ready VERSION    it has read its configuration and the control plane answered it; nothing of the old one was touched
 *   old: adopt            the old one has no link, no listener, and begins no command: journal and identity are the new one's to use
 *   new: online           the control plane said Welcome
 *   old: committed        `current` leads to the new one's slot
 *   new: taken            and it does the work from here on
 *   new: failed TEXT      instead of any of its words, before it ends
 * The locks are descriptors that both have open: they are held as long as one of the two lives. Whoever hears the end of the other before
 * "committed" leaves everything to the old one: the new one ends, the old one opens its link again.
 * These words and numbers are spoken between different versions: they are only added to.
 * Ownership: takeover_open .. takeover_close.  Thread: loop, on fibers.  Input trust: peer; lines are bounded, unknown ones are refused. */
#ifndef DAVIT_HOST_LINK_TAKEOVER_H
#define DAVIT_HOST_LINK_TAKEOVER_H

#include "base/err.h"
#include "loop/fiber.h"

enum { TAKEOVER_FD = 3, TAKEOVER_LOCK_FD = 4, TAKEOVER_MACHINE_FD = 5, TAKEOVER_LOG_FD = 6, TAKEOVER_FDS = 4, TAKEOVER_LINE_MAX = 512 };
#define TAKEOVER_OPTION "--takeover"

struct takeover;

/* Takes @fd, also when it fails. */
int takeover_open(struct loop *loop, int fd, struct takeover **ret, struct err *err) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct takeover *takeover_close(struct takeover *t);
/* One line; @text may be NULL. What cannot be sent is lost: the other side is gone then, and that is heard. */
void takeover_say(struct takeover *t, const char *word, const char *text);
/* Waits for the next line. 0 with the text behind @word in @ret_text; -ERR_ABORTED: it said `failed` and why; -ERR_UNAVAILABLE: it is gone;
 * -ERR_INVALID: it said something else; -ERR_DEADLINE, -ERR_CANCELLED. */
int takeover_hear(struct takeover *t, const char *word, usec_t deadline, char ret_text[TAKEOVER_LINE_MAX], struct err *err) MUST_USE;

/* From now on the other side counts as gone: waits end. */
void takeover_hang_up(struct takeover *t);
bool takeover_gone(const struct takeover *t);

#endif
