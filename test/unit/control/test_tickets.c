/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets: one use, one minute, one owner; and their limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "control/work/tickets.h"

static void make(struct tickets *t, const char *pass, usec_t now, char name[TICKET_NAME_SIZE])
{
    Davit__Control__V1__MakeTicketRequest q = DAVIT__CONTROL__V1__MAKE_TICKET_REQUEST__INIT;
    q.path = (char *)(uintptr_t) "/x";
    assert_int_equal(tickets_make(t, pass, &q, now, name, NULL), 0);
}

static bool take(struct tickets *t, const char *name, const char *pass, usec_t now)
{
    Davit__Control__V1__MakeTicketRequest *q = tickets_take(t, str_from(name), pass, now);
    bool got = q && strcmp(q->path, "/x") == 0;
    (void)rpc_message_free(q);
    return got;
}

/* req: WK-4 */
static void test_once_for_a_minute_by_one(void **state)
{
    struct tickets *t = tickets_new();
    char a[TICKET_NAME_SIZE], b[TICKET_NAME_SIZE];
    (void)state;
    make(t, "s1", 0, a);
    make(t, "s1", 0, b);
    assert_int_equal(strlen(a), 32);
    assert_string_not_equal(a, b);
    assert_true(take(t, a, "s1", TICKET_LIFE - 1));
    assert_false(take(t, a, "s1", TICKET_LIFE - 1));
    assert_false(take(t, b, "s1", TICKET_LIFE));
    make(t, "s1", 0, a);
    assert_false(take(t, a, "s2", 1));
    assert_false(take(t, a, "s1", 1)); /* somebody else knew it */
    assert_false(take(t, "", "s1", 1));
    (void)tickets_free(t);
}

static void test_limits(void **state)
{
    struct tickets *t = tickets_new();
    char first[TICKET_NAME_SIZE], name[TICKET_NAME_SIZE], other[TICKET_NAME_SIZE];
    Davit__Control__V1__MakeTicketRequest q = DAVIT__CONTROL__V1__MAKE_TICKET_REQUEST__INIT;
    (void)state;
    make(t, "other", 0, other);
    make(t, "s", 0, first);
    for (unsigned i = 1; i < TICKETS_EACH; i++)
        make(t, "s", 0, name);
    make(t, "s", 0, name); /* the first goes */
    assert_false(take(t, first, "s", 1));
    assert_true(take(t, name, "s", 1));
    assert_true(take(t, other, "other", 1));
    (void)tickets_free(t);
    t = tickets_new();
    char path[TICKET_WHAT_MAX + 1] = "";
    memset(path, 'x', TICKET_WHAT_MAX);
    q.path = path;
    assert_int_equal(tickets_make(t, "one more", &q, TICKET_LIFE, name, NULL), -(int)ERR_INVALID);
    path[TICKET_WHAT_MAX - 3] = '\0'; /* a tag and two bytes of length stand before it */
    assert_int_equal(tickets_make(t, "long", &q, TICKET_LIFE, name, NULL), 0);
    (void)tickets_free(t);
    t = tickets_new();
    for (unsigned i = 0; i < TICKETS_MAX; i++) {
        char pass[PASS_ID_SIZE];
        (void)snprintf(pass, sizeof(pass), "s%u", i);
        make(t, pass, 0, name);
    }
    q.path = (char *)(uintptr_t) "/x";
    assert_int_equal(tickets_make(t, "one more", &q, 1, name, NULL), -(int)ERR_EXHAUSTED);
    assert_int_equal(tickets_make(t, "one more", &q, TICKET_LIFE, name, NULL), 0);
    (void)tickets_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_once_for_a_minute_by_one), cmocka_unit_test(test_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
