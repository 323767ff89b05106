/* SPDX-License-Identifier: Apache-2.0 */
/* answer — texts of the engine in the answers of calls: cleaned, bounded one by one and together, so that a list fits in one message.
 * Ownership: what is made belongs to the message (protobuf_c_message_free_unpacked).  Limits: ANSWER_ROOM bytes in all, ANSWER_TEXT each.
 * Input trust: hostile texts.  Thread: any. */
#ifndef DAVIT_HOST_WORK_ANSWER_H
#define DAVIT_HOST_WORK_ANSWER_H

#include "base/buf.h"

enum { ANSWER_ROOM = 768 * 1024, ANSWER_TEXT = 512 };

/* A copy of @s. *room shrinks by what it takes on the wire, to 0 at the least; at 0 the caller adds no more objects. */
char *answer_text(const char *s, size_t *room);
/* At most @max copies. */
char **answer_list(const char *const *items, size_t n, size_t max, size_t *ret_n, size_t *room);
/* Adds one unless there are @max. */
void answer_add(char ***list, size_t *n, size_t max, const char *s, size_t *room);
/* Adds a name to an enumeration for people; when @names is full it ends in "...". */
void answer_name(struct buf *names, const char *name);

#endif
