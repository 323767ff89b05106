/* SPDX-License-Identifier: Apache-2.0 */
/* json_text — see json_text.h. */
#include "rpc/json_text.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NANOS = 1000000000 };

#define TIME_MIN (-62135596800LL) /* 0001-01-01 */
#define TIME_MAX 253402300799LL   /* 9999-12-31T23:59:59 */
#define SPAN_MAX 315576000000LL

/* ---- numbers ---- */

struct decimal {
    bool negative;
    char digits[JSON_TEXT_MAX + 1];
    size_t n;      /* without leading zeros */
    long exponent; /* of ten, behind the last digit */
};

static struct str behind(struct str s, size_t n)
{
    return (struct str){s.p + n, s.n - n};
}

static bool starts_with_digit(struct str s)
{
    return s.n && isdigit((unsigned char)*s.p);
}

static size_t take_digits(struct str *s, struct decimal *d, bool fraction)
{
    size_t n = 0;
    for (; n < s->n && isdigit((unsigned char)s->p[n]); n++) {
        if (d->n || s->p[n] != '0')
            d->digits[d->n++] = s->p[n];
        if (fraction)
            d->exponent--;
    }
    *s = behind(*s, n);
    return n;
}

static int parse_decimal(struct str s, struct decimal *d)
{
    *d = (struct decimal){0};
    if (s.n == 0 || s.n > JSON_TEXT_MAX)
        return -ERR_INVALID;
    d->negative = *s.p == '-';
    if (d->negative)
        s = behind(s, 1);
    if (s.n > 1 && *s.p == '0' && starts_with_digit(behind(s, 1)))
        return -ERR_INVALID;
    if (take_digits(&s, d, false) == 0)
        return -ERR_INVALID;
    if (s.n && *s.p == '.') {
        s = behind(s, 1);
        if (take_digits(&s, d, true) == 0)
            return -ERR_INVALID;
    }
    if (s.n && (*s.p == 'e' || *s.p == 'E')) {
        s = behind(s, 1);
        int64_t e;
        if (s.n > 1 && *s.p == '+' && starts_with_digit(behind(s, 1)))
            s = behind(s, 1);
        if (str_to_i64(s, -100000, 100000, &e) < 0)
            return -ERR_INVALID;
        d->exponent += (long)e;
        s.n = 0;
    }
    while (d->n && d->digits[d->n - 1] == '0') {
        d->n--;
        d->exponent++;
    }
    return s.n ? -ERR_INVALID : 0;
}

/* Magnitude of an integral value. 0, or negative for a fraction or what exceeds 64 bits. */
static int integral(const struct decimal *d, uint64_t *ret)
{
    uint64_t v = 0;
    if (d->n == 0) {
        *ret = 0;
        return 0;
    }
    if (d->exponent < 0 || d->exponent > 20 || (long)d->n + d->exponent > 20)
        return -ERR_RANGE;
    for (size_t i = 0; i < d->n + (size_t)d->exponent; i++)
        if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(i < d->n ? d->digits[i] - '0' : 0), &v))
            return -ERR_RANGE;
    *ret = v;
    return 0;
}

int json_text_integer(struct str s, uint64_t max, uint64_t max_negative, uint64_t *ret)
{
    struct decimal d;
    uint64_t v;
    if (parse_decimal(s, &d) < 0)
        return -ERR_INVALID;
    if (integral(&d, &v) < 0 || v > (d.negative ? max_negative : max))
        return -ERR_RANGE;
    *ret = d.negative ? 0 - v : v;
    return 0;
}

int json_text_double(struct str s, bool single, double *ret)
{
    struct decimal d;
    char text[JSON_TEXT_MAX + 1];
    if (parse_decimal(s, &d) < 0)
        return -ERR_INVALID;
    (void)str_copy(text, sizeof(text), s);
    *ret = single ? (double)strtof(text, NULL) : strtod(text, NULL);
    return isinf(*ret) ? -ERR_RANGE : 0;
}

void json_text_put_double(double v, bool single, char dst[JSON_TEXT_MAX])
{
    int most = single ? 9 : 17;
    for (int digits = single ? 6 : 15; digits <= most; digits++) {
        (void)snprintf(dst, JSON_TEXT_MAX, "%.*g", digits, v);
        if (single ? strtof(dst, NULL) == (float)v : strtod(dst, NULL) == v)
            break;
    }
}

/* ---- time ---- */

/* Exactly @n digits. */
static int take_number(struct str *s, size_t n, int *ret)
{
    if (s->n < n)
        return -ERR_INVALID;
    *ret = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char)s->p[i]))
            return -ERR_INVALID;
        *ret = *ret * 10 + (s->p[i] - '0');
    }
    *s = behind(*s, n);
    return 0;
}

static int take_char(struct str *s, char c)
{
    if (!s->n || *s->p != c)
        return -ERR_INVALID;
    *s = behind(*s, 1);
    return 0;
}

/* ".789" if it is there: one to nine digits. */
static int take_nanos(struct str *s, int32_t *ret)
{
    int32_t v = 0;
    size_t n = 0;
    *ret = 0;
    if (take_char(s, '.') < 0)
        return 0;
    for (; n < s->n && isdigit((unsigned char)s->p[n]); n++) {
        if (n == 9)
            return -ERR_INVALID;
        v = v * 10 + (s->p[n] - '0');
    }
    *s = behind(*s, n);
    for (size_t i = n; i < 9; i++)
        v *= 10;
    *ret = v;
    return n ? 0 : -ERR_INVALID;
}

/* Days since 1970-01-01 of the first of a month of the Gregorian calendar. */
static int64_t days_to_month(int64_t year, int month)
{
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    int64_t y = year - 1;
    return y * 365 + y / 4 - y / 100 + y / 400 - 719162 + before[month - 1] + (leap && month > 2);
}

static int days_in_month(int64_t year, int month)
{
    return month == 12 ? 31 : (int)(days_to_month(year, month + 1) - days_to_month(year, month));
}

/* "Z" or "+01:30": the rest of @s. */
static int take_offset(struct str s, int *ret_seconds)
{
    int hours, minutes;
    *ret_seconds = 0;
    if (s.n == 1 && *s.p == 'Z')
        return 0;
    if (s.n != 6 || (*s.p != '+' && *s.p != '-'))
        return -ERR_INVALID;
    bool negative = *s.p == '-';
    s = behind(s, 1);
    if (take_number(&s, 2, &hours) < 0 || take_char(&s, ':') < 0 || take_number(&s, 2, &minutes) < 0 || hours > 23 ||
        minutes > 59)
        return -ERR_INVALID;
    *ret_seconds = (hours * 60 + minutes) * (negative ? -60 : 60);
    return 0;
}

int json_text_time(struct str s, int64_t *ret_seconds, int32_t *ret_nanos)
{
    int year, month, day, hour, minute, second, offset;
    if (take_number(&s, 4, &year) < 0 || take_char(&s, '-') < 0 || take_number(&s, 2, &month) < 0 || take_char(&s, '-') < 0 ||
        take_number(&s, 2, &day) < 0 || take_char(&s, 'T') < 0 || take_number(&s, 2, &hour) < 0 || take_char(&s, ':') < 0 ||
        take_number(&s, 2, &minute) < 0 || take_char(&s, ':') < 0 || take_number(&s, 2, &second) < 0 ||
        take_nanos(&s, ret_nanos) < 0 || take_offset(s, &offset) < 0)
        return -ERR_INVALID;
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 || minute > 59 ||
        second > 59)
        return -ERR_INVALID;
    *ret_seconds = (days_to_month(year, month) + day - 1) * 86400 + hour * 3600 + minute * 60 + second - offset;
    return *ret_seconds < TIME_MIN || *ret_seconds > TIME_MAX ? -ERR_INVALID : 0;
}

/* Behind the seconds: nothing, or a point and 3, 6 or 9 digits. */
static const char *fraction(int32_t nanos, char dst[16])
{
    if (nanos == 0)
        dst[0] = 0;
    else if (nanos % 1000000 == 0)
        (void)snprintf(dst, 16, ".%03d", nanos / 1000000);
    else if (nanos % 1000 == 0)
        (void)snprintf(dst, 16, ".%06d", nanos / 1000);
    else
        (void)snprintf(dst, 16, ".%09d", nanos);
    return dst;
}

int json_text_put_time(int64_t seconds, int32_t nanos, char dst[JSON_TEXT_MAX])
{
    if (seconds < TIME_MIN || seconds > TIME_MAX || nanos < 0 || nanos >= NANOS)
        return -ERR_RANGE;
    int64_t since = seconds - TIME_MIN, days = since / 86400, rest = since % 86400 /* since 0001-01-01 */;
    int64_t year = days / 366 + 1; /* never too late */
    days += TIME_MIN / 86400;
    while (days_to_month(year + 1, 1) <= days)
        year++;
    int month = 12;
    while (days_to_month(year, month) > days)
        month--;
    char part[16];
    (void)snprintf(dst, JSON_TEXT_MAX, "%04d-%02d-%02dT%02d:%02d:%02d%sZ", (int)year, month,
                   (int)(days - days_to_month(year, month)) + 1, (int)(rest / 3600), (int)(rest / 60 % 60), (int)(rest % 60),
                   fraction(nanos, part));
    return 0;
}

int json_text_span(struct str s, int64_t *ret_seconds, int32_t *ret_nanos)
{
    bool negative = take_char(&s, '-') == 0;
    size_t n = 0;
    uint64_t seconds;
    int32_t nanos;
    while (n < s.n && isdigit((unsigned char)s.p[n]))
        n++;
    if (n == 0 || n > 12 || str_to_u64((struct str){s.p, n}, SPAN_MAX, &seconds) < 0)
        return -ERR_INVALID;
    s = behind(s, n);
    if (take_nanos(&s, &nanos) < 0 || take_char(&s, 's') < 0 || s.n || (seconds == SPAN_MAX && nanos))
        return -ERR_INVALID;
    *ret_seconds = negative ? -(int64_t)seconds : (int64_t)seconds;
    *ret_nanos = negative ? -nanos : nanos;
    return 0;
}

int json_text_put_span(int64_t seconds, int32_t nanos, char dst[JSON_TEXT_MAX])
{
    char part[16];
    if (seconds < -SPAN_MAX || seconds > SPAN_MAX || nanos <= -NANOS || nanos >= NANOS || (seconds > 0 && nanos < 0) ||
        (seconds < 0 && nanos > 0))
        return -ERR_RANGE;
    bool negative = seconds < 0 || nanos < 0;
    (void)snprintf(dst, JSON_TEXT_MAX, "%s%lld%ss", negative ? "-" : "", (long long)(seconds < 0 ? -seconds : seconds),
                   fraction(nanos < 0 ? -nanos : nanos, part));
    return 0;
}

/* ---- field masks ---- */

int json_text_path(struct str s, struct buf *out)
{
    int rc = s.n ? 0 : -ERR_INVALID;
    for (size_t i = 0; rc == 0 && i < s.n; i++) {
        char c = s.p[i];
        if (isupper((unsigned char)c)) {
            rc = buf_append_byte(out, '_');
            c = (char)tolower((unsigned char)c);
        }
        if (rc == 0)
            rc = islower((unsigned char)c) || isdigit((unsigned char)c) || c == '.' ? buf_append_byte(out, (uint8_t)c)
                                                                                    : -ERR_INVALID;
    }
    return rc;
}

int json_text_put_path(struct str s, struct buf *out)
{
    int rc = s.n ? 0 : -ERR_INVALID;
    for (size_t i = 0; rc == 0 && i < s.n; i++) {
        char c = s.p[i];
        if (c == '_') {
            if (++i == s.n || !islower((unsigned char)s.p[i]))
                return -ERR_INVALID;
            c = (char)toupper((unsigned char)s.p[i]);
        } else if (!islower((unsigned char)c) && !isdigit((unsigned char)c) && c != '.') {
            return -ERR_INVALID;
        }
        rc = buf_append_byte(out, (uint8_t)c);
    }
    return rc;
}
