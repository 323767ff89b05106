/* SPDX-License-Identifier: Apache-2.0 */
/* table — see table.h. */
#include "init/table.h"

/* Next states are written one higher than they are, so that an entry that is not written (0) means: stay. */
#define GO(next, action)                                                                                                         \
    {                                                                                                                            \
        (next) + 1, (action)                                                                                                     \
    }

static const struct init_move moves[ST_MAX][EV_MAX] =
    {
        [ST_WAIT] =
            {
                [EV_READY] = GO(ST_RUN, ACT_SPAWN),
                [EV_STOP] = GO(ST_CLOSE, ACT_CLOSE),
                [EV_INT] = GO(ST_CLOSE, ACT_CLOSE),
                [EV_SESSION_GONE] = GO(ST_WAIT, ACT_RESTART),
                [EV_SESSION_CONFIG] = GO(ST_DRAIN, ACT_CONFIG),
            },
        [ST_RUN] =
            {
                [EV_READY] = GO(ST_RUN, ACT_REFUSE),
                [EV_SPAWN_FAILED] = GO(ST_CLOSE, ACT_CLOSE),
                [EV_STOP] = GO(ST_TERM, ACT_TERM),
                [EV_INT] = GO(ST_ASKED, ACT_ASK),
                [EV_SIGNAL] = GO(ST_RUN, ACT_FORWARD),
                [EV_MAIN_GONE] = GO(ST_CLOSE, ACT_CLOSE),
                [EV_SESSION_GONE] = GO(ST_RUN, ACT_RESTART),
                [EV_SESSION_CONFIG] = GO(ST_RUN, ACT_RESTART),
            },
        [ST_ASKED] =
            {
                [EV_READY] = GO(ST_ASKED, ACT_REFUSE),
                [EV_STOP] = GO(ST_TERM, ACT_TERM),
                [EV_INT] = GO(ST_ASKED, ACT_FORWARD),
                [EV_SIGNAL] = GO(ST_ASKED, ACT_FORWARD),
                [EV_MAIN_GONE] = GO(ST_CLOSE, ACT_CLOSE),
                [EV_SESSION_GONE] = GO(ST_ASKED, ACT_RESTART),
                [EV_SESSION_CONFIG] = GO(ST_ASKED, ACT_RESTART),
                [EV_DEADLINE] = GO(ST_TERM, ACT_TERM),
            },
        [ST_TERM] =
            {
                [EV_READY] = GO(ST_TERM, ACT_REFUSE),
                [EV_STOP] = GO(ST_TERM, ACT_FORWARD),
                [EV_INT] = GO(ST_TERM, ACT_FORWARD),
                [EV_SIGNAL] = GO(ST_TERM, ACT_FORWARD),
                [EV_MAIN_GONE] = GO(ST_CLOSE, ACT_CLOSE),
                [EV_SESSION_GONE] = GO(ST_TERM, ACT_RESTART),
                [EV_SESSION_CONFIG] = GO(ST_TERM, ACT_RESTART),
                [EV_DEADLINE] = GO(ST_KILL, ACT_KILL),
            },
        [ST_KILL] =
            {
                [EV_READY] = GO(ST_KILL, ACT_REFUSE),
                [EV_MAIN_GONE] = GO(ST_CLOSE, ACT_CLOSE),
                [EV_SESSION_GONE] = GO(ST_KILL, ACT_RESTART),
                [EV_SESSION_CONFIG] = GO(ST_KILL, ACT_RESTART),
                /* It hangs in the kernel; the rest goes on without it. */
                [EV_DEADLINE] = GO(ST_CLOSE, ACT_CLOSE),
            },
        [ST_CLOSE] =
            {
                [EV_READY] = GO(ST_CLOSE, ACT_REFUSE),
                [EV_SESSION_GONE] = GO(ST_DRAIN, ACT_DRAIN),
                [EV_SESSION_CONFIG] = GO(ST_DRAIN, ACT_DRAIN),
                [EV_DEADLINE] = GO(ST_CLOSE_KILL, ACT_CLOSE_KILL),
            },
        [ST_CLOSE_KILL] =
            {
                [EV_SESSION_GONE] = GO(ST_DRAIN, ACT_DRAIN),
                [EV_SESSION_CONFIG] = GO(ST_DRAIN, ACT_DRAIN),
                [EV_DEADLINE] = GO(ST_DRAIN, ACT_DRAIN),
            },
        [ST_DRAIN] =
            {
                [EV_ALONE] = GO(ST_END, ACT_NONE),
                [EV_DEADLINE] = GO(ST_DRAIN_KILL, ACT_DRAIN_KILL),
            },
        [ST_DRAIN_KILL] =
            {
                [EV_ALONE] = GO(ST_END, ACT_NONE),
                [EV_DEADLINE] = GO(ST_END, ACT_NONE),
            },
};

struct init_move table_move(enum init_state state, enum init_event event)
{
    struct init_move m = {ST_END, ACT_NONE};

    if ((unsigned int)state >= ST_MAX || (unsigned int)event >= EV_MAX)
        return m;
    m = moves[state][event];
    m.next = m.next == 0 ? (unsigned char)state : (unsigned char)(m.next - 1);
    return m;
}
