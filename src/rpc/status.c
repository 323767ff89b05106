/* SPDX-License-Identifier: Apache-2.0 */
/* status — see status.h. */
#include "rpc/status.h"

#include <stdio.h>
#include <string.h>

#include "net/h2.h"

void status_escape(const char *text, char dst[STATUS_TEXT_MAX])
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        bool edge = p == (const unsigned char *)text || !p[1]; /* HTTP strips or refuses blanks there */
        bool plain = *p > (edge ? 0x20 : 0x1f) && *p <= 0x7e && *p != '%';
        if (n + (plain ? 1 : 3) >= STATUS_TEXT_MAX)
            break;
        if (plain) {
            dst[n++] = (char)*p;
        } else {
            dst[n++] = '%';
            dst[n++] = hex[*p >> 4];
            dst[n++] = hex[*p & 15];
        }
    }
    while (n && dst[n - 1] == ' ') /* where it was cut */
        n--;
    dst[n] = 0;
}

void status_unescape(const char *text, char *dst, size_t size)
{
    char plain[STATUS_TEXT_MAX];
    size_t n = 0;
    for (const char *p = text; *p && n + 1 < sizeof(plain); p++) {
        int hi = *p == '%' ? str_hex_digit(p[1]) : -1, lo = hi >= 0 ? str_hex_digit(p[2]) : -1;
        unsigned char c = lo >= 0 ? (unsigned char)(hi * 16 + lo) : (unsigned char)*p;
        if (lo >= 0)
            p += 2;
        plain[n++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    if (!str_is_utf8((struct str){plain, n}))
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)plain[i] >= 0x80)
                plain[i] = '?';
    (void)str_copy(dst, size, (struct str){plain, n});
}

int status_parse_timeout(const char *text, usec_t *ret)
{
    size_t n = strspn(text, "0123456789");
    if (n < 1 || n > 8 || !text[n] || text[n + 1])
        return -ERR_INVALID;
    uint64_t v;
    if (str_to_u64((struct str){text, n}, 99999999, &v) < 0)
        return -ERR_INVALID;
    switch (text[n]) {
    case 'H': *ret = v * USEC_HOUR; break;
    case 'M': *ret = v * USEC_MINUTE; break;
    case 'S': *ret = v * USEC_SEC; break;
    case 'm': *ret = v * USEC_MSEC; break;
    case 'u': *ret = v; break;
    case 'n': *ret = (v + 999) / 1000; break;
    default: return -ERR_INVALID;
    }
    return 0;
}

void status_format_timeout(usec_t timeout, char dst[TIMEOUT_TEXT_SIZE])
{
    static const struct {
        usec_t unit;
        char letter;
    } units[] = {{1, 'u'}, {USEC_MSEC, 'm'}, {USEC_SEC, 'S'}, {USEC_MINUTE, 'M'}, {USEC_HOUR, 'H'}};
    size_t i = 0;
    while (i + 1 < ARRAY_LEN(units) && timeout / units[i].unit > 99999999)
        i++;
    usec_t v = timeout / units[i].unit;
    (void)snprintf(dst, TIMEOUT_TEXT_SIZE, "%u%c", (unsigned)(v > 99999999 ? 99999999 : v), units[i].letter);
}

int status_parse_timeout_ms(const char *text, usec_t *ret)
{
    uint64_t v;
    size_t n = strlen(text);
    if (n < 1 || n > 10 || str_to_u64((struct str){text, n}, 9999999999ULL, &v) < 0)
        return -ERR_INVALID;
    *ret = v * USEC_MSEC;
    return 0;
}

bool status_list_has(const char *list, const char *word)
{
    struct str rest = str_from(list);
    while (rest.n) {
        struct str one = str_cut(&rest, ',');
        if (str_eq_ci(str_trim(str_cut(&one, ';')), str_from(word)))
            return true;
    }
    return false;
}

enum err_code status_from_reset(uint32_t h2_code)
{
    switch (h2_code) {
    case H2_REFUSED_STREAM: return ERR_UNAVAILABLE;
    case H2_CANCEL: return ERR_CANCELLED;
    case H2_ENHANCE_YOUR_CALM: return ERR_EXHAUSTED;
    case H2_INADEQUATE_SECURITY: return ERR_DENIED;
    default: return ERR_INTERNAL;
    }
}

enum err_code status_from_http(const char *status)
{
    static const struct {
        const char *status;
        enum err_code code;
    } map[] = {{"400", ERR_INTERNAL},      {"401", ERR_UNAUTHENTICATED}, {"403", ERR_DENIED},
               {"404", ERR_UNIMPLEMENTED}, {"429", ERR_UNAVAILABLE},     {"431", ERR_INTERNAL},
               {"502", ERR_UNAVAILABLE},   {"503", ERR_UNAVAILABLE},     {"504", ERR_UNAVAILABLE}};
    for (size_t i = 0; i < ARRAY_LEN(map); i++)
        if (strcmp(map[i].status, status) == 0)
            return map[i].code;
    return ERR_UNKNOWN;
}

int status_from_trailers(const char *status, const char *message, const char *hint, struct err *err)
{
    uint64_t code;
    if (str_to_u64(str_from(status), 1000, &code) < 0)
        return err_set(err, ERR_UNKNOWN, "the answer carries a malformed status");
    if (code == 0)
        return 0;
    if (code >= ERR_CODE_MAX)
        code = ERR_UNKNOWN;
    char text[ERR_MSG_MAX];
    status_unescape(message ? message : "", text, sizeof(text));
    int rc = err_set(err, (enum err_code)code, "%s", *text ? text : err_code_name((enum err_code)code));
    if (hint && err) {
        status_unescape(hint, text, sizeof(text));
        err_hint(err, "%s", text);
    }
    return rc;
}
