/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of a release's archive: one directory and plain files in it, and nothing that is not that. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "host/link/untar.h"

#define TOP "davit-0.2.0-linux-amd64"
enum { ROOM = 64 * 1024 };

/* What the handler saw, as text: "name:size:bytes;" with an x for programs. */
struct seen {
    struct buf text;
};

static int on_file(void *arg, const char *name, uint64_t size, bool program, struct err *err)
{
    struct seen *s = arg;
    (void)err;
    return buf_printf(&s->text, "%s%s:%u:", name, program ? "*" : "", (unsigned)size);
}

static int on_bytes(void *arg, struct str bytes, struct err *err)
{
    struct seen *s = arg;
    (void)err;
    return buf_append_str(&s->text, bytes);
}

static int on_end(void *arg, struct err *err)
{
    struct seen *s = arg;
    (void)err;
    return buf_append_byte(&s->text, ';');
}

static const struct untar_handler handler = {on_file, on_bytes, on_end};

/* A header, and the bytes behind it filled up to a block. */
static void entry(struct buf *tar, const char *name, char type, const char *mode, const char *body, const char *link)
{
    char h[UNTAR_BLOCK] = {0};
    size_t n = body ? strlen(body) : 0;
    unsigned sum = 0;
    (void)str_copy(h, 101, str_from(name));
    (void)str_copy(h + 100, 8, str_from(mode));
    (void)snprintf(h + 124, 12, "%011o", (unsigned)n);
    (void)str_copy(h + 157, 100, str_from(link));
    h[156] = type;
    memcpy(h + 257, "ustar\0" "00", 8);
    memset(h + 148, ' ', 8);
    for (size_t i = 0; i < UNTAR_BLOCK; i++)
        sum += (unsigned char)h[i];
    (void)snprintf(h + 148, 8, "%06o", sum);
    assert_int_equal(buf_append(tar, h, sizeof(h)), 0);
    assert_int_equal(buf_append(tar, body, n), 0);
    while (tar->len % UNTAR_BLOCK)
        assert_int_equal(buf_append_byte(tar, 0), 0);
}

static void top(struct buf *tar)
{
    entry(tar, TOP, '5', "0000755", NULL, "");
}

static void end(struct buf *tar)
{
    for (int i = 0; i < 2 * UNTAR_BLOCK; i++)
        assert_int_equal(buf_append_byte(tar, 0), 0);
}

/* Fed in pieces of @piece bytes. */
static int feed(struct str tar, size_t piece, uint64_t room, struct seen *s)
{
    AUTO_FREE struct untar *u = NEW(struct untar);
    int rc = 0;
    untar_init(u, TOP, room, &handler, s);
    while (rc == 0 && tar.n > 0) {
        struct str part = {tar.p, tar.n < piece ? tar.n : piece};
        rc = untar_feed(u, part, NULL);
        tar = (struct str){tar.p + part.n, tar.n - part.n};
    }
    return rc < 0 ? rc : untar_end(u, NULL);
}

static int read_all(const struct buf *tar)
{
    struct seen s = {BUF_INIT(ROOM)};
    int rc = feed((struct str){(const char *)tar->data, tar->len}, 1000, ROOM, &s);
    buf_release(&s.text);
    return rc;
}

static void test_a_release(void **state)
{
    static const size_t pieces[] = {1, 7, 511, 512, 513, 100000};
    AUTO_BUF tar = BUF_INIT(ROOM);
    (void)state;
    top(&tar);
    entry(&tar, TOP "/MANIFEST", '0', "0000644", "list", "");
    entry(&tar, TOP "/davit-agent", '0', "0000755", "program", "");
    entry(&tar, TOP "/davit", '0', "0000755", "", "");
    end(&tar);
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        struct seen s = {BUF_INIT(ROOM)};
        assert_int_equal(feed((struct str){(const char *)tar.data, tar.len}, pieces[i], ROOM, &s), 0);
        assert_string_equal(buf_cstr(&s.text), "MANIFEST:4:list;davit-agent*:7:program;davit*:0:;");
        buf_release(&s.text);
    }
}

static void test_what_a_release_does_not_have(void **state)
{
    static const struct {
        const char *name;
        char type;
        const char *link;
    } bad[] = {
        {TOP "/davit", '2', "/etc/passwd"}, {TOP "/davit", '1', TOP "/MANIFEST"}, {TOP "/davit", '3', ""}, {TOP "/davit", '6', ""},
        {TOP "/davit", 'x', ""},            {TOP "/davit", 'L', ""},              {TOP "/davit", 'S', ""}, {TOP "/davit", '\0', ""},
        {TOP "/sub", '5', ""},              {"other", '5', ""},                   {"davit", '0', ""},      {"/etc/davit", '0', ""},
        {TOP "/../davit", '0', ""},         {TOP "/sub/davit", '0', ""},          {TOP "/", '0', ""},      {TOP "/.davit", '0', ""},
        {TOP "/Davit", '0', ""},            {TOP "x/davit", '0', ""},             {TOP, '0', ""},          {TOP "/davit", '0', "somewhere"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO_BUF tar = BUF_INIT(ROOM);
        top(&tar);
        entry(&tar, bad[i].name, bad[i].type, "0000755", NULL, bad[i].link);
        end(&tar);
        if (read_all(&tar) != -ERR_INVALID)
            fail_msg("%s of type %c was taken", bad[i].name, bad[i].type);
    }
}

static void test_files_come_behind_their_directory_and_once(void **state)
{
    AUTO_BUF early = BUF_INIT(ROOM), twice = BUF_INIT(ROOM);
    (void)state;
    entry(&early, TOP "/davit", '0', "0000755", "x", "");
    top(&early);
    end(&early);
    assert_int_equal(read_all(&early), -ERR_INVALID);
    top(&twice);
    entry(&twice, TOP "/davit", '0', "0000755", "x", "");
    entry(&twice, TOP "/davit", '0', "0000755", "y", "");
    end(&twice);
    assert_int_equal(read_all(&twice), -ERR_INVALID);
}

static void test_limits(void **state)
{
    (void)state;
    for (unsigned n = UNTAR_FILES_MAX; n <= UNTAR_FILES_MAX + 1; n++) {
        AUTO_BUF tar = BUF_INIT(ROOM);
        top(&tar);
        for (unsigned i = 0; i < n; i++) {
            AUTO_FREE char *name = str_printf(TOP "/file%u", i);
            entry(&tar, name, '0', "0000644", NULL, "");
        }
        end(&tar);
        assert_int_equal(read_all(&tar), n == UNTAR_FILES_MAX ? 0 : -ERR_EXHAUSTED);
    }
    for (uint64_t room = 8; room >= 7; room--) {
        AUTO_BUF tar = BUF_INIT(ROOM);
        struct seen s = {BUF_INIT(ROOM)};
        top(&tar);
        entry(&tar, TOP "/a", '0', "0000644", "1234", "");
        entry(&tar, TOP "/b", '0', "0000644", "5678", "");
        end(&tar);
        assert_int_equal(feed((struct str){(const char *)tar.data, tar.len}, 512, room, &s), room == 8 ? 0 : -ERR_EXHAUSTED);
        buf_release(&s.text);
    }
    for (size_t n = UNTAR_NAME_SIZE - 1; n <= UNTAR_NAME_SIZE; n++) {
        AUTO_BUF tar = BUF_INIT(ROOM);
        AUTO_FREE char *name = str_printf(TOP "/%.*s", (int)n, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        top(&tar);
        entry(&tar, name, '0', "0000644", NULL, "");
        end(&tar);
        assert_int_equal(read_all(&tar), n < UNTAR_NAME_SIZE ? 0 : -ERR_INVALID);
    }
}

static void test_every_cut_and_every_flipped_bit_of_a_header(void **state)
{
    AUTO_BUF tar = BUF_INIT(ROOM);
    (void)state;
    top(&tar);
    entry(&tar, TOP "/davit", '0', "0000755", "x", "");
    end(&tar);
    for (size_t n = 0; n < tar.len; n++) {
        struct seen s = {BUF_INIT(ROOM)};
        assert_int_equal(feed((struct str){(const char *)tar.data, n}, 512, ROOM, &s), -ERR_INVALID);
        buf_release(&s.text);
    }
    for (size_t i = 0; i < UNTAR_BLOCK; i++) {
        tar.data[i] ^= 1;
        assert_int_equal(read_all(&tar), -ERR_INVALID);
        tar.data[i] ^= 1;
    }
    assert_int_equal(read_all(&tar), 0);
}

static void test_nothing_follows_the_end(void **state)
{
    AUTO_BUF tar = BUF_INIT(ROOM);
    (void)state;
    top(&tar);
    end(&tar);
    end(&tar);
    assert_int_equal(read_all(&tar), 0); /* tar fills up its records */
    top(&tar);
    assert_int_equal(read_all(&tar), -ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_release),
        cmocka_unit_test(test_what_a_release_does_not_have),
        cmocka_unit_test(test_files_come_behind_their_directory_and_once),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_every_cut_and_every_flipped_bit_of_a_header),
        cmocka_unit_test(test_nothing_follows_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
