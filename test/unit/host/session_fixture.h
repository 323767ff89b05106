/* SPDX-License-Identifier: Apache-2.0 */
/* session_fixture — a control plane made with src/rpc on a unix socket, and a work that does as it is told, for test_session.c. */
#ifndef DAVIT_TEST_UNIT_HOST_SESSION_FIXTURE_H
#define DAVIT_TEST_UNIT_HOST_SESSION_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "davit/link/v1/link.davit.h"
#include "host/link/session.h"
#include "rpc/rpc.h"

enum { HEARD_MAX = 4096 };
#define SERVER_ID "11111111-2222-3333-4444-555555555555"
#define PATIENCE (20 * USEC_SEC)

/* The work that host/link sees. */
struct work {
    struct event go;      /* commands end when it is set */
    unsigned started, fulls, resets;
    int resume_step;
    char auth[64];
    char order[64]; /* ids in the order in which they came */
    uint64_t cancelled_seq;
    char cancelled[64];
    bool cancel_known; /* when the last command came */
};

struct ctx {
    struct loop *loop;
    char dir[64];
    char *addr;
    struct journal *journal;
    struct sysinfo *sysinfo;
    struct session *session;
    struct work work;
    struct rpc_server *server;
    /* The control plane: */
    struct rpc_call *call;
    unsigned opened, alive, hellos;
    uint64_t epoch, last_seq;
    bool ack_beats, ack_results;
    bool deaf_once; /* the next connection answers again */
    uint32_t interval_ms;
    Davit__Link__V1__AgentMessage *heard[HEARD_MAX];
    size_t n;
    char fenced[128];
    unsigned identified;
    void (*body)(struct ctx *x);
};

/* Frame: a test is a body on a fiber by the real clock (run), or advances a fake one and ends with run. */
int setup(void **state);
int teardown(void **state);
void run(struct ctx *x, void (*body)(struct ctx *x));
void make_session(struct ctx *x);
/* As the agent does it: commands that run are suspended. */
void end_session(struct ctx *x);

/* What the control plane does. @password NULL: without credentials. */
void tell(struct ctx *x, const Davit__Link__V1__ControlMessage *m);
void cut(struct ctx *x);
void command(struct ctx *x, uint64_t seq, const char *id, const char *password);
/* Messages of this kind that were heard so far; the last of them to @last. */
unsigned count(const struct ctx *x, int body_case, const Davit__Link__V1__AgentMessage **last);

#define HEARD(x, kind) count((x), DAVIT__LINK__V1__AGENT_MESSAGE__BODY_##kind, NULL)
#define LAST(x, kind, last) count((x), DAVIT__LINK__V1__AGENT_MESSAGE__BODY_##kind, (last))

/* On the test's fiber, by the real clock. */
#define WAIT(cond)                                                     \
    do {                                                               \
        usec_t until_ = deadline_in(PATIENCE);                         \
        while (!(cond)) {                                              \
            if (clock_mono() > until_)                                 \
                fail_msg("not in time: %s", #cond);                    \
            assert_int_equal(fiber_sleep(5 * USEC_MSEC), 0);           \
        }                                                              \
    } while (0)

#endif
