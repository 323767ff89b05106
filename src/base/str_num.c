/* SPDX-License-Identifier: Apache-2.0 */
/* str_num — strict numbers, sizes and durations out of text, see str.h. Overflow is -ERR_RANGE like any other excess. */
#include <string.h>

#include "base/err.h"
#include "base/str.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Takes the digits at the front of @s. *ret_over tells of overflow, found only after the shape was checked by the caller. */
static bool take_digits(struct str *s, uint64_t *ret, bool *ret_over)
{
    uint64_t v = 0;
    size_t i = 0;

    for (; i < s->n && is_digit(s->p[i]); i++) {
        if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(s->p[i] - '0'), &v))
            *ret_over = true;
    }
    if (i == 0)
        return false;
    s->p += i;
    s->n -= i;
    *ret = v;
    return true;
}

static int finish(uint64_t v, uint64_t unit, bool over, uint64_t max, uint64_t *ret)
{
    if (over || __builtin_mul_overflow(v, unit, &v) || v > max)
        return -(int)ERR_RANGE;
    *ret = v;
    return 0;
}

int str_to_u64(struct str s, uint64_t max, uint64_t *ret)
{
    uint64_t v = 0;
    bool over = false;

    if (!take_digits(&s, &v, &over) || s.n > 0)
        return -(int)ERR_INVALID;
    return finish(v, 1, over, max, ret);
}

int str_to_i64(struct str s, int64_t min, int64_t max, int64_t *ret)
{
    bool negative = s.n > 0 && s.p[0] == '-';
    uint64_t v = 0;
    int64_t i;
    int rc;

    if (negative) {
        s.p++;
        s.n--;
    }
    rc = str_to_u64(s, negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX, &v);
    if (rc < 0)
        return rc;
    i = negative ? (int64_t)(0 - v) : (int64_t)v;
    if (i < min || i > max)
        return -(int)ERR_RANGE;
    *ret = i;
    return 0;
}

int str_to_milli(struct str s, uint64_t max, uint64_t *ret_milli)
{
    uint64_t whole = 0, part = 0;
    bool over = false;
    size_t digits;

    if (!take_digits(&s, &whole, &over))
        return -(int)ERR_INVALID;
    if (s.n > 0) {
        if (s.p[0] != '.' || s.n < 2 || s.n > 10)
            return -(int)ERR_INVALID;
        s.p++;
        digits = --s.n;
        if (!take_digits(&s, &part, &over) || s.n > 0)
            return -(int)ERR_INVALID;
        for (; digits < 3; digits++)
            part *= 10;
        for (; digits > 3; digits--)
            part /= 10;
    }
    if (over || __builtin_mul_overflow(whole, 1000u, &whole) || __builtin_add_overflow(whole, part, &whole) || whole > max)
        return -(int)ERR_RANGE;
    *ret_milli = whole;
    return 0;
}

int str_to_bytes(struct str s, uint64_t max, uint64_t *ret)
{
    static const char units[] = "kmgtp";
    uint64_t v = 0, unit = 1;
    bool over = false;

    if (!take_digits(&s, &v, &over))
        return -(int)ERR_INVALID;
    if (s.n > 0) {
        char c = (char)(s.p[0] | 0x20);
        const char *at = c != '\0' ? strchr(units, c) : NULL;
        if (at != NULL) {
            unit = (uint64_t)1 << (10 * (at - units + 1));
            s.p++;
            s.n--;
        }
        if (s.n == 1 && (s.p[0] | 0x20) == 'b')
            s.n = 0;
    }
    if (s.n > 0)
        return -(int)ERR_INVALID;
    return finish(v, unit, over, max, ret);
}

int str_to_usec(struct str s, uint64_t max_usec, uint64_t *ret)
{
    static const struct {
        struct str name;
        uint64_t usec;
    } units[] = {
        {{"", 0}, 1000000},        {{"us", 2}, 1},          {{"ms", 2}, 1000},         {{"s", 1}, 1000000},
        {{"m", 1}, 60 * 1000000u}, {{"h", 1}, 3600000000u}, {{"d", 1}, 86400000000u},
    };
    uint64_t v = 0;
    bool over = false;

    if (!take_digits(&s, &v, &over))
        return -(int)ERR_INVALID;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (str_eq(s, units[i].name))
            return finish(v, units[i].usec, over, max_usec, ret);
    }
    return -(int)ERR_INVALID;
}
