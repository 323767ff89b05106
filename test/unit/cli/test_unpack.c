/* SPDX-License-Identifier: Apache-2.0 */
/* Archives of containers on this machine: they become files below one folder and nothing else. And folders as archives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cli/pack.h"
#include "cli/unpack.h"

static char top[64];
static int into = -1;

static int setup(void **state)
{
    (void)state;
    (void)str_copy(top, sizeof(top), STR("/tmp/davit-unpack-XXXXXX"));
    assert_non_null(mkdtemp(top));
    assert_int_equal(mkdirat(AT_FDCWD, top, 0755), -1);
    int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(fd, "in", 0755), 0);
    into = openat(fd, "in", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int kept = openat(fd, "kept", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    assert_int_equal(fd_write_all(kept, "kept", 4, NULL), 0);
    (void)close(kept);
    (void)close(fd);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)close(into);
    return fd_remove_tree(top, NULL);
}

static void put(struct buf *tar, enum tar_kind kind, const char *name, const char *link, const char *body)
{
    const struct tar_entry e = {.kind = kind, .name = name, .link = link, .size = strlen(body), .mode = 04755};
    assert_int_equal(tar_put(tar, &e), 0);
    assert_int_equal(buf_append_cstr(tar, body), 0);
    assert_int_equal(buf_append(tar, tar_zeros, tar_pad(e.size)), 0);
}

static unsigned left_out;

static void on_notice(void *arg, const char *name, const char *why)
{
    (void)arg;
    (void)name;
    (void)why;
    left_out++;
}

static int unpacked(struct buf *tar, const char *rename)
{
    AUTO_FREE struct unpack *u = NEW(struct unpack);
    left_out = 0;
    assert_int_equal(buf_append(tar, tar_zeros, TAR_END), 0);
    unpack_init(u, into, rename, on_notice, NULL);
    int rc = unpack_feed(u, buf_str(tar), NULL);
    if (rc == 0)
        rc = unpack_end(u, NULL);
    unpack_release(u);
    return rc;
}

static char *content(const char *path)
{
    AUTO_FREE char *full = str_printf("%s/%s", top, path);
    AUTO_BUF b = BUF_INIT(4096);
    return fd_read_file(full, &b, NULL) == 0 ? buf_take(&b) : NULL;
}

static void holds(const char *path, const char *want)
{
    AUTO_FREE char *got = content(path);
    if (!got || strcmp(got, want) != 0)
        fail_msg("%s: %s", path, got ? got : "(none)");
}

static void test_files_and_folders(void **state)
{
    AUTO_BUF tar = BUF_INIT(64 * 1024);
    struct stat st;
    (void)state;
    put(&tar, TAR_DIR, "d/", "", "");
    put(&tar, TAR_FILE, "d/a", "", "one");
    put(&tar, TAR_FILE, "d/x/y", "", "two"); /* its folder was not named */
    put(&tar, TAR_SYMLINK, "d/l", "x/y", "");
    put(&tar, TAR_HARDLINK, "d/h", "d/a", "");
    put(&tar, TAR_FIFO, "d/p", "", "");
    put(&tar, TAR_CHAR, "d/c", "", "");
    assert_int_equal(unpacked(&tar, "new"), 0);
    holds("in/new/a", "one");
    holds("in/new/l", "two");
    holds("in/new/h", "one");
    assert_int_equal(left_out, 2);
    assert_int_equal(fstatat(into, "new/a", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0755); /* no set-id bit */
}

static void test_what_leads_out(void **state)
{
    static const struct {
        enum tar_kind kind;
        const char *name, *link;
        int rc;
        unsigned left_out;
    } all[] = {
        {TAR_FILE, "/etc/x", "", -ERR_INVALID, 0},
        {TAR_FILE, "d/../../kept", "", -ERR_INVALID, 0},
        {TAR_FILE, "..", "", -ERR_INVALID, 0},
        {TAR_DIR, "d/../..", "", -ERR_INVALID, 0},
        {TAR_SYMLINK, "d/l", "/etc/passwd", 0, 1},
        {TAR_SYMLINK, "d/l", "../kept", 0, 1},
        {TAR_SYMLINK, "d/l", "x/../../kept", 0, 1},
        {TAR_SYMLINK, "d/e/l", "../../x", 0, 1},
        {TAR_SYMLINK, "d/e/l", "../x", 0, 0},
        {TAR_SYMLINK, "d/m", "", 0, 1},
        {TAR_HARDLINK, "d/h", "../kept", -ERR_INVALID, 0},
        {TAR_HARDLINK, "d/h", "/etc/passwd", -ERR_INVALID, 0},
        {TAR_HARDLINK, "d/h", "d/none", -ERR_INVALID, 0},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        AUTO_BUF tar = BUF_INIT(64 * 1024);
        put(&tar, all[i].kind, all[i].name, all[i].link, "");
        int rc = unpacked(&tar, "new");
        if (rc != all[i].rc || left_out != all[i].left_out)
            fail_msg("%zu: %d, %u left out", i, rc, left_out);
    }
    holds("kept", "kept");
}

static void test_of_the_root(void **state)
{
    AUTO_BUF tar = BUF_INIT(64 * 1024), up = BUF_INIT(64 * 1024);
    AUTO_FREE struct unpack *u = NEW(struct unpack);
    (void)state;
    put(&tar, TAR_DIR, "/", "", "");
    put(&tar, TAR_FILE, "/etc/x", "", "one");
    unpack_init(u, into, "", on_notice, NULL);
    u->root = true;
    assert_int_equal(unpack_feed(u, buf_str(&tar), NULL), 0);
    holds("in/etc/x", "one");
    put(&up, TAR_FILE, "/../kept", "", "bad");
    assert_int_equal(unpack_feed(u, buf_str(&up), NULL), -ERR_INVALID);
    unpack_release(u);
    holds("kept", "kept");
}

/* A link that is there already, by whom ever, is neither gone through nor written through. */
static void test_links_are_not_followed(void **state)
{
    AUTO_BUF through = BUF_INIT(64 * 1024), over = BUF_INIT(64 * 1024), hard = BUF_INIT(64 * 1024);
    (void)state;
    assert_int_equal(mkdirat(into, "new", 0755), 0);
    assert_int_equal(symlinkat("../..", into, "new/up"), 0);
    assert_int_equal(symlinkat("../../kept", into, "new/file"), 0);
    put(&through, TAR_FILE, "d/up/kept", "", "bad");
    assert_int_equal(unpacked(&through, "new"), -ERR_INVALID);
    put(&over, TAR_FILE, "d/file", "", "mine");
    assert_int_equal(unpacked(&over, "new"), 0);
    holds("in/new/file", "mine");
    assert_int_equal(symlinkat("../../kept", into, "new/link"), 0);
    put(&hard, TAR_HARDLINK, "d/h", "d/link", "");
    assert_int_equal(unpacked(&hard, "new"), -ERR_INVALID);
    holds("kept", "kept");
}

static int collect(void *arg, struct str bytes, struct err *err)
{
    (void)err;
    return buf_append_str(arg, bytes);
}

static void nothing(void *arg, const char *name, const char *why)
{
    (void)arg;
    (void)name;
    (void)why;
    left_out++;
}

static void test_a_folder_is_packed_as_it_is(void **state)
{
    AUTO_BUF tar = BUF_INIT(1024 * 1024);
    AUTO_FREE char *folder = str_printf("%s/in", top);
    struct pack p = {.put = collect, .notice = nothing, .arg = &tar};
    struct unpack u;
    (void)state;
    left_out = 0;
    assert_int_equal(mkdirat(into, "s", 0755), 0);
    int fd = openat(into, "s/-f\n", O_CREAT | O_WRONLY | O_CLOEXEC, 0604);
    assert_int_equal(fd_write_all(fd, "text", 4, NULL), 0);
    (void)close(fd);
    assert_int_equal(symlinkat("/etc", into, "s/out"), 0);
    assert_int_equal(mkfifoat(into, "s/pipe", 0600), 0);
    assert_int_equal(pack_folder(&p, folder, "base", NULL), 0);
    assert_int_equal(left_out, 1);
    assert_int_equal(p.files, 1);
    left_out = 0;
    unpack_init(&u, into, "back", on_notice, NULL);
    assert_int_equal(unpack_feed(&u, buf_str(&tar), NULL), 0);
    assert_int_equal(unpack_end(&u, NULL), 0);
    unpack_release(&u);
    holds("in/back/s/-f\n", "text");
    assert_int_equal(left_out, 1); /* the link to /etc was in the archive */
}

static void test_depth(void **state)
{
    (void)state;
    AUTO_BUF path = BUF_INIT(8192);
    for (unsigned i = 1; i <= PACK_DEPTH_MAX; i++) {
        AUTO_BUF tar = BUF_INIT(1024 * 1024);
        struct pack p = {.put = collect, .notice = nothing, .arg = &tar};
        AUTO_FREE char *folder = str_printf("%s/in", top);
        assert_int_equal(buf_append_cstr(&path, i == 1 ? "d" : "/d"), 0);
        assert_int_equal(mkdirat(into, buf_cstr(&path), 0755), 0);
        if (i >= PACK_DEPTH_MAX - 1)
            assert_int_equal(pack_folder(&p, folder, "", NULL), i < PACK_DEPTH_MAX ? 0 : -ERR_EXHAUSTED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_files_and_folders, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_leads_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_of_the_root, setup, teardown),
        cmocka_unit_test_setup_teardown(test_links_are_not_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_folder_is_packed_as_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(test_depth, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
