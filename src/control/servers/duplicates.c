/* SPDX-License-Identifier: Apache-2.0 */
/* duplicates — see duplicates.h. */
#include "control/servers/duplicates.h"

#include "control/servers/credentials.h"

static void put(char *dst, size_t size, const char *text)
{
    if (str_copy(dst, size, str_from(text)) < 0)
        dst[0] = '\0'; /* longer than any real one */
}

static void tell(struct server *s)
{
    struct audit_record r = {.count = 1};
    struct err why = ERR_INIT;
    const struct duplicate *d = &s->duplicate;
    char uri[64];
    (void)snprintf(uri, sizeof(uri), "davit://server/%s", s->id);
    (void)err_set(&why, ERR_ABORTED, "two agents use the identity of this server: one at %s, and one at %s, which is turned away",
                  *s->seen ? s->seen : "-", *d->address ? d->address : "-");
    audit_who(&r, uri, NULL);
    audit_what(&r, "server.duplicate", s->name);
    audit_how(&r, AUDIT_REFUSED, &why);
    audit_note(s->control, &r);
    log_event(LOG_ERROR, "two agents use one identity", "server", s->name, "connected", s->seen, "turned_away", d->address, "hostname", d->hostname,
              NULL);
    s->control->counters.duplicates++;
}

void duplicate_suspect(struct server *s, const struct duplicate_agent *a, bool displaced)
{
    struct duplicate *d = &s->suspect;
    put(d->address, sizeof(d->address), a->address);
    put(d->hostname, sizeof(d->hostname), a->hostname);
    put(d->instance, sizeof(d->instance), a->instance);
    d->generation = a->generation;
    d->displaced = displaced;
    d->seen = clock_real();
}

bool duplicate_displaced(const struct server *s, const char *instance)
{
    return s->suspect.displaced && *s->suspect.instance && str_eq(str_from(s->suspect.instance), str_from(instance));
}

void duplicate_confirm(struct server *s)
{
    bool told = duplicate_shown(s, clock_real());
    if (!s->suspect.seen)
        return;
    s->duplicate = s->suspect;
    s->suspect.seen = 0;
    server_changed(s);
    if (!told)
        tell(s);
    /* Of one generation with the other: only a new one tells them apart. */
    if (!s->local && s->link && s->duplicate.generation >= s->oldest && !s->rotate)
        credentials_rotate(s, "duplicate");
}

bool duplicate_shown(const struct server *s, usec_t now)
{
    return s->duplicate.seen && now < clock_add(s->duplicate.seen, DUPLICATE_SHOWN);
}
