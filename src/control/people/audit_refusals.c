/* SPDX-License-Identifier: Apache-2.0 */
/* audit_refusals — see audit_refusals.h. */
#include "control/people/audit_refusals.h"

#include <stdio.h>

#include "base/hmap.h"
#include "base/mem.h"

struct kind {
    struct audit_record record;
    usec_t until;  /* end of the window */
    uint64_t more; /* in it, not told yet */
};

struct refusals {
    void (*emit)(void *ctx, const struct audit_record *r);
    void *ctx;
    struct hmap *kinds; /* -> struct kind, owned */
    usec_t minute;      /* when `told` began to count */
    unsigned told;
    uint64_t rest; /* of no kind */
    usec_t rest_due;
};

struct refusals *refusals_new(void (*emit)(void *ctx, const struct audit_record *r), void *ctx)
{
    struct refusals *r = NEW(struct refusals);
    r->emit = emit;
    r->ctx = ctx;
    r->kinds = hmap_new(REFUSALS_KINDS_MAX);
    return r;
}

struct refusals *refusals_free(struct refusals *r)
{
    if (!r)
        return NULL;
    for (struct hmap_entry *e = hmap_first(r->kinds); e; e = hmap_next(e))
        free(hmap_value(e));
    (void)hmap_free(r->kinds);
    free(r);
    return NULL;
}

/* Is one more entry in this minute allowed? */
static bool take(struct refusals *r, usec_t now)
{
    if (!r->minute || now - r->minute >= REFUSALS_WINDOW) {
        r->minute = now;
        r->told = 0;
    }
    if (r->told >= REFUSALS_PER_MINUTE)
        return false;
    r->told++;
    return true;
}

static void count_rest(struct refusals *r, uint64_t n, usec_t now)
{
    if (!r->rest)
        r->rest_due = now + REFUSALS_WINDOW;
    r->rest += n;
}

void refusals_add(struct refusals *r, const struct audit_record *record, usec_t now)
{
    char key[sizeof(record->actor) + sizeof(record->serial) + sizeof(record->action) + sizeof(record->code) + 8];
    int n = snprintf(key, sizeof(key), "%s\n%s\n%s\n%s", record->actor, record->serial, record->action, record->code);
    struct str name = {key, (size_t)n};
    struct kind *k = hmap_get(r->kinds, name);
    if (k && now < k->until) {
        k->more++;
        return;
    }
    if (k) { /* its window is over, and no tick came yet */
        refusals_tick(r, now, false);
        k = hmap_get(r->kinds, name);
        if (k) {
            k->more++;
            return;
        }
    }
    k = NEW(struct kind);
    *k = (struct kind){.record = *record, .until = now + REFUSALS_WINDOW};
    if (hmap_put(r->kinds, name, k, NULL) != 0) {
        free(k);
        count_rest(r, 1, now);
    } else if (take(r, now)) {
        r->emit(r->ctx, record);
    } else {
        k->more = 1;
    }
}

static void tell_rest(struct refusals *r)
{
    struct audit_record record = {.count = r->rest};
    audit_who(&record, "others", NULL);
    audit_what(&record, "refusals", "-");
    audit_how(&record, AUDIT_REFUSED, NULL);
    (void)snprintf(record.reason, sizeof(record.reason), "more than the log tells apart");
    r->rest = 0;
    r->emit(r->ctx, &record);
}

void refusals_tick(struct refusals *r, usec_t now, bool all)
{
    for (struct hmap_entry *e = hmap_first(r->kinds), *next; e; e = next) {
        next = hmap_next(e);
        struct kind *k = hmap_value(e);
        if (!all && now < k->until)
            continue;
        if (k->more && take(r, now)) {
            k->record.count = k->more;
            r->emit(r->ctx, &k->record);
            k->more = 0;
            k->until = now + REFUSALS_WINDOW;
        } else if (k->more) {
            count_rest(r, k->more, now);
            k->more = 0;
            k->until = now + REFUSALS_WINDOW;
        } else {
            (void)hmap_remove(r->kinds, hmap_key(e));
            free(k);
        }
    }
    if (r->rest && (all || now >= r->rest_due))
        tell_rest(r);
}

bool refusals_pending(const struct refusals *r)
{
    return hmap_count(r->kinds) || r->rest;
}
