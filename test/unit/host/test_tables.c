/* SPDX-License-Identifier: Apache-2.0 */
/* Every table of steps in the code: what it must say so that a crash at any moment leaves something that can be resumed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>

#include "base/fd.h"
#include "host/link/journal.h"
#include "host/link/update.h"
#include "host/work/work_internal.h"

static size_t all_tables(struct job_table ret[3 + ACTION_TABLES])
{
    deploy_table(&ret[0]);
    update_table(&ret[1]);
    scale_table(&ret[2]);
    return 3 + action_tables(ret + 3);
}

/* req: MA-5 */
static void test_every_step_has_a_probe_or_says_why_not(void **state)
{
    struct job_table t[3 + ACTION_TABLES];
    (void)state;
    for (size_t i = 0, n = all_tables(t); i < n; i++) {
        for (size_t k = 0; k < t[i].n; k++) {
            const struct job_step *s = &t[i].steps[k];
            bool why = s->no_probe && strlen(s->no_probe) > 10;
            if ((s->probe != NULL) == why)
                fail_msg("step %s of %s: %s", s->name, t[i].name, why ? "a probe and a reason for none" : "neither a probe nor a reason for none");
        }
    }
}

static void test_every_table_keeps_the_rules_of_the_engine(void **state)
{
    struct job_table t[3 + ACTION_TABLES];
    (void)state;
    for (size_t i = 0, n = all_tables(t); i < n; i++) {
        unsigned commits = 0;
        assert_in_range(t[i].n, 1, JOB_STEPS_MAX);
        for (size_t k = 0; k < t[i].n; k++) {
            const struct job_step *s = &t[i].steps[k];
            assert_non_null(s->run);
            assert_true(s->timeout > 0 && s->timeout < USEC_DAY);
            assert_in_range(strlen(s->name), 1, JOURNAL_STEP_SIZE - 1);
            /* Behind the commit there is no way back. */
            assert_true(commits == 0 || !s->undo);
            commits += s->commit;
            for (size_t m = 0; m < k; m++)
                assert_string_not_equal(t[i].steps[m].name, s->name);
        }
        assert_true(commits <= 1);
    }
}

/* How many tables the sources of @dir define. */
static size_t defined(const char *dir)
{
    size_t n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t len = strlen(e->d_name);
        if (len < 3 || strcmp(e->d_name + len - 2, ".c") != 0)
            continue;
        AUTO_BUF text = BUF_INIT(1024 * 1024);
        AUTO_FREE char *path = str_printf("%s/%s", dir, e->d_name);
        assert_int_equal(fd_read_file(path, &text, NULL), 0);
        for (const char *at = buf_cstr(&text); (at = strstr(at, "struct job_step ")) != NULL; at++) {
            const char *name = at + strlen("struct job_step ");
            n += *name != '*' && name[strcspn(name, "[;,){\n")] == '[';
        }
    }
    (void)closedir(d);
    return n;
}

static void test_no_table_is_left_out(void **state)
{
    struct job_table t[3 + ACTION_TABLES];
    (void)state;
    assert_int_equal(defined("src/host/work") + defined("src/host/link"), all_tables(t));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_step_has_a_probe_or_says_why_not),
        cmocka_unit_test(test_every_table_keeps_the_rules_of_the_engine),
        cmocka_unit_test(test_no_table_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
