/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's journal: the life of a command, what is known for ever, limits, and death at any moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/link/journal.h"
#include "ident/seal.h"
#include "loop/fiber.h"

struct fixture {
    char dir[64];
    char path[96];
    struct journal *j;
    struct loop *loop;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/davit-journal-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof(f->path), "%s/journal.db", f->dir);
    assert_int_equal(journal_open(NULL, f->path, &f->j, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    (void)journal_close(f->j);
    assert_int_equal(fd_remove_tree(f->dir, NULL), 0);
    free(f);
    return 0;
}

static void reopen(struct fixture *f)
{
    f->j = journal_close(f->j);
    assert_int_equal(journal_open(NULL, f->path, &f->j, NULL), 0);
}

static int add(struct journal *j, uint64_t seq, const char *id)
{
    return journal_add(j, seq, id, 7, STR("payload"), 1234, NULL);
}

static void test_life_of_a_command(void **state)
{
    struct fixture *f = *state;
    struct journal_entry e = {0};
    struct stat st;
    usec_t before = clock_real();
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(journal_pending(f->j, 0, &e, NULL), 1);
    assert_int_equal(add(f->j, 5, "five"), 0);
    assert_int_equal(add(f->j, 6, "six"), 0);
    reopen(f);
    assert_int_equal(journal_pending(f->j, 0, &e, NULL), 0);
    assert_true(e.seq == 5 && e.kind == 7 && e.deadline == 1234 && e.step == -1);
    assert_true(e.received >= before && e.received <= clock_real());
    assert_string_equal(e.id, "five");
    assert_true(str_eq(buf_str(&e.bytes), STR("payload")));
    journal_entry_release(&e);
    assert_int_equal(journal_step(f->j, 5, 2, "pull", 1, NULL), 0);
    reopen(f);
    assert_int_equal(journal_pending(f->j, 0, &e, NULL), 0);
    assert_true(e.step == 2 && e.step_state == 1);
    assert_string_equal(e.step_name, "pull");
    journal_entry_release(&e);
    assert_int_equal(journal_acked(f->j, 5, NULL), -ERR_PRECONDITION);
    assert_int_equal(journal_result(f->j, 5, STR("result"), NULL), 0);
    assert_int_equal(journal_result(f->j, 5, STR("other"), NULL), 1);
    assert_int_equal(journal_step(f->j, 5, 3, "late", 1, NULL), -ERR_NOT_FOUND);
    reopen(f);
    assert_int_equal(journal_pending(f->j, 0, &e, NULL), 0);
    assert_true(e.seq == 6);
    journal_entry_release(&e);
    assert_int_equal(journal_pending(f->j, 6, &e, NULL), 1);
    assert_int_equal(journal_unacked(f->j, 0, &e, NULL), 0);
    assert_true(e.seq == 5 && str_eq(buf_str(&e.bytes), STR("result")));
    journal_entry_release(&e);
    assert_int_equal(journal_acked(f->j, 5, NULL), 0);
    assert_int_equal(journal_acked(f->j, 5, NULL), 0);
    reopen(f);
    assert_int_equal(journal_unacked(f->j, 0, &e, NULL), 1);
}

static void test_known_for_ever(void **state)
{
    struct fixture *f = *state;
    uint64_t last = 9;
    assert_int_equal(journal_last_seq(f->j, &last, NULL), 0);
    assert_true(last == 0);
    assert_int_equal(add(f->j, 3, "a"), 0);
    assert_int_equal(add(f->j, 3, "a"), 1);
    assert_int_equal(add(f->j, 2, "older"), 1);
    assert_int_equal(add(f->j, 4, "a"), 1);
    assert_int_equal(journal_result(f->j, 3, STR(""), NULL), 0);
    assert_int_equal(journal_acked(f->j, 3, NULL), 0);
    reopen(f);
    assert_int_equal(add(f->j, 3, "a"), 1);
    assert_int_equal(journal_last_seq(f->j, &last, NULL), 0);
    assert_true(last == 3);
}

static void test_bad_input(void **state)
{
    struct fixture *f = *state;
    struct str big = {calloc(1, JOURNAL_BYTES_MAX + 1), JOURNAL_BYTES_MAX + 1};
    assert_int_equal(add(f->j, 0, "a"), -ERR_INVALID);
    assert_int_equal(add(f->j, UINT64_MAX, "a"), -ERR_INVALID);
    assert_int_equal(add(f->j, 1, ""), -ERR_INVALID);
    assert_int_equal(add(f->j, 1, "01234567-89ab-cdef-0123-456789abcdef0"), -ERR_INVALID);
    assert_int_equal(journal_add(f->j, 1, "a", 0, big, 0, NULL), -ERR_INVALID);
    big.n--;
    assert_int_equal(journal_add(f->j, 1, "a", 0, big, USEC_INFINITY, NULL), 0);
    assert_int_equal(journal_result(f->j, 1, big, NULL), 0);
    assert_int_equal(journal_result(f->j, 2, STR("x"), NULL), -ERR_NOT_FOUND);
    assert_int_equal(journal_step(f->j, 2, 0, "x", 1, NULL), -ERR_NOT_FOUND);
    free((char *)big.p);
}

static void test_facts(void **state)
{
    struct fixture *f = *state;
    char value[JOURNAL_VALUE_SIZE];
    uint64_t epoch = 0;
    assert_int_equal(journal_meta_get(f->j, "k", value, NULL), 1);
    assert_int_equal(journal_meta_set(f->j, "k", "v1", NULL), 0);
    assert_int_equal(journal_meta_set(f->j, "k", "v2", NULL), 0);
    for (uint64_t i = 1; i < 4; i++) {
        reopen(f);
        assert_int_equal(journal_next_epoch(f->j, &epoch, NULL), 0);
        assert_true(epoch == i);
    }
    assert_int_equal(journal_meta_get(f->j, "k", value, NULL), 0);
    assert_string_equal(value, "v2");
    assert_int_equal(journal_meta_set(f->j, "k", NULL, NULL), 0);
    assert_int_equal(journal_meta_get(f->j, "k", value, NULL), 1);
    assert_int_equal(journal_set_server(f->j, "s1", NULL), 0);
    assert_int_equal(add(f->j, 8, "a"), 0);
    assert_int_equal(journal_set_server(f->j, "s1", NULL), 0);
    assert_int_equal(add(f->j, 8, "a"), 1);
    assert_int_equal(journal_set_server(f->j, "s2", NULL), 1);
    assert_int_equal(add(f->j, 1, "a"), 0);
    /* The connection that brought the new name counts: the next one must be above it. */
    assert_int_equal(journal_next_epoch(f->j, &epoch, NULL), 0);
    assert_true(epoch == 4);
}

static void fill(void *arg)
{
    struct fixture *f = arg;
    char id[16];
    int rc = 0;
    struct err err = ERR_INIT;
    uint64_t n = 0;
    while (rc == 0 && n <= JOURNAL_MAX) {
        (void)snprintf(id, sizeof(id), "c%d", (int)++n);
        rc = journal_add(f->j, n, id, 0, STR(""), 0, &err);
    }
    /* Full: nothing new until something is acknowledged. */
    bool ok = rc == -ERR_EXHAUSTED && n == JOURNAL_MAX + 1 && add(f->j, 1, "c1") == 1 && journal_result(f->j, 1, STR(""), NULL) == 0 &&
              journal_acked(f->j, 1, NULL) == 0 && add(f->j, n, "next") == 0;
    if (!ok)
        print_message("%d after %d: %s\n", rc, (int)n, err.msg);
    f->path[0] = ok ? '\0' : '!';
    loop_stop(f->loop);
}

/* On the lanes of a loop, as the agent uses it. */
static void test_limit(void **state)
{
    struct fixture *f = *state;
    f->j = journal_close(f->j);
    f->loop = loop_new();
    assert_int_equal(journal_open(f->loop, f->path, &f->j, NULL), 0);
    assert_int_equal(fiber_spawn(f->loop, "fill", fill, f, NULL), 0);
    loop_run(f->loop);
    f->j = journal_close(f->j);
    f->loop = loop_free(f->loop);
    assert_int_equal(f->path[0], '\0');
}

/* --- Killed --- */

enum { OPS = 5 };

/* Operation number @op of the life of command @seq. */
static int operate(struct journal *j, uint64_t seq, int op)
{
    char id[24];
    (void)snprintf(id, sizeof(id), "id%d", (int)seq);
    switch (op) {
    case 0:
        return add(j, seq, id);
    case 1:
        return journal_step(j, seq, 0, "first", 1, NULL);
    case 2:
        return journal_step(j, seq, 1, "second", 1, NULL);
    case 3:
        return journal_result(j, seq, STR("result"), NULL);
    default:
        return journal_acked(j, seq, NULL);
    }
}

/* How many operations of @seq the journal remembers. */
static int progress(struct journal *j, uint64_t seq)
{
    struct journal_entry e = {0};
    uint64_t last = 0;
    int done;
    assert_int_equal(journal_last_seq(j, &last, NULL), 0);
    if (last < seq)
        return 0;
    if (journal_pending(j, seq - 1, &e, NULL) == 0 && e.seq == seq)
        done = e.step + 2;
    else
        done = journal_unacked(j, seq - 1, &e, NULL) == 0 && e.seq == seq ? 4 : 5;
    journal_entry_release(&e);
    return done;
}

static _Noreturn void live(struct fixture *f, uint64_t seq, int die_after, bool in_call, int report)
{
    struct journal *j = NULL;
    if (journal_open(NULL, f->path, &j, NULL) < 0)
        _exit(1);
    for (int op = 0; op < OPS; op++) {
        if (operate(j, seq, op) != 0)
            _exit(2);
        char c = (char)op;
        if (write(report, &c, 1) != 1)
            _exit(3);
        if (op == die_after && !in_call)
            (void)kill(getpid(), SIGKILL);
    }
    (void)pause();
    _exit(4);
}

/* What was reported as done is in the journal of the next process; at most the operation that was running is there beyond that. */
static void test_killed_after_each_call(void **state)
{
    struct fixture *f = *state;
    f->j = journal_close(f->j);
    for (int round = 0; round < 4 * OPS; round++) {
        bool in_call = round >= OPS;
        uint64_t seq = (uint64_t)round + 1;
        int p[2], reported = 0, status = 0;
        char c;
        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            live(f, seq, round % OPS, in_call, p[1]);
        (void)close(p[1]);
        while (reported <= round % OPS && read(p[0], &c, 1) == 1)
            reported++;
        if (in_call) {
            (void)usleep((useconds_t)(round / OPS) * 150);
            assert_int_equal(kill(pid, SIGKILL), 0);
        }
        while (read(p[0], &c, 1) == 1)
            reported++;
        (void)close(p[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_int_equal(journal_open(NULL, f->path, &f->j, NULL), 0);
        int done = progress(f->j, seq);
        assert_in_range(done, reported, reported + (in_call ? 1 : 0));
        f->j = journal_close(f->j);
    }
}

static bool file_has(const char *dir, const char *name, const char *text)
{
    AUTO_FREE char *path = str_printf("%s/%s", dir, name);
    AUTO_BUF bytes = BUF_INIT(64 * 1024 * 1024);
    if (fd_read_file(path, &bytes, NULL) < 0)
        return false;
    return memmem(bytes.data, bytes.len, text, strlen(text)) != NULL;
}

/* What a command says is in no file of the journal, and comes back as it was. */
static void test_payload_is_sealed(void **state)
{
    struct fixture *f = *state;
    static const char *const files[] = {"journal.db", "journal.db-wal", "journal.db-shm"};
    static const char planted[] = "DB_PASSWORD=planted-6f1d";
    struct journal_entry e = {0};
    assert_int_equal(journal_add(f->j, 1, "a", 7, STR(planted), 0, NULL), 0);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < ARRAY_LEN(files); i++)
            assert_false(file_has(f->dir, files[i], "planted"));
        assert_int_equal(journal_pending(f->j, 0, &e, NULL), 0);
        assert_true(str_eq(buf_str(&e.bytes), STR(planted)));
        journal_entry_release(&e);
        reopen(f);
    }
    AUTO_BUF large = BUF_INIT(JOURNAL_BYTES_MAX);
    memset(buf_reserve(&large, JOURNAL_BYTES_MAX), 'x', JOURNAL_BYTES_MAX);
    buf_commit(&large, JOURNAL_BYTES_MAX);
    assert_int_equal(journal_add(f->j, 2, "b", 7, buf_str(&large), 0, NULL), 0);
    assert_int_equal(journal_pending(f->j, 1, &e, NULL), 0);
    assert_true(str_eq(buf_str(&e.bytes), buf_str(&large)));
    journal_entry_release(&e);
}

static void test_key_of_another_journal(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    AUTO_FREE char *key = str_printf("%s/journal.key", f->dir);
    AUTO_FREE char *kept = str_printf("%s/kept", f->dir);
    assert_int_equal(add(f->j, 1, "a"), 0);
    f->j = journal_close(f->j);
    assert_int_equal(rename(key, kept), 0);
    assert_int_equal(journal_open(NULL, f->path, &f->j, &err), -(int)ERR_DATA_LOSS);
    assert_non_null(strstr(err.hint, "put the file back"));
    assert_int_equal(access(key, F_OK), -1);
    assert_int_equal(seal_make(key, NULL), 0);
    assert_int_equal(journal_open(NULL, f->path, &f->j, &err), -(int)ERR_DATA_LOSS);
    assert_int_equal(rename(kept, key), 0);
    reopen(f);
    struct journal_entry e = {0};
    assert_int_equal(journal_pending(f->j, 0, &e, NULL), 0);
    assert_true(str_eq(buf_str(&e.bytes), STR("payload")));
    journal_entry_release(&e);
}

/* Flips a bit in every envelope of the closed file. */
static void damage(struct fixture *f)
{
    static const char head[] = {0, 'D', 'S', 1};
    AUTO_BUF bytes = BUF_INIT(64 * 1024 * 1024);
    unsigned n = 0;
    assert_int_equal(fd_read_file(f->path, &bytes, NULL), 0);
    for (size_t i = 0; i + 40 < bytes.len; i++) {
        if (memcmp(bytes.data + i, head, sizeof(head)) != 0)
            continue;
        bytes.data[i + 30] ^= 1;
        n++;
    }
    assert_true(n > 0);
    assert_int_equal(fd_write_file(f->path, bytes.data, bytes.len, 0600, NULL), 0);
}

/* req: MA-5 */
static void test_a_payload_that_does_not_open_hides_no_other(void **state)
{
    struct fixture *f = *state;
    struct journal_entry e = {0};
    assert_int_equal(add(f->j, 1, "a"), 0);
    assert_int_equal(journal_step(f->j, 1, 3, "create", 1, NULL), 0);
    f->j = journal_close(f->j);
    damage(f);
    reopen(f);
    assert_int_equal(add(f->j, 2, "b"), 0);
    assert_int_equal(journal_pending(f->j, 0, &e, NULL), 0);
    assert_true(e.seq == 1 && e.unreadable && e.bytes.len == 0 && e.step == 3);
    journal_entry_release(&e);
    assert_int_equal(journal_pending(f->j, 1, &e, NULL), 0);
    assert_true(e.seq == 2 && !e.unreadable && str_eq(buf_str(&e.bytes), STR("payload")));
    journal_entry_release(&e);
    /* It can be answered and forgotten as any other. */
    assert_int_equal(journal_result(f->j, 1, STR("result"), NULL), 0);
    assert_int_equal(journal_acked(f->j, 1, NULL), 0);
    assert_int_equal(journal_pending(f->j, 0, &e, NULL), 0);
    assert_true(e.seq == 2);
    journal_entry_release(&e);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_life_of_a_command), T(test_known_for_ever), T(test_bad_input), T(test_facts), T(test_limit), T(test_killed_after_each_call),
        T(test_payload_is_sealed), T(test_key_of_another_journal), T(test_a_payload_that_does_not_open_hides_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
