/* SPDX-License-Identifier: Apache-2.0 */
/* release_version — semantic versions and their order (semver.org 2.0.0, items 2, 9 and 11). */
#include <string.h>

#include "ident/release.h"

enum { NUMBER_DIGITS_MAX = 9, NUMBER_MAX = 999999999 };

static bool is_digits(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n > 0;
}

/* No leading zero, and short enough to count with. */
static bool is_number(struct str s)
{
    return is_digits(s) && s.n <= NUMBER_DIGITS_MAX && (s.n == 1 || s.p[0] != '0');
}

static bool is_identifier(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-'))
            return false;
    }
    return s.n > 0 && (!is_digits(s) || is_number(s));
}

/* Cuts the next part off; *more: something must follow. */
static struct str next_part(struct str *s, bool *more)
{
    *more = s->n > 0 && memchr(s->p, '.', s->n) != NULL;
    return str_cut(s, '.');
}

static bool has_prerelease(struct str version)
{
    return memchr(version.p, '-', version.n) != NULL;
}

bool release_version_valid(struct str version)
{
    bool more = true;
    if (version.n == 0 || version.n >= RELEASE_VERSION_SIZE)
        return false;
    bool pre = has_prerelease(version);
    struct str rest = version;
    struct str core = str_cut(&rest, '-');
    for (int i = 0; i < 3; i++) {
        struct str part = next_part(&core, &more);
        if (!is_number(part) || more != (i < 2))
            return false;
    }
    more = pre;
    while (more)
        if (!is_identifier(next_part(&rest, &more)))
            return false;
    return true;
}

static int compare_numbers(struct str a, struct str b)
{
    if (a.n != b.n)
        return a.n < b.n ? -1 : 1;
    return memcmp(a.p, b.p, a.n);
}

/* Numbers by value and before words; words byte by byte. */
static int compare_identifiers(struct str a, struct str b)
{
    bool na = is_digits(a), nb = is_digits(b);
    if (na && nb)
        return compare_numbers(a, b);
    if (na != nb)
        return na ? -1 : 1;
    int order = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    if (order == 0 && a.n != b.n)
        order = a.n < b.n ? -1 : 1;
    return order;
}

static int compare_prereleases(struct str a, struct str b)
{
    bool more_a = true, more_b = true;
    while (more_a && more_b) {
        int order = compare_identifiers(next_part(&a, &more_a), next_part(&b, &more_b));
        if (order != 0)
            return order;
    }
    /* All equal so far: the longer one is the newer. */
    return (int)more_a - (int)more_b;
}

int release_version_compare(struct str a, struct str b)
{
    bool valid_a = release_version_valid(a), valid_b = release_version_valid(b), more;
    if (!valid_a || !valid_b)
        return (int)valid_a - (int)valid_b;
    bool pre_a = has_prerelease(a), pre_b = has_prerelease(b);
    struct str core_a = str_cut(&a, '-'), core_b = str_cut(&b, '-');
    for (int i = 0; i < 3; i++) {
        int order = compare_numbers(next_part(&core_a, &more), next_part(&core_b, &more));
        if (order != 0)
            return order;
    }
    if (!pre_a || !pre_b)
        return (int)pre_b - (int)pre_a;
    return compare_prereleases(a, b);
}

int release_version_minor(struct str version, uint64_t *ret_major, uint64_t *ret_minor)
{
    if (!release_version_valid(version))
        return -ERR_INVALID;
    int rc = str_to_u64(str_cut(&version, '.'), NUMBER_MAX, ret_major);
    return rc == 0 ? str_to_u64(str_cut(&version, '.'), NUMBER_MAX, ret_minor) : rc;
}
