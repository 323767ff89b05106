/* SPDX-License-Identifier: Apache-2.0 */
/* worldview_internal — what the files of worldview share. */
#ifndef DAVIT_CONTROL_WORLDVIEW_INTERNAL_H
#define DAVIT_CONTROL_WORLDVIEW_INTERNAL_H

#include "base/hmap.h"
#include "control/watch/worldview.h"

enum { WORLD_ERROR_SIZE = 256 };

/* A sandbox as it was reported last, and what its reports so far came to. Times are real. */
struct world_sandbox {
    Davit__Common__V1__Sandbox *m; /* owned */
    const char *session, *exec;    /* static: the words of StateSandbox */
    uint32_t attempts;             /* to make its session, since its last start */
    bool in_step;                  /* m->step runs */
    char last_error[WORLD_ERROR_SIZE];
    usec_t updated, connected, exec_started, step_started, exec_completed;
};

struct worldview {
    struct hmap *sandboxes; /* id -> struct world_sandbox, owned */
    struct deployment_feed *feed;
};

/* The sandbox @id, which is kept, is gone: told, and forgotten. */
void worldview_sandbox_gone(struct control *c, const char *id);
struct world_sandbox *world_sandbox_free(struct world_sandbox *k);

/* --- worldview_deployments.c: reads what deployments came to behind the store, one fiber for as long as there is something --- */
struct deployment_feed *deployment_feed_new(struct control *c) MUST_USE;
/* Its fiber has ended. Accepts NULL. Returns NULL. */
struct deployment_feed *deployment_feed_free(struct deployment_feed *f);
void deployment_feed_stopping(struct deployment_feed *f);
/* @id NULL: any of them. */
void deployment_feed_news(struct deployment_feed *f, const char *id);

#endif
