/* SPDX-License-Identifier: Apache-2.0 */
/* Archives: what is written is read back, at every cut; what foreign programs write; what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/tar.h"

enum { ROOM = 1024 * 1024 };

static int on_entry(void *arg, const struct tar_entry *e, struct err *err)
{
    struct buf *seen = arg;
    (void)err;
    return buf_printf(seen, "%d%s|%s|%s|%llu|%o|%u.%u|%lld:", (int)e->kind, e->plain ? "p" : "", e->name, e->link,
                      (unsigned long long)e->size, e->mode, e->uid, e->gid, (long long)e->mtime);
}

static int on_bytes(void *arg, struct str bytes, struct err *err)
{
    (void)err;
    return buf_append_str(arg, bytes);
}

static int on_end(void *arg, struct err *err)
{
    (void)err;
    return buf_append_byte(arg, ';');
}

static const struct tar_handler handler = {on_entry, on_bytes, on_end};

static int feed(struct str tar, size_t piece, struct buf *seen)
{
    AUTO_FREE struct tar_reader *r = NEW(struct tar_reader);
    int rc = 0;
    tar_reader_init(r, false, &handler, seen);
    while (rc == 0 && tar.n > 0) {
        struct str part = {tar.p, tar.n < piece ? tar.n : piece};
        rc = tar_feed(r, part, NULL);
        tar = (struct str){tar.p + part.n, tar.n - part.n};
    }
    if (rc == 0)
        rc = tar_reader_end(r, NULL);
    tar_reader_release(r);
    return rc;
}

static void put(struct buf *tar, const struct tar_entry *e, const char *body)
{
    assert_int_equal(tar_put(tar, e), 0);
    assert_int_equal(buf_append(tar, body, e->size), 0);
    assert_int_equal(buf_append(tar, tar_zeros, tar_pad(e->size)), 0);
}

static void test_what_is_written_is_read(void **state)
{
    static const size_t pieces[] = {1, 7, 511, 512, 513, 100000};
    AUTO_BUF tar = BUF_INIT(ROOM), want = BUF_INIT(ROOM);
    char name[301], link[201];
    (void)state;
    memset(name, 'n', 300);
    memset(link, 'l', 200);
    name[300] = link[200] = '\0';
    const struct tar_entry all[] = {
        {TAR_DIR, true, "folder/", "", 0, 0755, 1, 2, 100, 0, 0},
        {TAR_FILE, true, "folder/new\nline \xc3\xa9", "", 5, 04711, 1000, 1001, 1700000000, 0, 0},
        {TAR_FILE, false, name, "", 0, 0644, 3000000000U, 4000000000U, 0, 0, 0},
        {TAR_SYMLINK, false, "-dash", link, 0, 0777, 0, 0, 0, 0, 0},
        {TAR_HARDLINK, false, "h", "folder/x", 0, 0644, 0, 0, 0, 0, 0},
        {TAR_CHAR, true, "c", "", 0, 0600, 0, 0, 0, 5, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        put(&tar, &all[i], "hello");
        assert_int_equal(on_entry(&want, &all[i], NULL), 0);
        assert_int_equal(buf_append(&want, "hello", all[i].size), 0);
        assert_int_equal(buf_append_byte(&want, ';'), 0);
    }
    assert_int_equal(buf_append(&tar, tar_zeros, TAR_END), 0);
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        AUTO_BUF seen = BUF_INIT(ROOM);
        assert_int_equal(feed(buf_str(&tar), pieces[i], &seen), 0);
        assert_string_equal(buf_cstr(&seen), buf_cstr(&want));
    }
    for (size_t n = 0; n < tar.len; n += 128) {
        AUTO_BUF seen = BUF_INIT(ROOM);
        assert_int_equal(feed((struct str){tar.data, n}, 4096, &seen), -ERR_INVALID);
    }
}

static void test_sizes_beyond_the_octal_field(void **state)
{
    AUTO_BUF tar = BUF_INIT(ROOM), seen = BUF_INIT(ROOM);
    const struct tar_entry e = {TAR_FILE, false, "big", "", 10ULL << 30, 0644, 0, 0, 0, 0, 0};
    (void)state;
    assert_int_equal(tar_put(&tar, &e), 0);
    assert_int_equal(feed(buf_str(&tar), 4096, &seen), -ERR_INVALID); /* its bytes are missing */
    assert_string_equal(buf_cstr(&seen), "0|big||10737418240|644|0.0|0:");
}

/* A header as foreign programs make them. */
static void raw(struct buf *tar, const char *name, char type, const char *size12, const char *magic8, const char *body)
{
    char h[TAR_BLOCK] = {0};
    unsigned sum = 0;
    (void)str_copy(h, 101, str_from(name));
    memcpy(h + 100, "0000644", 8);
    memcpy(h + 124, size12, 12);
    h[156] = type;
    memcpy(h + 257, magic8, 8);
    memset(h + 148, ' ', 8);
    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += (unsigned char)h[i];
    (void)snprintf(h + 148, 8, "%06o", sum);
    assert_int_equal(buf_append(tar, h, sizeof(h)), 0);
    assert_int_equal(buf_append_cstr(tar, body), 0);
    assert_int_equal(buf_append(tar, tar_zeros, tar_pad(strlen(body))), 0);
}

static int one(char type, const char *size12, const char *magic8, const char *body, struct buf *seen)
{
    AUTO_BUF tar = BUF_INIT(ROOM);
    raw(&tar, "ext", type, size12, magic8, body);
    raw(&tar, "file", '0', "00000000002", magic8, "ok");
    assert_int_equal(buf_append(&tar, tar_zeros, TAR_END), 0);
    return feed(buf_str(&tar), 1000, seen);
}

static void test_foreign_headers(void **state)
{
    static const struct {
        char type;
        const char *size, *magic, *body, *seen;
        int rc;
    } all[] = {
        {'L', "00000000007", "ustar  ", "longest", "0|longest||2|644|0.0|0:ok;", 0},
        {'L', "\x80\0\0\0\0\0\0\0\0\0\0\7", "ustar  ", "longest", "0|longest||2|644|0.0|0:ok;", 0},
        {'x', "00000000014",
         "ustar\0"
         "00",
         "12 path=a b\n", "0|a b||2|644|0.0|0:ok;", 0},
        {'x', "00000000016",
         "ustar\0"
         "00",
         "14 mtime=12.7\n", "0|file||2|644|0.0|12:ok;", 0},
        {'x', "00000000014",
         "ustar\0"
         "00",
         "12 who=a=bc\n", "0|file||2|644|0.0|0:ok;", 0},
        {'g', "00000000014",
         "ustar\0"
         "00",
         "12 comm=a b\n", "0p|file||2|644|0.0|0:ok;", 0},
        {'g', "00000000014",
         "ustar\0"
         "00",
         "12 path=a b\n", "", -ERR_INVALID},
        {'x', "00000000014",
         "ustar\0"
         "00",
         "13 path=a b\n", "", -ERR_INVALID},
        {'x', "00000000014",
         "ustar\0"
         "00",
         "12 pathea b\n", "", -ERR_INVALID},
        {'x', "00000000010",
         "ustar\0"
         "00",
         "8 path=\n", "", -ERR_INVALID},
        {'x', "00000000014",
         "ustar\0"
         "00",
         "12 size=-12\n", "", -ERR_INVALID},
        {'S', "00000000000", "ustar  ", "", "", -ERR_INVALID},
        {'V', "00000000000", "ustar  ", "", "", -ERR_INVALID},
        {'0', "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "ustar  ", "", "", -ERR_INVALID},
        {'0', "00000000000", "tarball", "", "", -ERR_INVALID},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        AUTO_BUF seen = BUF_INIT(ROOM);
        int rc = one(all[i].type, all[i].size, all[i].magic, all[i].body, &seen);
        if (rc != all[i].rc || strcmp(buf_cstr(&seen), all[i].seen) != 0)
            fail_msg("%zu: %d, %s", i, rc, buf_cstr(&seen));
    }
}

static void test_limits_of_names_and_extensions(void **state)
{
    char size[16];
    (void)state;
    for (size_t n = TAR_NAME_MAX; n <= TAR_NAME_MAX + 1; n++) {
        AUTO_BUF seen = BUF_INIT(ROOM);
        AUTO_FREE char *name = mem_zalloc(1, n + 1);
        memset(name, 'n', n);
        (void)snprintf(size, sizeof(size), "%011o", (unsigned)n);
        assert_int_equal(one('L', size, "ustar  ", name, &seen), n == TAR_NAME_MAX ? 0 : -ERR_EXHAUSTED);
        AUTO_BUF tar = BUF_INIT(ROOM);
        const struct tar_entry e = {.name = name, .link = ""};
        assert_int_equal(tar_put(&tar, &e), n == TAR_NAME_MAX ? 0 : -ERR_INVALID);
    }
    for (size_t n = TAR_EXTENSION_MAX; n <= TAR_EXTENSION_MAX + 1; n++) {
        AUTO_BUF seen = BUF_INIT(ROOM);
        AUTO_FREE char *body = mem_zalloc(1, n + 1);
        memset(body, 'v', n);
        (void)snprintf(body, 16, "%zu key", n);
        body[strlen(body)] = '=';
        body[n - 1] = '\n';
        (void)snprintf(size, sizeof(size), "%011o", (unsigned)n);
        assert_int_equal(one('x', size,
                             "ustar\0"
                             "00",
                             body, &seen),
                         n == TAR_EXTENSION_MAX ? 0 : -ERR_EXHAUSTED);
    }
}

static void test_nothing_behind_the_end(void **state)
{
    AUTO_BUF tar = BUF_INIT(ROOM), seen = BUF_INIT(ROOM);
    (void)state;
    assert_int_equal(buf_append(&tar, tar_zeros, TAR_END), 0);
    assert_int_equal(feed(buf_str(&tar), 512, &seen), 0);
    assert_int_equal(buf_append(&tar, tar_zeros, TAR_END), 0);
    assert_int_equal(feed(buf_str(&tar), 512, &seen), 0);
    raw(&tar, "file", '0', "00000000002",
        "ustar\0"
        "00",
        "ok");
    assert_int_equal(feed(buf_str(&tar), 512, &seen), -ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read), cmocka_unit_test(test_sizes_beyond_the_octal_field),
        cmocka_unit_test(test_foreign_headers),         cmocka_unit_test(test_limits_of_names_and_extensions),
        cmocka_unit_test(test_nothing_behind_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
