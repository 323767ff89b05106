/* SPDX-License-Identifier: Apache-2.0 */
/* table — the life of a sandbox as PID 1 sees it: for each state and event the next state and what is done on the way. A table and nothing else, so
 * that it can be read, and tried without a process.
 * Thread: any. */
#ifndef DAVIT_INIT_TABLE_H
#define DAVIT_INIT_TABLE_H

enum init_state {
    ST_WAIT,       /* no main program yet: the session half has not said that it may start */
    ST_RUN,        /* it runs */
    ST_ASKED,      /* somebody sent INT to end it; TERM follows at half of the grace */
    ST_TERM,       /* TERM was sent; KILL follows at the end of the grace */
    ST_KILL,       /* KILL was sent */
    ST_CLOSE,      /* it is gone; the session half closes its listener and exits */
    ST_CLOSE_KILL, /* that one was killed */
    ST_DRAIN,      /* every process left was sent TERM */
    ST_DRAIN_KILL, /* and KILL */
    ST_END,
    ST_MAX
};

enum init_event {
    EV_READY,        /* the session half wants the main program started */
    EV_SPAWN_FAILED, /* it could not even be forked */
    EV_STOP,         /* SIGTERM, or a stop frame */
    EV_INT,          /* SIGINT */
    EV_SIGNAL,       /* another signal that is passed on */
    EV_MAIN_GONE,
    EV_SESSION_GONE,
    EV_SESSION_CONFIG, /* gone, and it said that its configuration is wrong */
    EV_DEADLINE,       /* the state's time is over */
    EV_ALONE,          /* init has no child left */
    EV_MAX
};

enum init_action {
    ACT_NONE,
    ACT_SPAWN,      /* fork the main program */
    ACT_REFUSE,     /* tell the session half no */
    ACT_FORWARD,    /* the signal to the main program's group */
    ACT_ASK,        /* INT to the group, half of the grace begins */
    ACT_TERM,       /* TERM to the group, the (other half of the) grace begins */
    ACT_KILL,       /* KILL to the group */
    ACT_CLOSE,      /* tell the session half to close */
    ACT_CLOSE_KILL, /* kill the session half */
    ACT_DRAIN,      /* TERM to all that is left */
    ACT_DRAIN_KILL, /* KILL to all that is left */
    ACT_RESTART,    /* another session half, with back-off */
    ACT_CONFIG,     /* ACT_DRAIN, and the exit status is that of a wrong configuration */
    ACT_MAX
};

struct init_move {
    unsigned char next;   /* enum init_state */
    unsigned char action; /* enum init_action */
};

/* What follows. Every pair has an answer; one that cannot happen is ignored (the state stays, ACT_NONE). */
struct init_move table_move(enum init_state state, enum init_event event);

#endif
