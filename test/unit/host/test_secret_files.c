/* SPDX-License-Identifier: Apache-2.0 */
/* Secret files are in memory, nobody else's, and go; where there is no such place they are nowhere. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>
#include <cmocka.h>

#include "base/fd.h"
#include "host/work/secret_files.h"

#define CONTAINER "davit-shop-web-01234567"

struct fixture {
    char dir[64];
    struct work w;
    Davit__Common__V1__ServiceSpec spec;
    Davit__Common__V1__EnvVar env[3], *envs[3];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    (void)snprintf(f->dir, sizeof(f->dir), "/dev/shm/davit-test.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(setenv("RUNTIME_DIRECTORY", f->dir, 1), 0);
    f->w.server_id = (char *)"11111111-1111-4111-8111-111111111111";
    davit__common__v1__service_spec__init(&f->spec);
    static const char *const values[3][3] = {{"TOKEN", "s3cret\n", "token"}, {"MODE", "plain", ""}, {"EMPTY", "", "empty.txt"}};
    for (int i = 0; i < 3; i++) {
        davit__common__v1__env_var__init(&f->env[i]);
        f->env[i].name = (char *)(uintptr_t)values[i][0];
        f->env[i].value = (char *)(uintptr_t)values[i][1];
        f->env[i].file = (char *)(uintptr_t)values[i][2];
        f->envs[i] = &f->env[i];
    }
    f->spec.env = f->envs;
    f->spec.n_env = 3;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    (void)fd_remove_tree(f->dir, NULL);
    free(f);
    return 0;
}

static unsigned mode_of(const char *dir, const char *name)
{
    AUTO_FREE char *path = str_printf("%s/%s", dir, name);
    struct stat st;
    return lstat(path, &st) < 0 ? 0 : st.st_mode & 07777;
}

/* req: WK-9 */
static void test_written_and_removed(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    AUTO_FREE char *dir = NULL;
    AUTO_BUF content = BUF_INIT(100);
    mode_t before = umask(077);
    assert_int_equal(secret_files_write(&f->w, &f->spec, CONTAINER, &dir, &err), 0);
    (void)umask(before);
    assert_true(str_starts(str_from(dir), str_from(f->dir)) && str_ends(str_from(dir), STR("/" CONTAINER)));
    /* The container's user reads; nobody outside comes as far. */
    assert_int_equal(mode_of(dir, "token"), 0444);
    assert_int_equal(mode_of(dir, "empty.txt"), 0444);
    assert_int_equal(mode_of(dir, "MODE"), 0);
    assert_int_equal(mode_of(dir, ""), 0755);
    assert_int_equal(mode_of(f->dir, "secrets"), 0700);
    AUTO_FREE char *file = str_printf("%s/token", dir);
    assert_int_equal(fd_read_file(file, &content, NULL), 0);
    assert_true(str_eq(buf_str(&content), STR("s3cret\n")));

    /* Again, as before a restart: the folder stays the one that is mounted. */
    struct stat one, two;
    assert_int_equal(stat(dir, &one), 0);
    f->env[0].value = (char *)"other";
    assert_int_equal(secret_files_write(&f->w, &f->spec, CONTAINER, NULL, &err), 0);
    assert_int_equal(stat(dir, &two), 0);
    assert_true(one.st_ino == two.st_ino);
    buf_clear(&content);
    assert_int_equal(fd_read_file(file, &content, NULL), 0);
    assert_true(str_eq(buf_str(&content), STR("other")));

    /* Written after the container that is gone had started: they are of another one of this name. */
    usec_t written = (usec_t)two.st_mtim.tv_sec * USEC_SEC;
    secret_files_remove(&f->w, CONTAINER, written);
    secret_files_remove(&f->w, CONTAINER, 0);
    assert_int_equal(access(file, F_OK), 0);
    secret_files_remove(&f->w, CONTAINER, clock_real() + USEC_SEC);
    assert_int_equal(access(dir, F_OK), -1);
    secret_files_remove(&f->w, CONTAINER, clock_real() + USEC_SEC);
    secret_files_remove(&f->w, "..", clock_real() + USEC_SEC);
}

static void test_none(void **state)
{
    struct fixture *f = *state;
    char *dir = (char *)"x";
    f->env[0].file = f->env[2].file = (char *)"";
    assert_false(secret_files_any(&f->spec));
    assert_int_equal(secret_files_write(&f->w, &f->spec, CONTAINER, &dir, NULL), 0);
    assert_null(dir);
    assert_int_equal(mode_of(f->dir, "secrets"), 0);
}

/* A disk, somebody else's folder, a link: nothing is written. */
static void test_fails_closed(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    AUTO_FREE char *link = str_printf("%s/secrets", f->dir);
    char disk[] = "davit-secret-files.XXXXXX"; /* the source tree is on a disk */
    assert_int_equal(symlink("/tmp", link), 0);
    assert_int_equal(secret_files_write(&f->w, &f->spec, CONTAINER, NULL, &err), -(int)ERR_PRECONDITION);
    assert_true(*err.hint);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(secret_files_write(&f->w, &f->spec, "../x", NULL, &err), -(int)ERR_INVALID);
    assert_non_null(mkdtemp(disk));
    AUTO_FREE char *cwd = getcwd(NULL, 0);
    AUTO_FREE char *path = str_printf("%s/%s", cwd, disk);
    assert_int_equal(setenv("RUNTIME_DIRECTORY", path, 1), 0);
    int rc = secret_files_write(&f->w, &f->spec, CONTAINER, NULL, &err);
    assert_int_equal(rmdir(disk), 0); /* empty as it was */
    assert_int_equal(rc, -(int)ERR_PRECONDITION);
    if (geteuid() != 0)
        return;
    assert_int_equal(setenv("RUNTIME_DIRECTORY", f->dir, 1), 0);
    assert_int_equal(chown(f->dir, 12345, 12345), 0);
    assert_int_equal(secret_files_write(&f->w, &f->spec, CONTAINER, NULL, &err), -(int)ERR_PRECONDITION);
}

static bool keep(void *arg, const char *container)
{
    return strcmp(container, arg) == 0;
}

static void test_sweep(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *one = NULL;
    AUTO_FREE char *two = NULL;
    AUTO_FREE char *young = NULL;
    const struct utimbuf old = {1000, 1000};
    assert_int_equal(secret_files_write(&f->w, &f->spec, "one", &one, NULL), 0);
    assert_int_equal(secret_files_write(&f->w, &f->spec, "two", &two, NULL), 0);
    assert_int_equal(secret_files_write(&f->w, &f->spec, "young", &young, NULL), 0);
    assert_int_equal(utime(one, &old) + utime(two, &old), 0);
    secret_files_sweep(&f->w, keep, (void *)(uintptr_t)"one");
    assert_int_equal(access(one, F_OK), 0);
    assert_int_equal(access(young, F_OK), 0);
    assert_int_equal(access(two, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_written_and_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fails_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sweep, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
