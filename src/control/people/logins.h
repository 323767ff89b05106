/* SPDX-License-Identifier: Apache-2.0 */
/* logins — how often a password may be tried: a bucket for each account and one for each address (IPv6: the net of 64 bits). Names that nobody has
 * have theirs too, so that the limit tells nothing. An account has one bucket for 7441 and one for 7440: who tries from elsewhere keeps nobody out
 * who sits at the machine.
 * Limits: LOGINS_SLOTS buckets are kept of each kind. A new one takes the place of the one that is nearest to full, so a crowd of new
 * names or addresses does not set free who was stopped.
 * Thread: loop.  Input trust: anybody. */
#ifndef DAVIT_CONTROL_LOGINS_H
#define DAVIT_CONTROL_LOGINS_H

#include <stdbool.h>

#include "base/clock.h"

enum { LOGINS_SLOTS = 1024, LOGINS_ACCOUNT_BURST = 10, LOGINS_ADDRESS_BURST = 20 };
#define LOGINS_ACCOUNT_EVERY USEC_MINUTE
#define LOGINS_ADDRESS_EVERY (10 * USEC_SEC)

struct logins;

/* All buckets are full. Never NULL. */
struct logins *logins_new(void) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct logins *logins_free(struct logins *l);

/* One more try, at monotonic @now. @account may be empty: counted by address only. @host: address as text, without port. 0; 1: not now, *ret_wait
 * says for how long. What was refused takes nothing. */
int logins_take(struct logins *l, struct str account, bool local, const char *host, usec_t now, usec_t *ret_wait) MUST_USE;
/* It was right: the account's bucket is full again. */
void logins_good(struct logins *l, struct str account, bool local);

#endif
