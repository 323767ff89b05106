/* SPDX-License-Identifier: Apache-2.0 */
/* session_cancel — what was cancelled before its command was taken from the journal, see session_command.c. */
#include "base/mem.h"
#include "host/link/session_internal.h"

struct cancel {
    struct list node;
    uint64_t seq;
    char id[JOURNAL_ID_SIZE];
};

bool cancel_take(struct session *s, const Davit__Link__V1__Command *cmd)
{
    struct cancel *c;
    list_each (c, &s->cancels, struct cancel, node) {
        if (c->seq != cmd->seq || !str_eq(str_from(c->id), str_from(cmd->id)))
            continue;
        list_remove(&c->node);
        s->n_cancels--;
        free(c);
        return true;
    }
    return false;
}

void cancels_drop(struct session *s)
{
    while (!list_empty(&s->cancels)) {
        struct cancel *c = list_entry(s->cancels.next, struct cancel, node);
        list_remove(&c->node);
        free(c);
    }
    s->n_cancels = 0;
}

void cancel_keep(struct session *s, const Davit__Link__V1__CancelCommand *m)
{
    if (s->n_cancels >= SESSION_RUNS_MAX || m->seq > s->resume_last)
        return; /* it is sent again with the next connection */
    struct cancel *c = NEW(struct cancel);
    c->seq = m->seq;
    (void)str_copy(c->id, sizeof(c->id), str_from(m->id));
    list_init(&c->node);
    list_push(&s->cancels, &c->node);
    s->n_cancels++;
}
