/* SPDX-License-Identifier: Apache-2.0 */
/* The strict conversions on anything: no read past the end, and what decodes must encode to the same again. */
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"

static void numbers(struct str s)
{
    uint64_t u;
    int64_t i;
    usec_t t;

    (void)!str_to_u64(s, UINT64_MAX, &u);
    (void)!str_to_milli(s, UINT64_MAX, &u);
    (void)!str_to_bytes(s, UINT64_MAX, &u);
    (void)!str_to_usec(s, UINT64_MAX, &u);
    (void)!clock_parse(s, &t, &u);
    (void)!clock_parse(s, &t, NULL);
    BUG_ON(str_to_i64(s, -5, 5, &i) == 0 && (i < -5 || i > 5));
}

/* Without padding both alphabets have one spelling per value, so the decoder must be the exact inverse. */
static void base64(struct str s)
{
    AUTO_FREE unsigned char *bytes = malloc(s.n + 1);
    size_t n = 0;

    if (bytes == NULL || str_unbase64(s, bytes, s.n, &n) < 0)
        return;
    AUTO_FREE char *url = str_base64url(bytes, n);
    struct str again = str_from(url);
    BUG_ON(again.n > s.n || s.n - again.n > 2);
    for (size_t i = 0; i < again.n; i++) {
        char c = s.p[i] == '+' ? '-' : s.p[i] == '/' ? '_' : s.p[i];
        BUG_ON(c != again.p[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str s = {(const char *)data, size};
    unsigned char bytes[64];
    char small[8];
    size_t n;

    numbers(s);
    base64(s);
    (void)!str_unhex(s, bytes, sizeof(bytes), &n);
    (void)str_is_label(s);
    (void)str_trim(s);
    (void)str_copy(small, sizeof(small), s);
    BUG_ON(str_is_utf8(s) && !str_is_utf8((struct str){small, s.n < 7 ? s.n : str_from(small).n}));
    return 0;
}
