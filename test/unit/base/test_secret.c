/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets in memory: left out of core dumps while they live, gone once they are freed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/secret.h"

/* The flags of the mapping that holds @p, as /proc/self/smaps names them; "" when nothing is mapped there. */
static void flags_of(const void *p, char dst[256])
{
    char line[512];
    unsigned long from = 0, to = 0;
    FILE *f = fopen("/proc/self/smaps", "re");
    dst[0] = '\0';
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        unsigned long a, b;
        if (sscanf(line, "%lx-%lx ", &a, &b) == 2) { /* NOLINT(cert-err34-c): the kernel wrote it */
            from = a;
            to = b;
        }
        if (strncmp(line, "VmFlags:", 8) == 0 && (uintptr_t)p >= from && (uintptr_t)p < to)
            (void)snprintf(dst, 256, "%s", line + 8);
    }
    (void)fclose(f);
}

static void test_not_in_a_core_dump(void **state)
{
    (void)state;
    char flags[256];
    AUTO_SECRET s = secret_random(64);
    flags_of(secret_reveal(s).p, flags);
    assert_non_null(strstr(flags, " dd "));
}

static void test_gone_after_free(void **state)
{
    (void)state;
    unsigned char in_core = 0;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    struct secret *s = secret_new(STR("the bytes of a secret"));
    uintptr_t at = (uintptr_t)secret_reveal(s).p / page * page;
    assert_int_equal(mincore((void *)at, page, &in_core), 0);
    assert_null(secret_free(s));
    assert_int_equal(mincore((void *)at, page, &in_core), -1);
    assert_int_equal(errno, ENOMEM);
}

static void test_sizes(void **state)
{
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t sizes[] = {0, 1, page - 1, page, page + 1, 3 * page};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        AUTO_SECRET s = secret_blank(sizes[i]);
        assert_int_equal(secret_len(s), sizes[i]);
        for (size_t k = 0; k <= sizes[i]; k++) /* with the NUL behind it */
            assert_int_equal(secret_reveal(s).p[k], 0);
        memset(secret_writable(s), 'x', sizes[i]);
        assert_int_equal(secret_reveal(s).p[sizes[i]], 0);
    }
}

static void test_buffer_is_wiped(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(1024);
    assert_int_equal(buf_append_cstr(&b, "secret"), 0);
    secret_buf_release(&b);
    assert_null(b.data);
    assert_int_equal(b.len, 0);
    secret_buf_release(&b); /* harmless twice */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_in_a_core_dump),
        cmocka_unit_test(test_gone_after_free),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_buffer_is_wiped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
