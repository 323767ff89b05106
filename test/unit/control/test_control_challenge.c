/* SPDX-License-Identifier: Apache-2.0 */
/* Challenges: one use, one purpose, one minute, and nobody takes another's place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/servers/challenge.h"

static const usec_t NOW = 1000 * USEC_SEC;
static const uint8_t mine[32] = {1}, other[32] = {2};

#define BYTES(nonce) ((struct str){(const char *)(nonce), 32})

static int take(struct challenges *ch, const uint8_t *client, const uint8_t *server, usec_t now)
{
    struct err err = ERR_INIT;
    return challenge_take(ch, CHALLENGE_RECOVER, BYTES(client), BYTES(server), now, &err);
}

/* req: CB-9 */
static void one_use(void **state)
{
    (void)state;
    struct challenges *ch = challenges_new();
    uint8_t n[32], m[32];
    struct err err = ERR_INIT;
    challenge_make(ch, "192.0.2.1", CHALLENGE_RECOVER, mine, NOW, n);
    challenge_make(ch, "192.0.2.1", CHALLENGE_RECOVER, mine, NOW, m);
    assert_memory_not_equal(n, m, 32);
    assert_int_equal(take(ch, mine, n, NOW), 0);
    assert_int_equal(take(ch, mine, n, NOW), -(int)ERR_UNAUTHENTICATED);
    /* A try with another nonce of the caller, or for another purpose, burns it as well. */
    assert_int_equal(take(ch, other, m, NOW), -(int)ERR_UNAUTHENTICATED);
    assert_int_equal(take(ch, mine, m, NOW), -(int)ERR_UNAUTHENTICATED);
    challenge_make(ch, "192.0.2.1", CHALLENGE_ENROLL, mine, NOW, n);
    assert_int_equal(take(ch, mine, n, NOW), -(int)ERR_UNAUTHENTICATED);
    assert_int_equal(challenges_count(ch), 0);
    /* Sizes are the peer's. */
    challenge_make(ch, "192.0.2.1", CHALLENGE_RECOVER, mine, NOW, n);
    assert_int_equal(challenge_take(ch, CHALLENGE_RECOVER, BYTES(mine), (struct str){(const char *)n, 31}, NOW, &err), -(int)ERR_UNAUTHENTICATED);
    assert_int_equal(challenge_take(ch, CHALLENGE_RECOVER, STR(""), BYTES(n), NOW, &err), -(int)ERR_UNAUTHENTICATED);
    assert_true(err.hint[0]);
    (void)challenges_free(ch);
}

static void a_minute(void **state)
{
    (void)state;
    struct challenges *ch = challenges_new();
    uint8_t n[32], m[32];
    challenge_make(ch, "a", CHALLENGE_RECOVER, mine, NOW, n);
    challenge_make(ch, "a", CHALLENGE_RECOVER, mine, NOW, m);
    assert_int_equal(take(ch, mine, n, NOW + CHALLENGE_LIFE - 1), 0);
    assert_int_equal(take(ch, mine, m, NOW + CHALLENGE_LIFE), -(int)ERR_UNAUTHENTICATED);
    /* What is over makes room by itself. */
    for (int i = 0; i < CHALLENGES_EACH; i++)
        challenge_make(ch, "a", CHALLENGE_RECOVER, mine, NOW, n);
    challenge_make(ch, "b", CHALLENGE_RECOVER, mine, NOW + CHALLENGE_LIFE, n);
    assert_int_equal(challenges_count(ch), 1);
    (void)challenges_free(ch);
}

static void one_caller_keeps_its_share(void **state)
{
    (void)state;
    struct challenges *ch = challenges_new();
    uint8_t of_a[32], first[32], last[32];
    challenge_make(ch, "a", CHALLENGE_RECOVER, mine, NOW, of_a);
    challenge_make(ch, "b", CHALLENGE_RECOVER, mine, NOW, first);
    for (int i = 0; i < CHALLENGES_EACH; i++)
        challenge_make(ch, "b", CHALLENGE_RECOVER, mine, NOW, last);
    assert_int_equal(challenges_count(ch), 1 + CHALLENGES_EACH);
    assert_int_equal(take(ch, mine, first, NOW), -(int)ERR_UNAUTHENTICATED);
    assert_int_equal(take(ch, mine, last, NOW), 0);
    assert_int_equal(take(ch, mine, of_a, NOW), 0);
    (void)challenges_free(ch);
}

static void full_table(void **state)
{
    (void)state;
    struct challenges *ch = challenges_new();
    uint8_t single[32], n[32];
    char whose[32];
    challenge_make(ch, "single", CHALLENGE_RECOVER, mine, NOW, single);
    for (unsigned i = 0; i < CHALLENGES_MAX / CHALLENGES_EACH; i++) {
        (void)snprintf(whose, sizeof(whose), "greedy-%u", i);
        for (unsigned k = 0; k < CHALLENGES_EACH; k++)
            challenge_make(ch, whose, CHALLENGE_RECOVER, mine, NOW, n);
    }
    assert_int_equal(challenges_count(ch), CHALLENGES_MAX);
    for (unsigned i = 0; i < 100; i++) {
        (void)snprintf(whose, sizeof(whose), "new-%u", i);
        challenge_make(ch, whose, CHALLENGE_RECOVER, mine, NOW, n);
    }
    assert_int_equal(challenges_count(ch), CHALLENGES_MAX);
    assert_int_equal(take(ch, mine, single, NOW), 0);
    assert_int_equal(take(ch, mine, n, NOW), 0);
    (void)challenges_free(ch);
}

static void purposes(void **state)
{
    (void)state;
    assert_int_equal(challenge_purpose_of("recover"), CHALLENGE_RECOVER);
    assert_int_equal(challenge_purpose_of("enroll"), CHALLENGE_ENROLL);
    assert_int_equal(challenge_purpose_of("tunnel-agent"), CHALLENGE_NONE);
    assert_int_equal(challenge_purpose_of(""), CHALLENGE_NONE);
    assert_int_equal(challenge_purpose_of(NULL), CHALLENGE_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_use),    cmocka_unit_test(a_minute), cmocka_unit_test(one_caller_keeps_its_share),
        cmocka_unit_test(full_table), cmocka_unit_test(purposes),
    };
    return cmocka_run_group_tests_name("control_challenge", tests, NULL, NULL);
}
