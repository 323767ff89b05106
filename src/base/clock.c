/* SPDX-License-Identifier: Apache-2.0 */
/* clock — time, its text, and randomness, see clock.h. The calendar is computed here: no time zone, no locale. */
#include "base/clock.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/err.h"

/* 9999-12-31T23:59:59.999999Z, the last moment that RFC 3339 can write. */
#define CLOCK_LAST ((usec_t)253402300799 * USEC_SEC + 999999)

static _Atomic usec_t fake_mono = USEC_INFINITY;
static _Atomic usec_t fake_real = USEC_INFINITY;
static _Atomic usec_t lowest;
static _Atomic usec_t peer_real, peer_mono; /* 0: not heard */

static usec_t now(clockid_t id)
{
    struct timespec ts;

    if (clock_gettime(id, &ts) < 0)
        err_bug(__FILE__, __LINE__, "clock_gettime");
    return ts.tv_sec < 0 ? 0 : (usec_t)ts.tv_sec * USEC_SEC + (usec_t)ts.tv_nsec / 1000;
}

usec_t clock_mono(void)
{
    usec_t fake = atomic_load_explicit(&fake_mono, memory_order_relaxed);

    return fake != USEC_INFINITY ? fake : now(CLOCK_BOOTTIME);
}

usec_t clock_real(void)
{
    usec_t fake = atomic_load_explicit(&fake_real, memory_order_relaxed);

    return fake != USEC_INFINITY ? fake : now(CLOCK_REALTIME);
}

void clock_fake(usec_t mono, usec_t real)
{
    atomic_store_explicit(&fake_mono, mono, memory_order_relaxed);
    atomic_store_explicit(&fake_real, real, memory_order_relaxed);
}

void clock_floor_raise(usec_t real)
{
    usec_t was = atomic_load_explicit(&lowest, memory_order_relaxed);

    while (was < real && !atomic_compare_exchange_weak_explicit(&lowest, &was, real, memory_order_relaxed, memory_order_relaxed))
        ;
}

usec_t clock_floor(void)
{
    return atomic_load_explicit(&lowest, memory_order_relaxed);
}

bool clock_unsure(void)
{
    return clock_real() < clock_floor();
}

usec_t clock_checked(void)
{
    usec_t real = clock_real(), low = clock_floor();

    return real < low ? low : real;
}

void clock_peer_hear(usec_t real)
{
    if (real == 0)
        return;
    atomic_store_explicit(&peer_mono, clock_mono(), memory_order_relaxed);
    atomic_store_explicit(&peer_real, real, memory_order_relaxed);
}

usec_t clock_peer(void)
{
    usec_t real = atomic_load_explicit(&peer_real, memory_order_relaxed);

    return real == 0 ? clock_checked() : clock_add(real, clock_mono() - atomic_load_explicit(&peer_mono, memory_order_relaxed));
}

usec_t clock_add(usec_t t, usec_t delta)
{
    usec_t sum;

    return __builtin_add_overflow(t, delta, &sum) ? USEC_INFINITY : sum;
}

/* Days since 1970-01-01 of a Gregorian date from 1970 on. Years are counted from March, so that the leap day comes last. */
static uint64_t days_from_date(uint64_t year, unsigned month, unsigned day)
{
    uint64_t y = month <= 2 ? year - 1 : year;
    uint64_t m = month <= 2 ? month + 9 : month - 3;

    /* 719468 days from 0000-03-01 to 1970-01-01; (153m + 2) / 5 sums the lengths of the months from March. */
    return y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + (day - 1) - 719468;
}

static void date_from_days(uint64_t days, unsigned *year, unsigned *month, unsigned *day)
{
    uint64_t z = days + 719468;
    uint64_t era = z / 146097, doe = z % 146097; /* 146097 days in 400 years */
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    uint64_t mp = (5 * doy + 2) / 153;

    *day = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
    *month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    *year = (unsigned)(era * 400 + yoe + (*month <= 2));
}

void clock_format(usec_t real, int digits, char dst[CLOCK_TEXT_SIZE])
{
    usec_t t = real > CLOCK_LAST ? CLOCK_LAST : real;
    unsigned year, month, day, sec = (unsigned)(t / USEC_SEC % 86400), usec = (unsigned)(t % USEC_SEC);
    char fraction[16] = "";

    BUG_ON(digits != 0 && digits != 3 && digits != 6 && digits != 9);
    date_from_days(t / USEC_DAY, &year, &month, &day);
    if (digits == 3)
        (void)snprintf(fraction, sizeof(fraction), ".%03u", usec / 1000);
    else if (digits > 0)
        (void)snprintf(fraction, sizeof(fraction), ".%06u%s", usec, digits == 9 ? "000" : "");
    (void)snprintf(dst, CLOCK_TEXT_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u%sZ", year % 10000, month, day, sec / 3600,
                   sec / 60 % 60, sec % 60, fraction);
}

/* Takes exactly @n digits and then the byte @after (0: none) off the front of @s. */
static bool take(struct str *s, unsigned n, char after, unsigned max, unsigned *ret)
{
    unsigned v = 0;

    if (s->n < n + (after != '\0'))
        return false;
    for (unsigned i = 0; i < n; i++) {
        if (s->p[i] < '0' || s->p[i] > '9')
            return false;
        v = v * 10 + (unsigned)(s->p[i] - '0');
    }
    if (after != '\0' && (s->p[n] & (after == 'T' ? ~0x20 : ~0)) != after)
        return false;
    n += after != '\0';
    s->p += n;
    s->n -= n;
    *ret = v;
    return v <= max;
}

static bool take_fraction(struct str *s, uint64_t *ret_nsec)
{
    uint64_t v = 0, unit = 100000000;
    size_t i = 1;

    *ret_nsec = 0;
    if (s->n == 0 || s->p[0] != '.')
        return true;
    for (; i < s->n && s->p[i] >= '0' && s->p[i] <= '9'; i++, unit /= 10) {
        if (unit == 0)
            return false;
        v += unit * (uint64_t)(s->p[i] - '0');
    }
    s->p += i;
    s->n -= i;
    *ret_nsec = v;
    return i > 1;
}

/* 'Z' or the offset, as seconds to subtract. */
static bool take_zone(struct str *s, int *ret_offset)
{
    unsigned hour, minute;
    bool west;

    *ret_offset = 0;
    if (s->n == 1 && (s->p[0] == 'Z' || s->p[0] == 'z'))
        return true;
    if (s->n != 6 || (s->p[0] != '+' && s->p[0] != '-'))
        return false;
    west = s->p[0] == '-';
    s->p++;
    s->n--;
    if (!take(s, 2, ':', 23, &hour) || !take(s, 2, '\0', 59, &minute))
        return false;
    *ret_offset = (int)(hour * 3600 + minute * 60) * (west ? -1 : 1);
    return true;
}

int clock_parse(struct str s, usec_t *ret_real, uint64_t *ret_nsec)
{
    static const unsigned char month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned year, month, day, hour, minute, second;
    uint64_t fraction, nsec;
    int64_t sec;
    int offset;
    bool leap;

    if (!take(&s, 4, '-', 9999, &year) || !take(&s, 2, '-', 12, &month) || !take(&s, 2, 'T', 31, &day) ||
        !take(&s, 2, ':', 23, &hour) || !take(&s, 2, ':', 59, &minute) || !take(&s, 2, '\0', 59, &second) ||
        !take_fraction(&s, &fraction) || !take_zone(&s, &offset) || year < 1970 || month < 1 || day < 1)
        return -(int)ERR_INVALID;
    leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (day > month_days[month - 1] && !(leap && month == 2 && day == 29))
        return -(int)ERR_INVALID;
    sec = (int64_t)(days_from_date(year, month, day) * 86400 + hour * 3600 + minute * 60 + second) - offset;
    if (sec < 0 || sec > (int64_t)(CLOCK_LAST / USEC_SEC))
        return -(int)ERR_INVALID;
    if (ret_nsec != NULL) {
        if (__builtin_mul_overflow((uint64_t)sec, 1000000000u, &nsec) || __builtin_add_overflow(nsec, fraction, &nsec))
            return -(int)ERR_INVALID;
        *ret_nsec = nsec;
    }
    *ret_real = (usec_t)sec * USEC_SEC + fraction / 1000;
    return 0;
}

void rng_bytes(void *dst, size_t n)
{
    unsigned char *p = dst;

    while (n > 0) {
        ssize_t got = getrandom(p, n < 256 ? n : 256, 0);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            err_bug(__FILE__, __LINE__, "getrandom");
        }
        p += got;
        n -= (size_t)got;
    }
}

uint64_t rng_below(uint64_t bound)
{
    uint64_t x, unfair;

    BUG_ON(bound == 0);
    unfair = (0 - bound) % bound; /* 2^64 mod bound: the lowest values that would count once too often */
    do {
        rng_bytes(&x, sizeof(x));
    } while (x < unfair);
    return x % bound;
}

void rng_uuid(char dst[37])
{
    unsigned char b[16];
    char hex[33];

    rng_bytes(b, sizeof(b));
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    str_hex(b, sizeof(b), hex);
    (void)snprintf(dst, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

usec_t backoff_wait(unsigned attempt, usec_t base, usec_t cap)
{
    usec_t wait = cap;

    if (attempt < 64 && base <= (USEC_INFINITY >> attempt) && base << attempt < cap)
        wait = base << attempt;
    if (wait == USEC_INFINITY)
        wait--;
    return rng_below(wait + 1);
}
