/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed values: they open in their place, under their key, unchanged, and not otherwise; key files with one key, several, none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "ident/seal.h"

#define PLACE "deployments.spec/0b7e"
#define VALUE "DB_PASSWORD=hunter2"

struct fixture {
    char dir[64], path[96];
    struct seal *seal;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = ERR_INIT;
    assert_non_null(f);
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/dv.seal.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof(f->path), "%s/master.key", f->dir);
    assert_int_equal(seal_make(f->path, &err), 0);
    assert_int_equal(seal_load(f->path, &f->seal, &err), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    (void)seal_free(f->seal);
    assert_int_equal(fd_remove_tree(f->dir, NULL), 0);
    free(f);
    return 0;
}

static void write_text(const char *path, const char *text)
{
    struct err err = ERR_INIT;
    assert_int_equal(fd_write_file(path, text, strlen(text), 0600, &err), 0);
}

static void assert_refused(const struct seal *seal, const char *place, struct str envelope, const char *message)
{
    struct err err = ERR_INIT;
    struct secret *s = NULL;
    assert_int_equal(seal_open(seal, place, envelope, &s, &err), -(int)ERR_DATA_LOSS);
    assert_null(s);
    assert_non_null(strstr(err.msg, message));
    assert_true(err.hint[0] != '\0');
}

static void test_round_trip(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    const size_t sizes[] = {0, 1, 15, 16, 17, 4096, 1024 * 1024};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        AUTO_SECRET content = secret_random(sizes[i]);
        AUTO_SECRET again = NULL;
        AUTO_BUF out = BUF_INIT(2 * 1024 * 1024);
        assert_int_equal(seal_close(f->seal, PLACE, secret_reveal(content), &out, &err), 0);
        assert_int_equal(out.len, sizes[i] + SEAL_OVERHEAD);
        assert_true(seal_is(buf_str(&out)) && seal_is_current(f->seal, buf_str(&out)));
        assert_int_equal(seal_open(f->seal, PLACE, buf_str(&out), &again, &err), 0);
        assert_true(secret_eq(content, again));
    }
}

static void test_same_value_never_looks_the_same(void **state)
{
    struct fixture *f = *state;
    AUTO_BUF a = BUF_INIT(1024), b = BUF_INIT(1024);
    assert_int_equal(seal_close(f->seal, PLACE, STR(VALUE), &a, NULL), 0);
    assert_int_equal(seal_close(f->seal, PLACE, STR(VALUE), &b, NULL), 0);
    assert_int_equal(a.len, b.len);
    assert_memory_not_equal(a.data + 12, b.data + 12, 12);
    assert_memory_not_equal(a.data + 24, b.data + 24, a.len - 24);
    assert_null(memmem(a.data, a.len, "hunter2", 7));
}

/* Bit by bit: head, nonce, content and tag are all covered. */
static void test_every_flipped_bit_is_seen(void **state)
{
    struct fixture *f = *state;
    AUTO_BUF a = BUF_INIT(1024);
    assert_int_equal(seal_close(f->seal, PLACE, STR(VALUE), &a, NULL), 0);
    for (size_t bit = 0; bit < a.len * 8; bit++) {
        a.data[bit / 8] = (char)(a.data[bit / 8] ^ (1 << bit % 8));
        assert_refused(f->seal, PLACE, buf_str(&a), "sealed value");
        a.data[bit / 8] = (char)(a.data[bit / 8] ^ (1 << bit % 8));
    }
    for (size_t n = 0; n < a.len; n++)
        assert_refused(f->seal, PLACE, (struct str){a.data, n}, "sealed value");
    assert_int_equal(buf_append_byte(&a, 0), 0);
    assert_refused(f->seal, PLACE, buf_str(&a), "tag");
}

static void test_swapped_rows_do_not_open(void **state)
{
    struct fixture *f = *state;
    AUTO_BUF a = BUF_INIT(1024);
    assert_int_equal(seal_close(f->seal, "deployments.spec/1", STR(VALUE), &a, NULL), 0);
    assert_refused(f->seal, "deployments.spec/2", buf_str(&a), "tag");
    assert_refused(f->seal, "commands.payload/1", buf_str(&a), "tag");
    assert_refused(f->seal, "", buf_str(&a), "envelope");
}

static void test_wrong_key_says_which(void **state)
{
    struct fixture *f = *state;
    AUTO_SEAL other = NULL;
    AUTO_BUF a = BUF_INIT(1024);
    AUTO_FREE char *path = str_printf("%s/other.key", f->dir);
    char id[SEAL_ID_SIZE];
    assert_int_equal(seal_make(path, NULL), 0);
    assert_int_equal(seal_load(path, &other, NULL), 0);
    assert_int_equal(seal_close(f->seal, PLACE, STR(VALUE), &a, NULL), 0);
    seal_id(f->seal, id);
    assert_refused(other, PLACE, buf_str(&a), id);
    assert_true(seal_has(f->seal, str_from(id)));
    assert_false(seal_has(other, str_from(id)) || seal_has(f->seal, STR("")) || seal_has(f->seal, STR("zz")));
    assert_false(seal_is_current(other, buf_str(&a)));
}

/* What is old is read, what is new is closed under the first key. */
static void test_two_keys(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    AUTO_BUF old = BUF_INIT(1024), text = BUF_INIT(4096), fresh = BUF_INIT(1024), both = BUF_INIT(8192);
    AUTO_FREE char *next = str_printf("%s/next.key", f->dir);
    AUTO_SEAL seal = NULL;
    AUTO_SECRET a = NULL;
    AUTO_SECRET b = NULL;
    assert_int_equal(seal_close(f->seal, PLACE, STR(VALUE), &old, NULL), 0);
    assert_int_equal(seal_make(next, NULL), 0);
    assert_int_equal(fd_read_file(next, &both, NULL), 0);
    assert_int_equal(fd_read_file(f->path, &text, NULL), 0);
    assert_int_equal(buf_append_str(&both, buf_str(&text)), 0);
    write_text(f->path, buf_cstr(&both));
    assert_int_equal(seal_load(f->path, &seal, &err), 0);
    assert_int_equal(seal_open(seal, PLACE, buf_str(&old), &a, &err), 0);
    assert_false(seal_is_current(seal, buf_str(&old)));
    assert_int_equal(seal_close(seal, PLACE, STR(VALUE), &fresh, NULL), 0);
    assert_true(seal_is_current(seal, buf_str(&fresh)));
    assert_int_equal(seal_open(seal, PLACE, buf_str(&fresh), &b, &err), 0);
    assert_true(secret_eq(a, b));
    assert_refused(f->seal, PLACE, buf_str(&fresh), "master key");
}

static void test_key_file_rules(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct seal *seal = NULL;
    struct stat st;
    static const char *const bad[] = {"", "\n\n", "davit-master-key-1 00", "hello\n",
                                      "davit-master-key-2 0000000000000000000000000000000000000000000000000000000000000000\n",
                                      "davit-master-key-1 000000000000000000000000000000000000000000000000000000000000000z\n",
                                      "davit-master-key-1 000000000000000000000000000000000000000000000000000000000000000000\n"};
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(seal_make(f->path, &err), -(int)ERR_EXISTS);
    assert_int_equal(chmod(f->path, 0640), 0);
    assert_int_equal(seal_load(f->path, &seal, &err), -(int)ERR_DENIED);
    assert_non_null(strstr(err.hint, "chmod 600"));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(unlink(f->path), 0);
        write_text(f->path, bad[i]);
        assert_int_equal(seal_load(f->path, &seal, &err), -(int)ERR_INVALID);
        assert_non_null(strstr(err.hint, "backup"));
    }
    assert_int_equal(unlink(f->path), 0);
    assert_int_equal(seal_load(f->path, &seal, &err), -(int)ERR_NOT_FOUND);
    assert_null(seal);
}

static void test_limits(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct seal *seal = NULL;
    char place[SEAL_PLACE_MAX + 2];
    AUTO_BUF tight = BUF_INIT(SEAL_OVERHEAD + 3);
    AUTO_BUF text = BUF_INIT(64 * 1024);
    memset(place, 'p', sizeof(place));
    place[SEAL_PLACE_MAX + 1] = '\0';
    assert_int_equal(seal_close(f->seal, place, STR("x"), &tight, &err), -(int)ERR_RANGE);
    assert_int_equal(seal_close(f->seal, PLACE, STR("four"), &tight, &err), -(int)ERR_EXHAUSTED);
    assert_int_equal(tight.len, 0);
    place[SEAL_PLACE_MAX] = '\0';
    assert_int_equal(seal_close(f->seal, place, STR("abc"), &tight, &err), 0);
    for (int i = 1; i <= SEAL_KEYS_MAX + 1; i++) {
        assert_int_equal(buf_printf(&text, "davit-master-key-1 %064d\n", i), 0);
        if (i < SEAL_KEYS_MAX)
            continue;
        write_text(f->path, buf_cstr(&text));
        assert_int_equal(seal_load(f->path, &seal, &err), i == SEAL_KEYS_MAX ? 0 : -(int)ERR_INVALID);
        if (i == SEAL_KEYS_MAX)
            seal = seal_free(seal);
    }
}

/* The envelope as it is written down in seal.h, made by another implementation (python3-cryptography): it must open for ever. */
static void test_known_envelope(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    AUTO_SEAL seal = NULL;
    AUTO_SECRET s = NULL;
    uint8_t bytes[128];
    size_t n = 0;
    write_text(f->path, "davit-master-key-1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n");
    assert_int_equal(seal_load(f->path, &seal, &err), 0);
    assert_int_equal(str_unhex(STR("00445301d6aaf589a875e344404142434445464748494a4ba6fbf173676fd4548296530bf3"
                                   "117d2f1cb4601e5aeb99d5eda3aef1fafb22d14bb3bf"), bytes, sizeof(bytes), &n), 0);
    assert_int_equal(seal_open(seal, PLACE, (struct str){(const char *)bytes, n}, &s, &err), 0);
    assert_true(str_eq(secret_reveal(s), STR(VALUE)));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_round_trip),
        T(test_same_value_never_looks_the_same),
        T(test_every_flipped_bit_is_seen),
        T(test_swapped_rows_do_not_open),
        T(test_wrong_key_says_which),
        T(test_two_keys),
        T(test_key_file_rules),
        T(test_limits),
        T(test_known_envelope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
