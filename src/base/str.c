/* SPDX-License-Identifier: Apache-2.0 */
/* str — borrowed text: comparing, cutting, copying, UTF-8, hex and base64. The number parsers are in str_num.c. */
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

struct str str_from(const char *s)
{
    return s != NULL ? (struct str){s, strlen(s)} : STR("");
}

static unsigned char lower(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool str_eq_ci(struct str a, struct str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++) {
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    }
    return true;
}

bool str_starts(struct str s, struct str prefix)
{
    return s.n >= prefix.n && str_eq((struct str){s.p, prefix.n}, prefix);
}

bool str_ends(struct str s, struct str suffix)
{
    if (suffix.n == 0)
        return true;
    return s.n >= suffix.n && str_eq((struct str){s.p + (s.n - suffix.n), suffix.n}, suffix);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct str str_trim(struct str s)
{
    while (s.n > 0 && is_blank(s.p[s.n - 1]))
        s.n--;
    while (s.n > 0 && is_blank(*s.p)) {
        s.p++;
        s.n--;
    }
    return s;
}

struct str str_cut(struct str *s, char sep)
{
    const char *at = s->n > 0 ? memchr(s->p, sep, s->n) : NULL;
    struct str head = *s;

    if (at == NULL) {
        if (s->n > 0)
            s->p += s->n;
        s->n = 0;
        return head;
    }
    head.n = (size_t)(at - head.p);
    s->p = at + 1;
    s->n -= head.n + 1;
    return head;
}

struct str str_word(struct str *s)
{
    size_t from = 0, n;
    while (from < s->n && (s->p[from] == ' ' || s->p[from] == '\t'))
        from++;
    for (n = from; n < s->n && s->p[n] != ' ' && s->p[n] != '\t';)
        n++;
    struct str w = {s->p + from, n - from};
    *s = (struct str){s->p + n, s->n - n};
    return w;
}

char *str_dup(struct str s)
{
    BUG_ON(s.n > PTRDIFF_MAX - 1);
    char *p = mem_alloc(s.n + 1);

    if (s.n > 0)
        memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return p;
}

char *str_printf(const char *fmt, ...)
{
    va_list ap;
    char *p = NULL;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&p, fmt, ap);
    va_end(ap);
    if (n < 0)
        err_bug(__FILE__, __LINE__, "out of memory");
    return p;
}

int str_copy(char *dst, size_t size, struct str s)
{
    size_t n = s.n;

    BUG_ON(size == 0);
    if (n > size - 1) {
        n = size - 1;
        /* Back over continuation bytes to the start of the sequence that does not fit; at most three, or it is no UTF-8. */
        size_t cut = n;
        while (cut > 0 && n - cut < 3 && ((unsigned char)s.p[cut] & 0xc0) == 0x80)
            cut--;
        if (((unsigned char)s.p[cut] & 0xc0) != 0x80)
            n = cut;
    }
    if (n > 0)
        memcpy(dst, s.p, n);
    dst[n] = '\0';
    return n < s.n;
}

size_t str_utf8_len(struct str s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    size_t len;

    if (s.n == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (s.n < len)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    /* Overlong forms, surrogates and what lies above U+10FFFF differ in the second byte (RFC 3629, section 4). */
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

bool str_is_utf8(struct str s)
{
    while (s.n > 0) {
        size_t len = str_utf8_len(s);
        if (len == 0)
            return false;
        s.p += len;
        s.n -= len;
    }
    return true;
}

bool str_is_trick(struct str c)
{
    const unsigned char *u = (const unsigned char *)c.p;

    if (c.n == 2)
        return (u[0] == 0xc2 && u[1] < 0xa0) || (u[0] == 0xd8 && u[1] == 0x9c);
    if (c.n != 3 || u[0] != 0xe2)
        return false;
    return (u[1] == 0x80 && ((u[2] >= 0x8e && u[2] <= 0x8f) || (u[2] >= 0xa8 && u[2] <= 0xae))) ||
           (u[1] == 0x81 && u[2] >= 0xa6 && u[2] <= 0xa9);
}

bool str_is_label(struct str s)
{
    if (s.n < 1 || s.n > 63 || s.p[0] == '-' || s.p[s.n - 1] == '-')
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return false;
    }
    return true;
}

bool str_is_dns_name(struct str s)
{
    if (s.n == 0 || s.n > 253)
        return false;
    while (s.n > 0) {
        size_t before = s.n;
        struct str label = str_cut(&s, '.');
        if (!str_is_label(label) || (s.n == 0 && label.n != before)) /* a dot at the end */
            return false;
    }
    return true;
}

bool str_eq_secret(struct str a, struct str b)
{
    volatile unsigned char diff = 0; /* volatile: the compiler must not leave the loop early */

    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        diff = (unsigned char)(diff | (a.p[i] ^ b.p[i]));
    return diff == 0;
}

void str_hex(const void *src, size_t n, char *dst)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *p = src;

    for (size_t i = 0; i < n; i++) {
        dst[2 * i] = digits[p[i] >> 4];
        dst[2 * i + 1] = digits[p[i] & 15];
    }
    dst[2 * n] = '\0';
}

int str_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int str_unhex(struct str s, void *dst, size_t dst_size, size_t *ret_n)
{
    unsigned char *out = dst;

    if (s.n % 2 != 0 || s.n / 2 > dst_size)
        return -(int)ERR_INVALID;
    for (size_t i = 0; i < s.n / 2; i++) {
        int hi = str_hex_digit(s.p[2 * i]), lo = str_hex_digit(s.p[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return -(int)ERR_INVALID;
        out[i] = (unsigned char)(hi << 4 | lo);
    }
    if (ret_n != NULL)
        *ret_n = s.n / 2;
    return 0;
}

static char *encode64(const unsigned char *p, size_t n, const char *alphabet, bool pad)
{
    BUG_ON(n > PTRDIFF_MAX / 2);
    char *ret = mem_alloc((n + 2) / 3 * 4 + 1), *q = ret;

    for (size_t i = 0; i < n; i += 3) {
        size_t have = n - i < 3 ? n - i : 3;
        uint32_t v = (uint32_t)p[i] << 16 | (have > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (have > 2 ? p[i + 2] : 0);
        for (size_t k = 0; k < 4; k++) {
            if (k <= have)
                *q++ = alphabet[v >> (18 - 6 * k) & 63];
            else if (pad)
                *q++ = '=';
        }
    }
    *q = '\0';
    return ret;
}

char *str_base64(const void *src, size_t n)
{
    return encode64(src, n, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", true);
}

char *str_base64url(const void *src, size_t n)
{
    return encode64(src, n, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", false);
}

static int digit64(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

int str_unbase64(struct str s, void *dst, size_t dst_size, size_t *ret_n)
{
    unsigned char *out = dst;
    size_t n = s.n, len, at = 0;
    uint32_t bits = 0;
    unsigned have = 0;

    /* One form per value: padding only where it belongs, and no stray bits in the last digit. */
    if (n > 0 && n % 4 == 0 && s.p[n - 1] == '=')
        n -= s.p[n - 2] == '=' ? 2 : 1;
    if (n % 4 == 1)
        return -(int)ERR_INVALID;
    len = n / 4 * 3 + (n % 4 > 0 ? n % 4 - 1 : 0);
    for (size_t i = 0; i < n; i++) {
        int d = digit64(s.p[i]);
        if (d < 0)
            return -(int)ERR_INVALID;
        bits = bits << 6 | (uint32_t)d;
        have += 6;
        if (have < 8)
            continue;
        have -= 8;
        if (at < dst_size)
            out[at] = (unsigned char)(bits >> have);
        at++;
        bits &= (1u << have) - 1;
    }
    if (bits != 0)
        return -(int)ERR_INVALID;
    if (len > dst_size)
        return -(int)ERR_RANGE;
    if (ret_n != NULL)
        *ret_n = len;
    return 0;
}
