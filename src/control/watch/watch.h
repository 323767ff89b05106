/* SPDX-License-Identifier: Apache-2.0 */
/* watch — WatchService: one stream per viewer, whose topics come and go. A stream has no stack: changes.h calls it when something changed, it asks
 * each topic what is new since it was told last, and stops where the peer takes no more. So what comes faster than it is taken is merged: the
 * state that is told is always the one of that moment, and the last one always arrives. What waits for the store or for an agent (a deployment's
 * steps, lists of deployments, logs) has a fiber for as long as the topic lives.
 * Topics take turns of TOPIC_SHARE messages; a log sends only while less than WATCH_LOG_ROOM waits, so that it starves nobody.
 * Limits: below. Who takes nothing of what waits for WATCH_STALL is cut; so is who asks faster than WATCH_ASK_EVERY after WATCH_ASK_BURST.
 * Thread: loop.  Input trust: requests from callers of scope read. */
#ifndef DAVIT_CONTROL_WATCH_H
#define DAVIT_CONTROL_WATCH_H

#include "control/servers/servers.h"
#include "davit/control/v1/watch.pb-c.h"

enum {
    WATCH_STREAMS_MAX = 1024,       /* of a control plane */
    WATCH_STREAMS_SOURCE_MAX = 128, /* of one address */
    WATCH_TOPICS_MAX = 32,          /* of one stream */
    WATCH_LOGS_MAX = 4,             /* of which logs */
    WATCH_REFUSED_MAX = 32,         /* failures that wait to be told */
    WATCH_REQUEST_MAX = 64 * 1024,
    WATCH_ANSWER_MAX = 2 * 1024 * 1024, /* one message; a topic that has a larger one fails */
    WATCH_LOG_ROOM = 128 * 1024,
    WATCH_ASK_BURST = 128
};
#define WATCH_ASK_EVERY (USEC_SEC / 16)
#define WATCH_STALL     (30 * USEC_SEC)

struct topic;
struct follower;

/* What a turn of a topic came to. */
enum { TOPIC_TOLD, TOPIC_MORE /* it took its share */, TOPIC_BLOCKED /* the peer takes no more now */, TOPIC_ENDED };

/* The kinds of topics, see watch_topics.c and watch_follow.c. */
struct topic_type {
    /* Takes what it needs of the request. */
    int (*begin)(struct topic *t, const Davit__Control__V1__WatchRequest *r, struct err *err);
    /* Tells what is new. Negative: the topic fails. NULL: a fiber tells. */
    int (*turn)(struct topic *t, struct err *err);
    /* Lets go of what it holds. May be NULL. */
    void (*end)(struct topic *t);
    bool samples; /* wants a turn every second, whatever changed */
};

struct watch {
    struct change_watcher watcher;
    struct list peers; /* in control.streams */
    struct control *control;
    struct rpc_call *call; /* NULL once it is closed */
    struct list topics;
    unsigned n_topics, n_refused, n_logs, n_sampling;
    bool blocked;        /* the stream takes no more now */
    bool waits;          /* something waits for the peer: it must take some of it within WATCH_STALL */
    struct timer beat;   /* while something waits or is sampled */
    uint64_t pushed;     /* bytes queued so far */
    uint64_t taken;      /* of which the peer had taken so many at the last beat */
    usec_t progress;     /* monotonic: when the peer took something last */
    usec_t asked;        /* bucket */
    char source[ADDRESS_SIZE];
};

struct topic {
    struct list node;
    struct watch *watch;
    const struct topic_type *type; /* NULL: only its failure is to be told */
    struct err *failure;           /* owned; to be told as soon as there is room; then the topic goes */
    uint32_t id;
    bool ready; /* has been told */
    bool done;  /* its fiber came to the end of it */
    bool foreign; /* containers of others too */
    uint64_t told, gone, told_containers; /* numbers of the last changes that were told */
    struct server *server;         /* a reference: the one that it is about; NULL: all */
    char project[64], service[64]; /* "": all */
    usec_t asked;                  /* monotonic: when agents were asked for samples last */
    struct follower *follower;     /* its fiber, or NULL */
};

/* Sends @m for @t. 0; TOPIC_BLOCKED: no room, or over; -ERR_EXHAUSTED: larger than WATCH_ANSWER_MAX, or than a message may be as JSON. */
int topic_tell(struct topic *t, Davit__Control__V1__WatchResponse *m, struct err *err) MUST_USE;
/* Tells `ready` unless it was. TOPIC_TOLD or TOPIC_BLOCKED. */
int topic_ready(struct topic *t, struct err *err) MUST_USE;
/* Has @w look for room again, for a fiber that waits; has it take its turn soon. */
void watch_wait(struct watch *w);
void watch_again(struct watch *w);
/* The topic goes, without a word. */
void topic_free(struct topic *t);
/* The topic is over: @why is told, and it goes. */
void topic_fail(struct topic *t, const struct err *why);
/* Finds the server of a filter, "" for all, into @t. */
int topic_server(struct topic *t, const char *server, struct err *err) MUST_USE;
/* Project and service of a filter into @t. -ERR_INVALID: longer than any name. */
int topic_filter(struct topic *t, const char *project, const char *service, struct err *err) MUST_USE;
/* The type for a request, or NULL. */
const struct topic_type *topic_type_of(const Davit__Control__V1__WatchRequest *r);

/* --- watch_follow.c: topics with a fiber --- */
extern const struct topic_type topic_deployments, topic_deployment, topic_logs;

#endif
