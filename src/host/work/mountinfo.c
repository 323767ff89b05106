/* SPDX-License-Identifier: Apache-2.0 */
/* mountinfo — see mountinfo.h. */
#include "host/work/mountinfo.h"

#include "base/err.h"

/* "id parent major:minor root mount-point options [optional ...] - type source super-options" */
int mountinfo_next(struct str *text, struct mount_entry *ret)
{
    struct str word;
    *ret = (struct mount_entry){0};
    if (text->n == 0)
        return 1;
    struct str line = str_cut(text, '\n');
    for (int i = 0; i < 3; i++)
        (void)str_word(&line);
    ret->root = str_word(&line);
    ret->place = str_word(&line);
    if (ret->place.n == 0 || *ret->place.p != '/')
        return -(int)ERR_INVALID;
    do
        word = str_word(&line);
    while (word.n && !str_eq(word, STR("-")));
    ret->type = str_word(&line);
    (void)str_word(&line);
    ret->super = str_word(&line);
    return ret->type.n ? 0 : -(int)ERR_INVALID;
}

int mountinfo_unescape(struct str s, struct buf *ret)
{
    for (size_t i = 0; i < s.n; i++) {
        const char *p = s.p + i;
        bool octal = *p == '\\' && s.n - i > 3 && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' && p[3] >= '0' && p[3] <= '7';
        char c = octal ? (char)((p[1] - '0') * 64 + (p[2] - '0') * 8 + (p[3] - '0')) : *p;
        if (buf_append(ret, &c, 1) != 0)
            return -(int)ERR_INVALID;
        i += octal ? 3 : 0;
    }
    return 0;
}
