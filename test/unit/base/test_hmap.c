/* SPDX-License-Identifier: Apache-2.0 */
/* Hash table, its hash, and the list. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "base/err.h"
#include "base/hmap.h"
#include "base/list.h"

/* Key 00..0f, input of n bytes 00.., from the appendix of the SipHash paper (n = 15) and its reference vectors. */
static void test_siphash_vectors(void **state)
{
    static const uint64_t key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
    unsigned char in[15];

    (void)state;
    for (size_t i = 0; i < sizeof(in); i++)
        in[i] = (unsigned char)i;
    assert_true(hash_siphash(key, in, 0) == 0x726fdb47dd0e0e31u);
    assert_true(hash_siphash(key, in, 1) == 0x74f839c593dc67fdu);
    assert_true(hash_siphash(key, in, 8) == 0x93f5f5799a932462u);
    assert_true(hash_siphash(key, in, 15) == 0xa129ca6149be45e5u);
    assert_true(hash_bytes(in, 15) == hash_bytes(in, 15));
}

static void test_put_get_remove(void **state)
{
    struct hmap *m = hmap_new(2);
    int a, b;
    void *old = &a;

    (void)state;
    assert_int_equal(hmap_put(m, STR("a\0x"), &a, &old), 0);
    assert_null(old);
    assert_int_equal(hmap_put(m, (struct str){0}, &b, NULL), 0);
    assert_int_equal(hmap_put(m, STR("c"), &b, NULL), -(int)ERR_EXHAUSTED);
    assert_int_equal(hmap_put(m, STR("a\0x"), &b, &old), 0); /* full, but only replaced */
    assert_ptr_equal(old, &a);
    assert_ptr_equal(hmap_get(m, STR("")), &b);
    assert_null(hmap_get(m, STR("a")));
    assert_ptr_equal(hmap_remove(m, STR("a\0x")), &b);
    assert_null(hmap_remove(m, STR("a\0x")));
    assert_int_equal(hmap_count(m), 1);
    assert_null(hmap_free(m));
    assert_null(hmap_free(NULL));
}

static void test_many_in_order(void **state)
{
    struct hmap *m = hmap_new(5000);
    char name[16];
    size_t i = 0;

    (void)state;
    for (i = 0; i < 5000; i++) {
        int n = snprintf(name, sizeof(name), "k%zu", i);
        assert_int_equal(hmap_put(m, (struct str){name, (size_t)n}, (void *)(i + 1), NULL), 0);
    }
    i = 0;
    for (struct hmap_entry *e = hmap_first(m), *next; e != NULL; e = next, i++) {
        next = hmap_next(e);
        assert_int_equal((uintptr_t)hmap_value(e), i + 1);
        if (i % 2 == 0)
            assert_non_null(hmap_remove(m, hmap_key(e)));
    }
    assert_int_equal(hmap_count(m), 2500);
    hmap_free(m);
}

static void test_list(void **state)
{
    struct item {
        struct list node;
        int v;
    } items[3] = {{.v = 1}, {.v = 2}, {.v = 0}}, *it;
    struct list head;
    int sum = 0;

    (void)state;
    list_init(&head);
    assert_null(list_pop(&head));
    for (int i = 0; i < 3; i++)
        list_init(&items[i].node);
    list_push(&head, &items[0].node);
    list_push(&head, &items[1].node);
    list_unshift(&head, &items[2].node);
    list_each(it, &head, struct item, node)
    {
        sum = sum * 10 + it->v;
        list_remove(&it->node);
    }
    assert_int_equal(sum, 12);
    assert_true(list_empty(&head));
    assert_false(list_linked(&items[1].node));
    list_remove(&items[1].node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_siphash_vectors), cmocka_unit_test(test_put_get_remove), cmocka_unit_test(test_many_in_order),
        cmocka_unit_test(test_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
