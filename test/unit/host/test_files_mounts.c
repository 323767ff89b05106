/* SPDX-License-Identifier: Apache-2.0 */
/* What a mountinfo says about a folder: what is mounted below it, and which mount it is on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "host/work/files_internal.h"

static const char table[] = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
                            "30 22 0:5 / /srv/a/nas rw - nfs host:/x rw\n"
                            "31 22 0:6 / /srv/with\\040space\\134n rw shared:3 - tmpfs tmpfs rw\n"
                            "32 22 0:7 / /data rw - tmpfs tmpfs rw\n"
                            "33 32 0:8 / /data/deep rw - tmpfs tmpfs rw\n";

static void is(const char *text, const char *at, int want, const char *where)
{
    AUTO_BUF place = BUF_INIT(2 * FILES_PATH_MAX);
    assert_int_equal(files_mounted_below(str_from(text), at, &place), want);
    if (where)
        assert_string_equal(buf_cstr(&place), where);
}

/* req: WK-4 */
static void below(void **state)
{
    (void)state;
    is(table, "/srv/a", 1, "/srv/a/nas");
    is(table, "/srv/a/nas", 1, "/srv/a/nas");
    is(table, "/srv", 1, "/srv/a/nas");
    is(table, "/srv/a/nas/x", 0, "/srv/a/nas");
    is(table, "/srv/a/na", 0, "/");
    is(table, "/srv/a/nas2", 0, "/");
    is(table, "/srv/with space\\n", 1, "/srv/with space\\n");
    is(table, "/srv/with", 0, "/");
    is(table, "/data/deep/x", 0, "/data/deep");
    is(table, "/data/x", 0, "/data");
    is(table, "/data", 1, NULL);
}

/* req: WK-4 */
static void nothing_to_believe(void **state)
{
    (void)state;
    is("", "/srv", -(int)ERR_INVALID, NULL);
    is("22 1 8:1 /\n", "/srv", -(int)ERR_INVALID, NULL);
    is("22 1 8:1 / / rw - ext4 x rw\nnonsense\n", "/srv", -(int)ERR_INVALID, NULL);
    is("22 1 8:1 / /other rw - ext4 x rw\n", "/srv", -(int)ERR_INVALID, NULL);
    char name[2 * FILES_PATH_MAX + 2] = "/"; /* as long as is kept, and one more */
    memset(name + 1, 'x', 2 * FILES_PATH_MAX);
    for (int more = 0; more < 2; more++) {
        name[2 * FILES_PATH_MAX + more] = '\0';
        AUTO_FREE char *text = str_printf("22 1 8:1 / / rw - ext4 x rw\n23 1 8:1 / %s rw - ext4 x rw\n", name);
        is(text, "/srv", more ? -(int)ERR_INVALID : 0, NULL);
        name[2 * FILES_PATH_MAX + more] = 'x';
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(below),
        cmocka_unit_test(nothing_to_believe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
