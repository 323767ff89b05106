/* SPDX-License-Identifier: Apache-2.0 */
/* links — the streams of agents: handshake, fencing, heartbeats, reports, commands, log streams.
 * A link is a state machine without a stack. What needs the store (identity of the local agent, command reports) goes through a queue per
 * link that one fiber works off while there is something in it; everything else is done in the callback.
 * Limits: LINK_QUEUE_MAX reports in the queue: of progress only the newest per command is kept when it fills; above it the link is cut
 * and the agent sends the rest again. A Hello within LINK_HELLO_WAIT. LINK_LOGS_MAX log streams.
 * Thread: loop.  Input trust: peer; the identity comes from the certificate or the unix credential, never from a message. */
#ifndef DAVIT_CONTROL_LINKS_H
#define DAVIT_CONTROL_LINKS_H

#include "control/servers/servers.h"

enum { LINK_PROTOCOL = 1, LINK_QUEUE_MAX = 512, LINK_LOGS_MAX = 64 };
#define LINK_HELLO_WAIT (10 * USEC_SEC)

/* One log stream that somebody reads; embedded in the reader. Callbacks run on the loop; after log_stream_close none runs. */
struct log_stream {
    struct list node;
    struct link *link; /* NULL when it is not open */
    uint64_t id;
    void (*on_batch)(struct log_stream *ls, const Davit__Link__V1__LogBatch *m);
    /* @failure NULL: all that was asked for has been sent. The stream is closed. */
    void (*on_end)(struct log_stream *ls, const Davit__Common__V1__Failure *failure);
    /* The link is gone, and the stream with it. */
    void (*on_lost)(struct log_stream *ls);
};

/* What of one output was read before: up to this stamp, and so many entries of those that have it. */
struct log_cursor {
    uint64_t at_ns;
    uint32_t entries;
};

/* What to read. */
struct log_query {
    const char *container_id;
    const struct log_cursor *from; /* of stdout and stderr; NULL: by since_ns and tail */
    uint64_t since_ns;
    int64_t tail;
    bool follow;
    uint32_t credit;
};

/* Opens @ls (callbacks set) on the live link of @s. -ERR_UNAVAILABLE: not connected; -ERR_EXHAUSTED: LINK_LOGS_MAX. */
int log_stream_open(struct server *s, struct log_stream *ls, const struct log_query *q, struct err *err) MUST_USE;
/* Lets the agent send @bytes more. */
void log_stream_credit(struct log_stream *ls, uint32_t bytes);
/* Ends it; harmless on a closed one. */
void log_stream_close(struct log_stream *ls);

/* Another agent may have the identity of @s: the next word of the one that is connected shows that both live. Harmless without one. */
void links_doubt(struct server *s);
/* Somebody looks at what @s uses: asks its agent for samples, which come within seconds, and for more in the next minute. */
void links_watch_usage(struct server *s);
/* Are those of the beginning still to come? */
bool links_usage_due(const struct server *s);
/* Queues one message. -ERR_EXHAUSTED (wait for the drain), -ERR_UNAVAILABLE. @l may be NULL: unavailable. */
int links_send(struct link *l, const Davit__Link__V1__ControlMessage *m) MUST_USE;
/* Sends what @s has not been sent yet, if it is connected. */
void links_pump(struct server *s);
/* Is its agent connected, and does it know calls (CallOpen), CancelCommand and ScaleService? */
bool links_take_calls(const struct server *s);
/* Is its agent connected, and does it run sandboxes? */
bool links_take_sandboxes(const struct server *s);
/* ... and does it answer how many run? */
bool links_count_sandboxes(const struct server *s);
/* Was command @seq sent on the live link of @s? */
bool links_has_sent(const struct server *s, uint64_t seq);
/* From command @seq on all is sent once more, as after a reconnect. */
void links_send_again(struct server *s, uint64_t seq);
/* Ends the live link of @s. */
void links_cut(struct server *s, const char *reason);
/* How many links are live. */
unsigned links_live(const struct control *c);

#endif
