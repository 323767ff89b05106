/* SPDX-License-Identifier: Apache-2.0 */
/* wire — what the two halves of a sandbox's supervisor say to each other: davit-init (PID 1, never reads a network) and davit-session (its child,
 * the listener).
 *
 * Transport: a SOCK_SEQPACKET socket pair; the session half finds its end at descriptor WIRE_FD. One packet is one frame; each type of frame has
 * one size (wire_size), numbers are those of this machine, what is unused is zero. No descriptors travel: one that is sent makes a frame invalid.
 * Start: no arguments; uid 0 with the container's capabilities and its whole environment (which the half keeps from others by PR_SET_DUMPABLE);
 * standard input is empty, standard output and error are the container's log; signals as at first; no descriptor but those and WIRE_FD.
 * Order: init sends WIRE_HELLO first, whenever it starts a session half; it carries everything, so that a half that was started anew knows what its
 * predecessor knew. The rest follows as it happens. A half that does not read loses answers to WIRE_QUERY, and nothing else.
 * Trust: init takes a compromised session half for granted. It may have the main program started once, with a default command in front; signal the
 * main program's group; ask what is; stop the sandbox, which the host can too. One invalid frame, and init kills it and starts another with back-off.
 * End: on WIRE_STOPPING the session half closes its listener at once, tells its peer what it must and exits, any status; init kills it after
 * `within_ms`. Before WIRE_READY was sent its exit status WIRE_EXIT_CONFIG says that trying again is useless: the sandbox ends with that status.
 * The session half leads a session (setsid) that init made. It must leave its pipelines in it (process groups of their own are fine): when the half
 * dies, init kills everything in there, and nothing else.
 * Thread: any.  Input trust: peer. */
#ifndef DAVIT_INIT_WIRE_H
#define DAVIT_INIT_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

enum {
    WIRE_FD = 3,
    WIRE_VERSION = 1,
    WIRE_EXIT_CONFIG = 2,
    WIRE_TEXT_MAX = 1024, /* bytes of a default command with its NULs */
    WIRE_WORDS_MAX = 16,
    WIRE_GROUPS_MAX = 64,
    WIRE_USER_SIZE = 64,
    WIRE_HOME_SIZE = 256,
    WIRE_NAME_SIZE = 16,
};

enum wire_type {
    /* session half -> init */
    WIRE_READY = 1,   /* AgentReady: start the main program (struct wire_ready) */
    WIRE_INITIALIZED, /* the steps of the first start are done for good (struct wire_plain) */
    WIRE_SIGNAL,      /* a signal for the main program's group (struct wire_signal) */
    WIRE_STOP,        /* as SIGTERM to init (struct wire_stop) */
    WIRE_QUERY,       /* wants WIRE_HELLO and WIRE_ZOMBIES (struct wire_plain) */
    /* init -> session half */
    WIRE_HELLO = 33, /* how things stand (struct wire_hello) */
    WIRE_STARTED,    /* the main program was forked (struct wire_started) */
    WIRE_EXITED,     /* it ended, or could not be started (struct wire_exited) */
    WIRE_STOPPING,   /* close the listener and exit (struct wire_stopping) */
    WIRE_REFUSED,    /* a frame that init does not act on (struct wire_refused) */
    WIRE_ZOMBIES,    /* who does not reap its children (struct wire_zombies) */
};

/* Which of the two directions a frame goes. */
enum wire_way { WIRE_TO_INIT, WIRE_TO_SESSION };

enum wire_state { WIRE_WAITING, WIRE_RUNNING, WIRE_TERMINATING, WIRE_ENDED, WIRE_STATE_MAX };

struct wire_head {
    uint8_t version; /* WIRE_VERSION */
    uint8_t type;    /* enum wire_type */
    uint16_t size;   /* of the whole frame */
    uint32_t zero;
};

struct wire_plain {
    struct wire_head head;
};

/* @text: @words words, each ended by NUL, @bytes in all. The command in front of the sandbox's own when that begins with '-', is no program on PATH,
 * or is empty. No words: there is no default. */
struct wire_ready {
    struct wire_head head;
    uint32_t words;
    uint32_t bytes;
    char text[WIRE_TEXT_MAX];
};

/* wire_signal_ok() says which. */
struct wire_signal {
    struct wire_head head;
    int32_t signo;
    uint32_t zero;
};

/* @code: exit status of the sandbox when the main program was never started; 0: the usual one. 0..255. */
struct wire_stop {
    struct wire_head head;
    uint32_t code;
    uint32_t zero;
};

/* How the main program ended. */
struct wire_end {
    int32_t status;     /* as waitpid gives it */
    int32_t exec_errno; /* why it was not executed; 0: it was */
    uint32_t oom_known; /* 1: the kernel's count could be read before and after */
    uint32_t oom_kills; /* processes of the sandbox that it killed for memory meanwhile */
};

struct wire_hello {
    struct wire_head head;
    uint32_t state;       /* enum wire_state */
    int32_t main_pid;     /* 0 unless running or terminating */
    uint32_t initialized; /* 1: WIRE_INITIALIZED was said, in this life of the container or an earlier one */
    uint32_t grace_ms;    /* between TERM and KILL */
    struct wire_end end;  /* once ended */
    uint32_t uid, gid;    /* whom the main program and, unless told otherwise, pipelines run as */
    uint32_t groups_n;
    uint32_t groups[WIRE_GROUPS_MAX];
    char user[WIRE_USER_SIZE]; /* "" if the uid has no name */
    char home[WIRE_HOME_SIZE];
};

struct wire_started {
    struct wire_head head;
    int32_t pid;
    uint32_t zero;
};

struct wire_exited {
    struct wire_head head;
    struct wire_end end;
};

struct wire_stopping {
    struct wire_head head;
    uint32_t within_ms;
    uint32_t zero;
};

enum wire_reason { WIRE_ALREADY = 1, WIRE_NOT_RUNNING, WIRE_ENDING, WIRE_REASON_MAX };

struct wire_refused {
    struct wire_head head;
    uint32_t type;   /* of the frame that was refused */
    uint32_t reason; /* enum wire_reason */
};

/* Dead processes whose living parent does not wait for them, and the parent that has most. */
struct wire_zombies {
    struct wire_head head;
    uint32_t count;
    int32_t parent; /* 0: there is none */
    uint32_t of_parent;
    uint32_t zero;
    char name[WIRE_NAME_SIZE]; /* what the parent calls itself; unprintable bytes are '?' */
};

union wire_frame {
    struct wire_head head;
    struct wire_plain plain;
    struct wire_ready ready;
    struct wire_signal signal;
    struct wire_stop stop;
    struct wire_hello hello;
    struct wire_started started;
    struct wire_exited exited;
    struct wire_stopping stopping;
    struct wire_refused refused;
    struct wire_zombies zombies;
};

/* The size of frames of @type; 0: there is no such type. */
size_t wire_size(unsigned int type);

/* May the session half send this signal to the main program's group? Those that end, inform or stop a program; not those that tell of its bugs
 * (SEGV), nor what belongs to the kernel's own bookkeeping (CHLD). */
int wire_signal_ok(int signo);

/* Clears @f and fills its head. */
void wire_begin(union wire_frame *f, enum wire_type type);

/* Checks @n bytes of a peer and copies them to @ret: length, version, direction, every range, every string. 0, or -ERR_INVALID (@ret is
 * unspecified). */
int wire_parse(enum wire_way way, const void *bytes, size_t n, union wire_frame *ret) MUST_USE;

/* Sends @f, never waits. 0; 1: the peer does not read, nothing was sent; -ERR_UNAVAILABLE: it is gone. */
int wire_send(int fd, const union wire_frame *f) MUST_USE;

/* Takes the next frame, never waits. 0; 1: there is none now; 2: the peer closed its end; -ERR_INVALID. */
int wire_recv(int fd, enum wire_way way, union wire_frame *ret) MUST_USE;

#endif
