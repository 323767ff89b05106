/* SPDX-License-Identifier: Apache-2.0 */
/* answer — see answer.h. */
#include "host/work/answer.h"

#include <string.h>

#include "host/work/work_internal.h"

enum { OVERHEAD = 8, NAMES_BYTES = 200 };

char *answer_text(const char *s, size_t *room)
{
    char *text = text_tail(str_from(s), ANSWER_TEXT);
    size_t n = strlen(text) + OVERHEAD;

    *room = *room > n ? *room - n : 0;
    return text;
}

void answer_add(char ***list, size_t *n, size_t max, const char *s, size_t *room)
{
    if (*n >= max)
        return;
    *list = mem_resize(*list, *n + 1, sizeof(**list));
    (*list)[(*n)++] = answer_text(s, room);
}

char **answer_list(const char *const *items, size_t n, size_t max, size_t *ret_n, size_t *room)
{
    char **list = NULL;

    *ret_n = 0;
    for (size_t i = 0; i < n; i++)
        answer_add(&list, ret_n, max, items[i], room);
    return list;
}

void answer_name(struct buf *names, const char *name)
{
    AUTO_FREE char *clean = text_tail(str_from(name), ANSWER_TEXT);

    if (names->len > NAMES_BYTES)
        return;
    if (names->len + strlen(clean) > NAMES_BYTES)
        (void)buf_printf(names, "%s...%*s", names->len ? ", " : "", NAMES_BYTES, "");
    else
        (void)buf_printf(names, "%s%s", names->len ? ", " : "", clean);
}
