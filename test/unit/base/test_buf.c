/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers and arenas: the ceiling is exact, and what does not fit changes nothing. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

enum { FULL = -(int)ERR_EXHAUSTED };

static void test_ceiling_is_exact(void **state)
{
    AUTO_BUF b = BUF_INIT(10);

    (void)state;
    assert_string_equal(buf_cstr(&b), "");
    assert_int_equal(buf_append(&b, "12345678", 8), 0);
    assert_int_equal(buf_append_cstr(&b, "90x"), FULL);
    assert_string_equal(buf_cstr(&b), "12345678");
    assert_int_equal(buf_printf(&b, "%d", 900), FULL);
    assert_string_equal(buf_cstr(&b), "12345678");
    assert_int_equal(buf_printf(&b, "%d", 90), 0);
    assert_string_equal(buf_cstr(&b), "1234567890");
    assert_int_equal(buf_append_byte(&b, 'x'), FULL);
    assert_int_equal(buf_append(&b, NULL, 0), 0);
    assert_null(buf_reserve(&b, 1));
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_int_equal(b.len, 10);
}

static void test_grow_consume_take(void **state)
{
    AUTO_BUF b = BUF_INIT(1 << 20);
    char *p;

    (void)state;
    for (int i = 0; i < 10000; i++)
        assert_int_equal(buf_printf(&b, "%04d", i), 0);
    assert_int_equal(b.len, 40000);
    buf_consume(&b, 39996);
    assert_string_equal(buf_cstr(&b), "9999");
    p = buf_reserve(&b, 3);
    memcpy(p, "abc", 3);
    buf_commit(&b, 2);
    p = buf_take(&b);
    assert_string_equal(p, "9999ab");
    free(p);
    assert_int_equal(b.max, 1 << 20);
    p = buf_take(&b);
    assert_string_equal(p, "");
    free(p);
    buf_consume(&b, 5);
    assert_int_equal(buf_append_str(&b, STR("a\0b")), 0);
    assert_int_equal(buf_str(&b).n, 3);
    buf_clear(&b);
    assert_string_equal(buf_cstr(&b), "");
}

static void test_arena_budget(void **state)
{
    AUTO_ARENA a;

    (void)state;
    arena_init(&a, 64);
    assert_non_null(arena_alloc(&a, 33)); /* counts as 48 */
    assert_null(arena_alloc(&a, 17));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_strdup(&a, (struct str){"", SIZE_MAX}));
    char *s = arena_strdup(&a, STR("fifteen letters"));
    assert_string_equal(s, "fifteen letters");
    assert_null(arena_alloc(&a, 0));
    arena_release(&a);
    assert_non_null(arena_alloc(&a, 64));
}

static void test_arena_pieces(void **state)
{
    AUTO_ARENA a;

    (void)state;
    arena_init(&a, 1 << 20);
    for (size_t n = 1; n < 1200; n += 7) {
        unsigned char *p = arena_alloc(&a, n);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xaa, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ceiling_is_exact), cmocka_unit_test(test_grow_consume_take),
        cmocka_unit_test(test_arena_budget), cmocka_unit_test(test_arena_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
