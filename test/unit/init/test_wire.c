/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves say: what is taken, and that everything else is not. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "init/wire.h"

enum { BAD = -(int)ERR_INVALID };

static const enum wire_type types[] = {WIRE_READY,   WIRE_INITIALIZED, WIRE_SIGNAL,   WIRE_STOP,    WIRE_QUERY,  WIRE_HELLO,
                                       WIRE_STARTED, WIRE_EXITED,      WIRE_STOPPING, WIRE_REFUSED, WIRE_ZOMBIES};

static enum wire_way way_of(enum wire_type type)
{
    return type < WIRE_HELLO ? WIRE_TO_INIT : WIRE_TO_SESSION;
}

static int check(const union wire_frame *f)
{
    union wire_frame got;

    return wire_parse(way_of(f->head.type), f, f->head.size, &got);
}

/* The smallest good frame of each type. */
static union wire_frame good(enum wire_type type)
{
    union wire_frame f;

    wire_begin(&f, type);
    if (type == WIRE_SIGNAL)
        f.signal.signo = SIGHUP;
    if (type == WIRE_HELLO)
        f.hello.home[0] = '/';
    if (type == WIRE_STARTED)
        f.started.pid = 2;
    if (type == WIRE_REFUSED) {
        f.refused.type = WIRE_READY;
        f.refused.reason = WIRE_ALREADY;
    }
    return f;
}

static void test_each_type_in_its_direction(void **state)
{
    union wire_frame got, changed;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        union wire_frame f = good(types[i]);
        enum wire_way way = way_of(types[i]), other = way == WIRE_TO_INIT ? WIRE_TO_SESSION : WIRE_TO_INIT;
        assert_int_equal(f.head.size, wire_size(types[i]));
        assert_int_equal(wire_parse(way, &f, f.head.size, &got), 0);
        assert_memory_equal(&f, &got, sizeof(f));
        assert_int_equal(wire_parse(other, &f, f.head.size, &got), BAD);
        /* One byte more or less, whatever the head says of it. */
        assert_int_equal(wire_parse(way, &f, f.head.size - 1u, &got), BAD);
        assert_int_equal(wire_parse(way, &f, f.head.size + 1u, &got), BAD);
        changed = f;
        changed.head.size = (uint16_t)(f.head.size + 1);
        assert_int_equal(wire_parse(way, &changed, f.head.size + 1u, &got), BAD);
        changed = f;
        changed.head.version++;
        assert_int_equal(check(&changed), BAD);
        changed = f;
        changed.head.zero = 1;
        assert_int_equal(check(&changed), BAD);
    }
    for (unsigned int type = 0; type < 256; type++) {
        size_t known = 0;
        for (size_t i = 0; i < ARRAY_LEN(types); i++)
            known += types[i] == type;
        assert_int_equal(wire_size(type) > 0, known);
    }
    assert_int_equal(wire_size(UINT32_MAX), 0);
    assert_int_equal(wire_parse(WIRE_TO_INIT, "", 0, &got), BAD);
}

static void words(union wire_frame *f, uint32_t n, const char *text, size_t bytes)
{
    wire_begin(f, WIRE_READY);
    f->ready.words = n;
    f->ready.bytes = (uint32_t)bytes;
    memcpy(f->ready.text, text, bytes < WIRE_TEXT_MAX ? bytes : WIRE_TEXT_MAX);
}

static void test_default_command(void **state)
{
    char full[WIRE_TEXT_MAX + 1];
    union wire_frame f;

    (void)state;
    words(&f, 0, "", 0);
    assert_int_equal(check(&f), 0);
    words(&f, 3, "claude\0\0-x", 11);
    assert_int_equal(check(&f), 0);
    words(&f, 2, "claude\0\0-x", 11);
    assert_int_equal(check(&f), BAD);
    words(&f, 4, "claude\0\0-x", 11);
    assert_int_equal(check(&f), BAD);
    words(&f, 1, "claude", 6); /* no end */
    assert_int_equal(check(&f), BAD);
    words(&f, 1, "", 1); /* its name is empty */
    assert_int_equal(check(&f), BAD);
    words(&f, 1, "a\0b", 2); /* something behind the end */
    f.ready.text[2] = 'b';
    assert_int_equal(check(&f), BAD);

    memset(full, 'a', sizeof(full));
    full[WIRE_TEXT_MAX - 1] = '\0';
    words(&f, 1, full, WIRE_TEXT_MAX);
    assert_int_equal(check(&f), 0);
    f.ready.bytes++;
    assert_int_equal(check(&f), BAD);
    memset(full, '\0', sizeof(full));
    for (size_t i = 0; i < 2 * (WIRE_WORDS_MAX + 1); i += 2)
        full[i] = 'w';
    words(&f, WIRE_WORDS_MAX, full, 2 * (size_t)WIRE_WORDS_MAX);
    assert_int_equal(check(&f), 0);
    words(&f, WIRE_WORDS_MAX + 1, full, 2 * (size_t)(WIRE_WORDS_MAX + 1));
    assert_int_equal(check(&f), BAD);
}

static void test_signals(void **state)
{
    static const int refused[] = {SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGCHLD, SIGTTIN, SIGTTOU,
                                  SIGURG, SIGSYS,  32,      33,     0,      -1,      65,      1 << 30};
    union wire_frame f = good(WIRE_SIGNAL);

    (void)state;
    for (int s = 34; s <= 64; s++) {
        f.signal.signo = s;
        assert_int_equal(check(&f), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        f.signal.signo = refused[i];
        assert_int_equal(check(&f), BAD);
    }
    f = good(WIRE_SIGNAL);
    f.signal.zero = 1;
    assert_int_equal(check(&f), BAD);
    f = good(WIRE_STOP);
    f.stop.code = 255;
    assert_int_equal(check(&f), 0);
    f.stop.code = 256;
    assert_int_equal(check(&f), BAD);
}

/* Fills @field of a good hello with @value; is it taken? */
#define HELLO_WITH(field, value)                                                                                                 \
    ({                                                                                                                           \
        union wire_frame h_ = good(WIRE_HELLO);                                                                                  \
        h_.hello.field = (value);                                                                                                \
        check(&h_);                                                                                                              \
    })

static void test_hello(void **state)
{
    union wire_frame f = good(WIRE_HELLO);

    (void)state;
    assert_int_equal(HELLO_WITH(state, WIRE_STATE_MAX), BAD);
    assert_int_equal(HELLO_WITH(state, WIRE_RUNNING), BAD); /* without a process */
    assert_int_equal(HELLO_WITH(main_pid, 7), BAD);
    assert_int_equal(HELLO_WITH(initialized, 2), BAD);
    assert_int_equal(HELLO_WITH(groups_n, WIRE_GROUPS_MAX), 0);
    assert_int_equal(HELLO_WITH(groups_n, WIRE_GROUPS_MAX + 1), BAD);
    assert_int_equal(HELLO_WITH(uid, UINT32_MAX), BAD);
    assert_int_equal(HELLO_WITH(gid, UINT32_MAX - 1), 0);
    assert_int_equal(HELLO_WITH(end.status, 0x10000), BAD);
    assert_int_equal(HELLO_WITH(end.oom_kills, 1), BAD);
    assert_int_equal(HELLO_WITH(home[0], 'r'), BAD);
    assert_int_equal(HELLO_WITH(user[1], 'r'), BAD); /* behind the end */
    memset(f.hello.user, 'u', sizeof(f.hello.user));
    assert_int_equal(check(&f), BAD);
    f.hello.user[WIRE_USER_SIZE - 1] = '\0';
    assert_int_equal(check(&f), 0);
    f.hello.user[3] = '\033';
    assert_int_equal(check(&f), BAD);
    f = good(WIRE_HELLO);
    f.hello.state = WIRE_TERMINATING;
    f.hello.main_pid = 7;
    assert_int_equal(check(&f), 0);
}

static void test_rest(void **state)
{
    union wire_frame f = good(WIRE_STARTED);

    (void)state;
    f.started.pid = 0;
    assert_int_equal(check(&f), BAD);
    f = good(WIRE_EXITED);
    f.exited.end.status = -1;
    assert_int_equal(check(&f), BAD);
    f = good(WIRE_EXITED);
    f.exited.end.exec_errno = 4096;
    assert_int_equal(check(&f), BAD);
    f = good(WIRE_STOPPING);
    f.stopping.within_ms = 60001;
    assert_int_equal(check(&f), BAD);
    f = good(WIRE_REFUSED);
    f.refused.reason = WIRE_REASON_MAX;
    assert_int_equal(check(&f), BAD);
    f = good(WIRE_ZOMBIES);
    f.zombies.of_parent = 1;
    assert_int_equal(check(&f), BAD);
    f.zombies.count = 1;
    memset(f.zombies.name, 'n', sizeof(f.zombies.name));
    assert_int_equal(check(&f), BAD);
    f.zombies.name[WIRE_NAME_SIZE - 1] = '\0';
    assert_int_equal(check(&f), 0);
}

static void test_over_a_socket(void **state)
{
    union wire_frame f = good(WIRE_QUERY), got;
    char large[sizeof(f) + 1] = {WIRE_VERSION, WIRE_READY};
    int pair[2], sent = 0;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    assert_int_equal(wire_recv(pair[1], WIRE_TO_INIT, &got), 1);
    assert_int_equal(wire_send(pair[0], &f), 0);
    assert_int_equal(wire_recv(pair[1], WIRE_TO_INIT, &got), 0);
    assert_int_equal(got.head.type, WIRE_QUERY);
    assert_int_equal(send(pair[0], large, sizeof(large), 0), sizeof(large));
    assert_int_equal(wire_recv(pair[1], WIRE_TO_INIT, &got), BAD);
    /* A peer that does not read: bounded, and told. */
    while (wire_send(pair[0], &f) == 0)
        assert_true(++sent < 100000);
    assert_int_equal(wire_send(pair[0], &f), 1);
    (void)close(pair[0]);
    for (; sent > 0; sent--)
        assert_int_equal(wire_recv(pair[1], WIRE_TO_INIT, &got), 0);
    assert_int_equal(wire_recv(pair[1], WIRE_TO_INIT, &got), 2);
    assert_int_equal(wire_send(pair[1], &f), -(int)ERR_UNAVAILABLE);
    (void)close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_type_in_its_direction),
        cmocka_unit_test(test_default_command),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_hello),
        cmocka_unit_test(test_rest),
        cmocka_unit_test(test_over_a_socket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
