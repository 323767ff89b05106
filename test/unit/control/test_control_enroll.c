/* SPDX-License-Identifier: Apache-2.0 */
/* Enrolment without a network: which token opens, and who may try how often. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/servers/enroll.h"
#include "ident/token.h"

/* req: CL-42 CL-48 */
static void token_rules(void **state)
{
    (void)state;
    static char chain[] = "-----BEGIN CERTIFICATE-----";
    struct token_row row = {.expires = 1000 * USEC_SEC};
    uint8_t key[32] = {1}, other[32] = {2};
    struct err err = ERR_INIT;
    char secret[32];
    memset(secret, 'x', sizeof(secret));
    struct str s = {secret, 32};
    token_secret_hash(s, row.hash);
    const struct enroll_proof by_secret = {.secret = s};
    struct enroll_proof by_mac = {.tunnel = true, .holds = true};

    assert_int_equal(enroll_judge(&row, &by_secret, key, 10, &err), 0);
    assert_int_equal(enroll_judge(NULL, &by_secret, key, 10, &err), -(int)ERR_UNAUTHENTICATED);
    assert_non_null(strstr(err.msg, "unknown"));
    assert_true(err.hint[0]);
    secret[31] = 'y';
    assert_int_equal(enroll_judge(&row, &by_secret, key, 10, &err), -(int)ERR_UNAUTHENTICATED);
    assert_non_null(strstr(err.msg, "unknown"));
    secret[31] = 'x';
    /* At the limit: not a moment longer. */
    assert_int_equal(enroll_judge(&row, &by_secret, key, row.expires - 1, &err), 0);
    assert_int_equal(enroll_judge(&row, &by_secret, key, row.expires, &err), -(int)ERR_UNAUTHENTICATED);
    assert_non_null(strstr(err.msg, "expired"));

    /* Through an edge the secret counts for nothing, the MAC for all. */
    assert_int_equal(enroll_judge(&row, &by_mac, key, 10, &err), 0);
    assert_int_equal(enroll_judge(NULL, &by_mac, key, 10, &err), -(int)ERR_UNAUTHENTICATED);
    by_mac.holds = false;
    by_mac.secret = s;
    assert_int_equal(enroll_judge(&row, &by_mac, key, 10, &err), -(int)ERR_UNAUTHENTICATED);
    assert_non_null(strstr(err.msg, "unknown"));

    row.used = 100 * USEC_SEC;
    row.certificate = chain;
    memcpy(row.key, key, 32);
    assert_int_equal(enroll_judge(&row, &by_secret, key, row.used + ENROLL_REPEAT - 1, &err), 1);
    assert_int_equal(enroll_judge(&row, &by_secret, key, row.used + ENROLL_REPEAT, &err), -(int)ERR_UNAUTHENTICATED);
    assert_non_null(strstr(err.msg, "used"));
    assert_int_equal(enroll_judge(&row, &by_secret, other, row.used + 1, &err), -(int)ERR_UNAUTHENTICATED);
    row.is_void = true;
    assert_int_equal(enroll_judge(&row, &by_secret, key, row.used + 1, &err), -(int)ERR_UNAUTHENTICATED);
    assert_non_null(strstr(err.msg, "replaced"));
}

#define ADMIT(source, now) enroll_admit(e, source, "unknown234", now, 0, &err)

static void enrolment_is_rate_limited(void **state)
{
    (void)state;
    struct enroll *e = enroll_new(NULL);
    struct err err = ERR_INIT;
    char source[32];
    usec_t now = 1000 * USEC_SEC;
    for (int i = 0; i < ENROLL_SOURCE_BURST; i++)
        assert_int_equal(ADMIT("192.0.2.1", now), 0);
    assert_int_equal(ADMIT("192.0.2.1", now), -(int)ERR_EXHAUSTED);
    assert_int_equal(ADMIT("192.0.2.2", now), 0);
    assert_int_equal(ADMIT("192.0.2.1", now + ENROLL_SOURCE_EVERY), 0);
    assert_int_equal(ADMIT("192.0.2.1", now + ENROLL_SOURCE_EVERY), -(int)ERR_EXHAUSTED);
    /* All together. */
    int admitted = 0;
    now += USEC_HOUR;
    for (int i = 0; i < 200; i++) {
        (void)snprintf(source, sizeof(source), "10.0.0.%d", i);
        admitted += ADMIT(source, now) == 0;
    }
    assert_int_equal(admitted, ENROLL_BURST);
    /* Sources are forgotten once their bucket is full again: the table cannot be filled up for good. */
    for (unsigned i = 0; i < 3 * ENROLL_SOURCES_MAX; i++) {
        (void)snprintf(source, sizeof(source), "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        now += USEC_SEC / ENROLL_PER_SECOND;
        assert_int_equal(ADMIT(source, now), 0);
    }
    enroll_free(e);
}

static void one_ipv6_network_is_one_source(void **state)
{
    (void)state;
    struct enroll *e = enroll_new(NULL);
    struct err err = ERR_INIT;
    char source[64];
    int admitted = 0;
    for (int i = 0; i < 100; i++) {
        (void)snprintf(source, sizeof(source), "2001:db8:0:1::%x", i + 1);
        admitted += ADMIT(source, USEC_HOUR) == 0;
    }
    assert_int_equal(admitted, ENROLL_SOURCE_BURST);
    assert_int_equal(ADMIT("2001:db8:0:2::1", USEC_HOUR), 0);
    /* Mapped ones are IPv4 addresses. */
    for (int i = 0; i < 20; i++) {
        (void)snprintf(source, sizeof(source), "::ffff:192.0.2.%d", i);
        assert_int_equal(ADMIT(source, USEC_HOUR), 0);
    }
    enroll_free(e);
}

/* Strangers use up everything that there is for strangers; who has a token is let in, as often as a single source is. */
static void strangers_do_not_keep_out_who_has_a_token(void **state)
{
    (void)state;
    struct enroll *e = enroll_new(NULL);
    struct err err = ERR_INIT;
    char source[32];
    usec_t now = USEC_HOUR, real = USEC_HOUR;
    enroll_expect(e, "abcdefgh23", real + USEC_HOUR, real);
    for (unsigned i = 0; i < 2 * ENROLL_SOURCES_MAX; i++) {
        (void)snprintf(source, sizeof(source), "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        (void)!ADMIT(source, now);
    }
    assert_int_equal(ADMIT("192.0.2.9", now), -(int)ERR_EXHAUSTED);
    for (int i = 0; i < ENROLL_SOURCE_BURST; i++)
        assert_int_equal(enroll_admit(e, "192.0.2.9", "abcdefgh23", now, real, &err), 0);
    assert_int_equal(enroll_admit(e, "192.0.2.9", "abcdefgh23", now, real, &err), -(int)ERR_EXHAUSTED);
    assert_int_equal(enroll_admit(e, "192.0.2.9", "abcdefgh23", now + ENROLL_SOURCE_EVERY, real, &err), 0);
    /* Not one that is like it, nor one that has expired. */
    assert_int_equal(enroll_admit(e, "192.0.2.9", "abcdefgh2", now, real, &err), -(int)ERR_EXHAUSTED);
    assert_int_equal(enroll_admit(e, "192.0.2.9", "abcdefgh234", now, real, &err), -(int)ERR_EXHAUSTED);
    assert_int_equal(enroll_admit(e, "192.0.2.9", "abcdefgh23", now, real + USEC_HOUR, &err), -(int)ERR_EXHAUSTED);
    enroll_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(token_rules),
        cmocka_unit_test(enrolment_is_rate_limited),
        cmocka_unit_test(one_ipv6_network_is_one_source),
        cmocka_unit_test(strangers_do_not_keep_out_who_has_a_token),
    };
    return cmocka_run_group_tests_name("control_enroll", tests, NULL, NULL);
}
