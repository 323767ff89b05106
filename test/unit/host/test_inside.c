/* SPDX-License-Identifier: Apache-2.0 */
/* Files below a root that belongs to somebody hostile: links, mounts, names and renames lead nowhere else; what is put in place is whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/mem.h"
#include "host/work/files.h"
#include "host/work/inside.h"
#include "net/on_fiber.h"
#include "rpc/rpc.h"

/* On a fiber; see CHECK. */
#define EQ(a, b)   CHECK((a) == (b))
#define SAME(a, b) CHECK(strcmp(a, b) == 0)

static char top[64], root[160], outside[80];
static bool as_part;

static char *below(const char *folder, const char *path)
{
    return str_printf("%s%s", folder, path);
}

static void put(const char *folder, const char *path, const char *text)
{
    AUTO_FREE char *full = below(folder, path);
    EQ(fd_write_file(full, text, strlen(text), 0644, NULL), 0);
}

static void folder(const char *base, const char *path)
{
    AUTO_FREE char *full = below(base, path);
    EQ(mkdir(full, 0755), 0);
}

static void lead(const char *to, const char *path)
{
    AUTO_FREE char *full = below(root, path);
    EQ(symlink(to, full), 0);
}

static bool there(const char *base, const char *path)
{
    AUTO_FREE char *full = below(base, path);
    struct stat st;
    return lstat(full, &st) == 0;
}

static void holds(const char *base, const char *path, const char *text)
{
    AUTO_FREE char *full = below(base, path);
    AUTO_BUF got = BUF_INIT(1024 * 1024);
    EQ(fd_read_file(full, &got, NULL), 0);
    SAME(buf_cstr(&got), text);
}

static int setup(void **state)
{
    (void)state;
    as_part = false;
    (void)str_copy(top, sizeof(top), STR("/tmp/davit-inside-XXXXXX"));
    CHECK(mkdtemp(top));
    (void)snprintf(root, sizeof(root), "%s/root", top);
    (void)snprintf(outside, sizeof(outside), "%s/out", top);
    EQ(mkdir(root, 0755), 0);
    EQ(mkdir(outside, 0755), 0);
    folder(root, "/etc");
    folder(root, "/data");
    put(root, "/etc/passwd", "in");
    put(outside, "/kept", "kept");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return fd_remove_tree(top, NULL);
}

static struct loop *the_loop;

static struct inside *open_at(const char *path)
{
    struct inside *in = NULL;
    EQ(inside_open_at(the_loop, root, path, &in, NULL), 0);
    if (as_part)
        inside_be_part(in);
    return in;
}
static pid_t container;

static int removes(const char *path, bool recursive)
{
    struct inside *in = open_at(path);
    int rc = inside_remove(in, recursive, NULL);
    (void)inside_close(in);
    return rc;
}

static int places(const char *path, const char *text, uint32_t mode)
{
    const struct inside_owner owner = {.mode = mode};
    int fd = memfd_create("bytes", MFD_CLOEXEC);
    CHECK(fd >= 0);
    EQ(fd_write_all(fd, text, strlen(text), NULL), 0);
    struct inside *in = open_at(path);
    int rc = inside_place(in, fd, strlen(text), &owner, NULL);
    (void)inside_close(in);
    (void)close(fd);
    return rc;
}

static int lists(const char *path, struct buf *out, bool *ret_truncated)
{
    struct inside *in = open_at(path);
    Davit__Link__V1__FileEnd *end = NULL;
    int rc = inside_list(in, &end, NULL);
    (void)inside_close(in);
    for (size_t i = 0; rc == 0 && i < end->n_entries && i < 20; i++)
        (void)buf_printf(out, "%s %s %u %s;", end->entries[i]->name, end->entries[i]->kind, (unsigned)end->entries[i]->size,
                         end->entries[i]->target);
    if (ret_truncated)
        *ret_truncated = end->truncated;
    (void)rpc_message_free(end);
    return rc;
}

/* req: WK-4 */
static void remove_body(struct loop *loop)
{
    the_loop = loop;
    put(root, "/data/-f", "");
    put(root, "/data/new\nline", "");
    lead(outside, "/data/out");
    lead("../../out", "/data/up");
    folder(root, "/data/a");
    folder(root, "/data/a/b");
    put(root, "/data/a/b/c", "x");
    lead(outside, "/data/a/b/out");
    EQ(removes("/data/-f", false), 0);
    EQ(removes("/data/new\nline", false), 0);
    EQ(removes("/data/none", false), -(int)ERR_NOT_FOUND);
    EQ(removes("/data/a", false), -(int)ERR_PRECONDITION);
    EQ(removes("/data/out/kept", false), -(int)ERR_NOT_FOUND);
    EQ(removes("/data/up/kept", false), -(int)ERR_NOT_FOUND);
    EQ(removes("/data/a", true), 0);
    EQ(removes("/data/out", true), 0);
    CHECK(!there(root, "/data/a"));
    CHECK(!there(root, "/data/out"));
    holds(outside, "/kept", "kept");
}

/* By their name and by any other. */
static void tops_body(struct loop *loop)
{
    the_loop = loop;
    folder(root, "/usr");
    folder(root, "/usr/lib");
    lead("/usr", "/data/u");
    lead("/", "/data/r");
    lead("usr/lib", "/lib");
    EQ(removes("/", true), -(int)ERR_DENIED);
    EQ(removes("/etc", true), -(int)ERR_DENIED);
    EQ(removes("/lib", true), -(int)ERR_DENIED);
    EQ(removes("/data/r/etc", true), -(int)ERR_DENIED);
    EQ(removes("/data/u/lib", true), -(int)ERR_DENIED);
    EQ(removes("/data/u", false), 0); /* the link alone */
    holds(root, "/etc/passwd", "in");
    CHECK(there(root, "/usr/lib"));
}

static void place_body(struct loop *loop)
{
    struct stat st;
    the_loop = loop;
    AUTO_FREE char *file = below(root, "/data/f");
    EQ(places("/data/f", "one", 0640), 0);
    EQ(stat(file, &st), 0);
    EQ(st.st_mode & 07777, 0640);
    EQ(places("/data/f", "two", 0), 0); /* as it was */
    EQ(stat(file, &st), 0);
    EQ(st.st_mode & 07777, 0640);
    lead("f", "/data/link");
    lead("/data/link", "/data/link2");
    lead("/../../out/kept", "/data/escape");
    lead("loop", "/data/loop");
    lead(outside, "/data/out");
    EQ(places("/data/link2", "three", 0), 0);
    holds(root, "/data/f", "three");
    CHECK(there(root, "/data/link2"));
    EQ(places("/data/escape", "bad", 0), -(int)ERR_NOT_FOUND);
    EQ(places("/data/out/kept", "bad", 0), -(int)ERR_NOT_FOUND);
    EQ(places("/data/loop", "bad", 0), -(int)ERR_INVALID);
    EQ(places("/data", "bad", 0), -(int)ERR_PRECONDITION);
    EQ(places("/none/f", "bad", 0), -(int)ERR_NOT_FOUND);
    EQ(places("/data/f/g", "bad", 0), -(int)ERR_INVALID);
    holds(outside, "/kept", "kept");
    AUTO_BUF seen = BUF_INIT(4096);
    EQ(lists("/data", &seen, NULL), 0);
    CHECK(!strstr(buf_cstr(&seen), ".davit-"));
}

/* Of a volume that is looked at without its container: what a link means that leaves it is not known. */
static void part_body(struct loop *loop)
{
    AUTO_BUF seen = BUF_INIT(4096);
    the_loop = loop;
    as_part = true;
    folder(root, "/data/sub");
    lead("/etc", "/data/abs");
    lead("../../etc", "/data/up");
    lead("/etc/passwd", "/data/file");
    lead("../etc", "/data/in");
    EQ(places("/data/abs/passwd", "bad", 0), -(int)ERR_PRECONDITION);
    EQ(places("/data/up/passwd", "bad", 0), -(int)ERR_PRECONDITION);
    EQ(places("/data/file", "bad", 0), -(int)ERR_PRECONDITION);
    EQ(removes("/data/abs/passwd", false), -(int)ERR_PRECONDITION);
    EQ(lists("/data/abs", &seen, NULL), -(int)ERR_PRECONDITION);
    holds(root, "/etc/passwd", "in");
    EQ(places("/data/in/passwd", "new", 0), 0);
    holds(root, "/etc/passwd", "new");
    EQ(places("/top", "t", 0), 0);
    EQ(removes("/data/file", false), 0); /* the link alone */
    EQ(removes("/data/sub", false), 0);
    EQ(lists("/", &seen, NULL), 0);
    SAME(buf_cstr(&seen), "data dir 0 ;etc dir 0 ;top file 1 ;");
}

static void list_body(struct loop *loop)
{
    AUTO_BUF seen = BUF_INIT(4096), none = BUF_INIT(16), linked = BUF_INIT(4096);
    the_loop = loop;
    put(root, "/data/-a", "12345");
    put(root, "/data/b\nc", "");
    put(root, "/data/\xff", "");
    folder(root, "/data/d");
    lead("/etc", "/data/e");
    EQ(lists("/data", &seen, NULL), 0);
    SAME(buf_cstr(&seen), "-a file 5 ;b\nc file 0 ;d dir 0 ;e symlink 0 /etc;\xef\xbf\xbd file 0 ;");
    EQ(lists("/data/e", &linked, NULL), 0);
    SAME(buf_cstr(&linked), "passwd file 2 ;");
    EQ(lists("/data/-a", &none, NULL), -(int)ERR_INVALID);
    EQ(lists("/data/z", &none, NULL), -(int)ERR_NOT_FOUND);
}

static void limits_body(struct loop *loop)
{
    bool truncated = true;
    AUTO_BUF seen = BUF_INIT(4096);
    the_loop = loop;
    for (unsigned i = 0; i <= FILES_LIST_MAX; i++) {
        AUTO_FREE char *name = str_printf("/data/%u", i);
        AUTO_FREE char *full = below(root, name);
        int fd = open(full, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        CHECK(fd >= 0);
        (void)close(fd);
        if (i == FILES_LIST_MAX - 1) {
            EQ(lists("/data", &seen, &truncated), 0);
            CHECK(!truncated);
        }
    }
    EQ(lists("/data", &seen, &truncated), 0);
    CHECK(truncated);
    EQ(removes("/data", true), 0); /* in several parts */
    for (unsigned depth = FILES_DEPTH_MAX; depth <= FILES_DEPTH_MAX + 1; depth++) {
        AUTO_BUF path = BUF_INIT(4096);
        for (unsigned i = 0; i < depth; i++) {
            EQ(buf_append_cstr(&path, "/d"), 0);
            folder(root, buf_cstr(&path));
        }
        EQ(removes("/d", true), depth == FILES_DEPTH_MAX ? 0 : -(int)ERR_EXHAUSTED);
    }
}

/* A folder is exchanged for a link to the outside, over and over, while it is being emptied. */
static atomic_bool enough;

static void *exchange(void *arg)
{
    AUTO_FREE char *dir = below(root, "/data/x"), *aside = below(root, "/data/aside");
    (void)arg;
    while (!atomic_load(&enough)) {
        if (rename(dir, aside) == 0 && symlink(outside, dir) == 0) {
            (void)unlink(dir);
            (void)rename(aside, dir);
        }
    }
    return NULL;
}

static void race_body(struct loop *loop)
{
    pthread_t thread;
    the_loop = loop;
    folder(outside, "/sub");
    put(outside, "/sub/kept", "kept");
    folder(root, "/data/x");
    atomic_store(&enough, false);
    EQ(pthread_create(&thread, NULL, exchange, NULL), 0);
    for (unsigned i = 0; i < 200; i++) {
        AUTO_FREE char *dir = below(root, "/data/x"), *sub = below(root, "/data/x/sub");
        (void)mkdir(dir, 0755);
        (void)mkdir(sub, 0755);
        (void)removes(i % 2 ? "/data/x" : "/data/x/sub", true);
        (void)places("/data/x/kept", "bad", 0);
    }
    atomic_store(&enough, true);
    EQ(pthread_join(thread, NULL), 0);
    holds(outside, "/kept", "kept");
    holds(outside, "/sub/kept", "kept");
}

/* Mounts that only the container sees: the root is that of a process with mounts of its own, as /proc/PID/root is. */
static _Noreturn void be_container(int ready)
{
    AUTO_FREE char *data = below(root, "/data"), *passwd = below(root, "/etc/passwd"), *kept = below(outside, "/kept");
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    bool ok = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
              mount(outside, data, NULL, MS_BIND, NULL) == 0 && mount(kept, passwd, NULL, MS_BIND, NULL) == 0;
    if (write(ready, ok ? "1" : "0", 1) == 1)
        (void)pause();
    _exit(0);
}

static void foreign_mounts_body(struct loop *loop)
{
    AUTO_FREE char *shown = NULL;
    the_loop = loop;
    AUTO_FREE char *inner = str_printf("/proc/%d/root%s", (int)container, root);
    shown = str_printf("%s/data/kept", inner);
    (void)str_copy(root, sizeof(root), str_from(inner));
    EQ(removes("/data", false), -(int)ERR_PRECONDITION);
    EQ(removes("/data", true), -(int)ERR_PRECONDITION);
    EQ(removes("/etc/passwd", false), -(int)ERR_PRECONDITION);
    EQ(places("/etc/passwd", "bad", 0), -(int)ERR_PRECONDITION);
    folder(root, "/gone");
    EQ(removes("/gone", false), 0);
    EQ(places("/data/new", "in the volume", 0), 0);
    holds(outside, "/new", "in the volume");
    struct stat st;
    EQ(stat(shown, &st), 0); /* still mounted */
    holds(root, "/etc/passwd", "kept");
    holds(outside, "/kept", "kept");
}

/* req: WK-4 */
static void test_what_is_mounted_in_the_container_stays(void **state)
{
    int ready[2];
    char ok = '0';
    (void)state;
    EQ(pipe2(ready, O_CLOEXEC), 0);
    container = fork();
    CHECK(container >= 0);
    if (container == 0)
        be_container(ready[1]);
    EQ(read(ready[0], &ok, 1), 1);
    if (ok == '1')
        on_fiber(foreign_mounts_body);
    (void)close(ready[0]);
    (void)close(ready[1]);
    (void)kill(container, SIGKILL);
    EQ(waitpid(container, NULL, 0), container);
    if (ok != '1')
        skip(); /* not root */
}

static void test_nothing_outside_is_removed(void **state)
{
    (void)state;
    on_fiber(remove_body);
}

static void test_folders_that_no_container_can_do_without(void **state)
{
    (void)state;
    on_fiber(tops_body);
}

static void test_a_file_is_put_in_place(void **state)
{
    (void)state;
    on_fiber(place_body);
}

/* req: WK-4 */
static void test_links_of_a_volume_alone(void **state)
{
    (void)state;
    on_fiber(part_body);
}

static void test_listings(void **state)
{
    (void)state;
    on_fiber(list_body);
}

static void test_limits(void **state)
{
    (void)state;
    on_fiber(limits_body);
}

static void test_renames_at_the_wrong_moment(void **state)
{
    (void)state;
    on_fiber(race_body);
}

static void test_paths(void **state)
{
    static const struct {
        const char *path, *clean;
    } all[] = {{"/", "/"},        {"//a/./b//", "/a/b"}, {"/a..b/...", "/a..b/..."}, {"a", NULL}, {"", NULL},
               {"/a/../b", NULL}, {"/..", NULL}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        AUTO_BUF out = BUF_INIT(FILES_PATH_MAX + 1);
        int rc = files_clean(all[i].path, &out, NULL);
        EQ(rc, all[i].clean ? 0 : -(int)ERR_INVALID);
        if (all[i].clean)
            SAME(buf_cstr(&out), all[i].clean);
    }
    for (size_t n = FILES_NAME_MAX; n <= FILES_NAME_MAX + 1; n++) {
        AUTO_BUF out = BUF_INIT(FILES_PATH_MAX + 1);
        AUTO_FREE char *name = mem_zalloc(1, n + 2);
        memset(name, 'n', n + 1);
        name[0] = '/';
        EQ(files_clean(name, &out, NULL), n == FILES_NAME_MAX ? 0 : -(int)ERR_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_outside_is_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_folders_that_no_container_can_do_without, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_is_put_in_place, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_mounted_in_the_container_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_links_of_a_volume_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_listings, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_renames_at_the_wrong_moment, setup, teardown),
        cmocka_unit_test(test_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
