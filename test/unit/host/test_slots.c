/* SPDX-License-Identifier: Apache-2.0 */
/* Slots: the two names that lead to a version, what may not be followed, and the way back of a version that did not live. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "host/link/slots.h"

#define SLOT_OLD "0.1.0-1"
#define SLOT_NEW "0.2.0-7"

struct place {
    char *top, *exe;
    struct slots s;
};

static void put(const struct place *p, const char *path, const char *text, mode_t mode)
{
    AUTO_FREE char *whole = str_printf("%s/%s", p->top, path);
    assert_int_equal(fd_write_file(whole, text, strlen(text), mode, NULL), 0);
}

static void make_slot(const struct place *p, const char *name)
{
    AUTO_FREE char *dir = str_printf("%s/slots/%s", p->top, name);
    AUTO_FREE char *program = str_printf("slots/%s/davit-agent", name);
    assert_int_equal(fd_mkdir_p(dir, 0755, NULL), 0);
    put(p, program, "program", 0755);
}

static int set_up(void **state)
{
    struct place *p = NEW(struct place);
    char name[] = "/tmp/dslots.XXXXXX";
    assert_non_null(mkdtemp(name));
    p->top = str_dup(str_from(name));
    make_slot(p, SLOT_OLD);
    make_slot(p, SLOT_NEW);
    p->exe = str_printf("%s/slots/" SLOT_OLD "/davit-agent", p->top);
    assert_int_equal(slots_open(p->exe, &p->s, NULL), 0);
    assert_int_equal(slots_point(&p->s, SLOTS_CURRENT, SLOT_OLD, NULL), 0);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    slots_close(&p->s);
    assert_int_equal(fd_remove_tree(p->top, NULL), 0);
    free(p->top);
    free(p->exe);
    free(p);
    return 0;
}

static const char *where(const struct place *p, enum slots_link link)
{
    static char name[SLOT_NAME_SIZE];
    assert_true(slots_read(&p->s, link, name, NULL) >= 0);
    return name;
}

static void test_names(void **state)
{
    char name[SLOT_NAME_SIZE];
    (void)state;
    assert_int_equal(slot_name("0.2.0", 7, name, NULL), 0);
    assert_string_equal(name, SLOT_NEW);
    assert_int_equal(slot_name("../../etc", 1, name, NULL), -ERR_INVALID);
    assert_int_equal(slot_name(".new", 1, name, NULL), -ERR_INVALID);
    assert_true(slot_name_valid(STR("1.0.0-rc.1-12")));
    assert_false(slot_name_valid(STR("1.0.0")));
    assert_false(slot_name_valid(STR("pending")));
    assert_false(slot_name_valid(STR("1/2-3")));
}

static void test_a_program_outside_of_slots_is_in_none(void **state)
{
    struct slots s;
    (void)state;
    assert_int_equal(slots_open("/usr/bin/davit-agent", &s, NULL), 1);
    assert_int_equal(slots_open("/opt/slots/0.1.0-1/other", &s, NULL), 1);
    assert_int_equal(slots_open("/slots/0.1.0-1/davit-agent", &s, NULL), 1);
    assert_int_equal(slots_open("relative/slots/0.1.0-1/davit-agent", &s, NULL), 1);
}

/* req: CL-80 */
static void test_both_names_are_replaced_whole(void **state)
{
    struct place *p = *state;
    assert_string_equal(where(p, SLOTS_CURRENT), SLOT_OLD);
    assert_string_equal(where(p, SLOTS_PREVIOUS), "");
    assert_int_equal(slots_point(&p->s, SLOTS_PREVIOUS, SLOT_OLD, NULL), 0);
    assert_int_equal(slots_point(&p->s, SLOTS_CURRENT, SLOT_NEW, NULL), 0);
    assert_string_equal(where(p, SLOTS_CURRENT), SLOT_NEW);
    assert_string_equal(where(p, SLOTS_PREVIOUS), SLOT_OLD);
    assert_int_equal(slots_point(&p->s, SLOTS_CURRENT, "0.3.0-1", NULL), -ERR_PRECONDITION);
    assert_string_equal(where(p, SLOTS_CURRENT), SLOT_NEW);
}

static void test_what_is_no_slot_is_not_followed(void **state)
{
    struct place *p = *state;
    char name[SLOT_NAME_SIZE];
    AUTO_FREE char *current = str_printf("%s/current", p->top);
    AUTO_FREE char *linked = str_printf("%s/slots/0.9.0-1", p->top);
    AUTO_FREE char *elsewhere = str_printf("%s/elsewhere", p->top);
    assert_int_equal(unlink(current), 0);
    assert_int_equal(symlink("/etc", current), 0);
    assert_int_equal(slots_read(&p->s, SLOTS_CURRENT, name, NULL), -ERR_PRECONDITION);
    assert_int_equal(mkdir(elsewhere, 0755), 0);
    put(p, "elsewhere/davit-agent", "program", 0755);
    assert_int_equal(symlink(elsewhere, linked), 0);
    assert_false(slots_has(&p->s, "0.9.0-1"));
    assert_int_equal(slots_point(&p->s, SLOTS_CURRENT, "0.9.0-1", NULL), -ERR_PRECONDITION);
}

static void test_a_place_that_others_write_to_is_not_used(void **state)
{
    struct place *p = *state;
    struct slots s;
    AUTO_FREE char *dir = str_printf("%s/slots", p->top);
    AUTO_FREE char *away = str_printf("%s/away", p->top);
    assert_int_equal(chmod(dir, 0777), 0);
    assert_int_equal(slots_open(p->exe, &s, NULL), -ERR_DENIED);
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(chmod(p->top, 0770), 0);
    assert_int_equal(slots_open(p->exe, &s, NULL), -ERR_DENIED);
    assert_int_equal(chmod(p->top, 0700), 0);
    assert_int_equal(rename(dir, away), 0);
    assert_int_equal(symlink(away, dir), 0);
    assert_true(slots_open(p->exe, &s, NULL) < 0);
}

static void test_rubbish_goes_and_the_two_stay(void **state)
{
    struct place *p = *state;
    AUTO_FREE char *part = str_printf("%s/slots/.new-3", p->top);
    make_slot(p, "0.0.9-1");
    assert_int_equal(fd_mkdir_p(part, 0755, NULL), 0);
    put(p, "slots/.fetch-3", "half", 0600);
    put(p, "slots/counter", "7\n", 0644);
    assert_int_equal(slots_collect(&p->s, NULL), 0); /* no previous one is known: everything stays */
    assert_true(slots_has(&p->s, "0.0.9-1"));
    assert_int_equal(slots_point(&p->s, SLOTS_PREVIOUS, SLOT_OLD, NULL), 0);
    assert_int_equal(slots_point(&p->s, SLOTS_CURRENT, SLOT_NEW, NULL), 0);
    assert_int_equal(slots_collect(&p->s, NULL), 0);
    assert_true(slots_has(&p->s, SLOT_OLD) && slots_has(&p->s, SLOT_NEW));
    assert_false(slots_has(&p->s, "0.0.9-1"));
    assert_int_equal(access(part, F_OK), -1);
    uint64_t counter = 0;
    assert_int_equal(slots_counter(&p->s, &counter, NULL), 0);
    assert_int_equal(counter, 7);
}

static void test_what_was_being_written_goes(void **state)
{
    static const char *const names[] = {"pending.11beba26449bf56a.tmp", "counter.0123456789abcdef.tmp", "counter.0123456789abcdeF.tmp",
                                        "counter.tmp"};
    struct place *p = *state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO_FREE char *name = str_printf("slots/%s", names[i]);
        put(p, name, "half", 0600);
    }
    put(p, "slots/.fetch-3", "half", 0600);
    put(p, "slots/counter", "7\n", 0644);
    assert_int_equal(slots_tidy(&p->s, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO_FREE char *path = str_printf("%s/slots/%s", p->top, names[i]);
        assert_int_equal(access(path, F_OK), i < 2 ? -1 : 0);
    }
    uint64_t counter = 0;
    assert_int_equal(slots_counter(&p->s, &counter, NULL), 0);
    assert_int_equal(counter, 7);
}

static void test_the_counter_lasts(void **state)
{
    struct place *p = *state;
    uint64_t counter = 1;
    assert_int_equal(slots_counter(&p->s, &counter, NULL), 0);
    assert_int_equal(counter, 0);
    assert_int_equal(slots_counter_set(&p->s, 12, NULL), 0);
    assert_int_equal(slots_counter(&p->s, &counter, NULL), 0);
    assert_int_equal(counter, 12);
    put(p, "slots/counter", "twelve\n", 0644);
    assert_int_equal(slots_counter(&p->s, &counter, NULL), -ERR_DATA_LOSS);
}

static int boot(const struct place *p, const char *slot, char **ret)
{
    AUTO_FREE char *exe = str_printf("%s/slots/%s/davit-agent", p->top, slot);
    *ret = NULL;
    return slots_boot(exe, ret, NULL);
}

static void begin_trial(const struct place *p)
{
    assert_int_equal(slots_point(&p->s, SLOTS_PREVIOUS, SLOT_OLD, NULL), 0);
    assert_int_equal(slots_pending_set(&p->s, SLOT_NEW, false, NULL), 0);
    assert_int_equal(slots_point(&p->s, SLOTS_CURRENT, SLOT_NEW, NULL), 0);
}

/* req: CL-82 */
static void test_one_that_did_not_live_makes_place_for_the_one_before(void **state)
{
    struct place *p = *state;
    AUTO_FREE char *path = NULL;
    char pending[SLOT_NAME_SIZE];
    begin_trial(p);
    assert_int_equal(boot(p, SLOT_NEW, &path), 1);
    assert_string_equal(path, p->exe);
    assert_string_equal(where(p, SLOTS_CURRENT), SLOT_OLD);
    AUTO_FREE char *again = NULL;
    assert_int_equal(boot(p, SLOT_OLD, &again), 0);
    /* The update that failed knows it by this, and ends it. */
    assert_int_equal(slots_pending(&p->s, pending, NULL), 0);
    assert_string_equal(pending, SLOT_NEW);
    assert_int_equal(slots_pending_drop(&p->s, SLOT_OLD, NULL), 0);
    assert_int_equal(slots_pending(&p->s, pending, NULL), 0);
    assert_string_equal(pending, SLOT_NEW);
    assert_int_equal(slots_pending_drop(&p->s, SLOT_NEW, NULL), 0);
    assert_int_equal(slots_pending(&p->s, pending, NULL), 0);
    assert_string_equal(pending, "");
}

static void test_one_that_was_told_to_stop_goes_on(void **state)
{
    struct place *p = *state;
    AUTO_FREE char *path = NULL;
    begin_trial(p);
    assert_int_equal(slots_pending_set(&p->s, SLOT_NEW, true, NULL), 0);
    assert_int_equal(boot(p, SLOT_NEW, &path), 0);
    assert_string_equal(where(p, SLOTS_CURRENT), SLOT_NEW);
    assert_int_equal(boot(p, SLOT_NEW, &path), 1); /* but once */
}

static void test_one_that_proved_itself_stays(void **state)
{
    struct place *p = *state;
    AUTO_FREE char *path = NULL;
    begin_trial(p);
    assert_int_equal(slots_pending_set(&p->s, NULL, false, NULL), 0);
    assert_int_equal(boot(p, SLOT_NEW, &path), 0);
    assert_string_equal(where(p, SLOTS_CURRENT), SLOT_NEW);
}

static void test_a_crash_before_the_change_leaves_the_old_one(void **state)
{
    struct place *p = *state;
    AUTO_FREE char *path = NULL;
    assert_int_equal(slots_pending_set(&p->s, SLOT_NEW, false, NULL), 0);
    assert_int_equal(boot(p, SLOT_OLD, &path), 0);
    assert_string_equal(where(p, SLOTS_CURRENT), SLOT_OLD);
}

static void test_without_a_way_back_it_goes_on(void **state)
{
    struct place *p = *state;
    AUTO_FREE char *path = NULL;
    AUTO_FREE char *old = str_printf("%s/slots/" SLOT_OLD, p->top);
    begin_trial(p);
    assert_int_equal(fd_remove_tree(old, NULL), 0);
    assert_int_equal(boot(p, SLOT_NEW, &path), -ERR_PRECONDITION);
    assert_string_equal(where(p, SLOTS_CURRENT), SLOT_NEW);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_names),
        T(test_a_program_outside_of_slots_is_in_none),
        T(test_both_names_are_replaced_whole),
        T(test_what_is_no_slot_is_not_followed),
        T(test_a_place_that_others_write_to_is_not_used),
        T(test_rubbish_goes_and_the_two_stay),
        T(test_what_was_being_written_goes),
        T(test_the_counter_lasts),
        T(test_one_that_did_not_live_makes_place_for_the_one_before),
        T(test_one_that_was_told_to_stop_goes_on),
        T(test_one_that_proved_itself_stays),
        T(test_a_crash_before_the_change_leaves_the_old_one),
        T(test_without_a_way_back_it_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
