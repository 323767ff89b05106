/* SPDX-License-Identifier: Apache-2.0 */
/* spec_complete — see spec.h: defaults are written out, so that a stored spec means the same to whoever reads it later. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "spec/spec_internal.h"

#define HTTP DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_HTTP
#define NONE DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_NONE

/* protobuf-c marks an unset string by a shared empty one, which must not be freed. */
static void replace(char **field, char *value)
{
    if (*field != protobuf_c_empty_string)
        free(*field);
    *field = value;
}

/* One that is no reference is left as it is, for the message that refuses it. */
static void complete_image(Davit__Common__V1__ServiceSpec *spec)
{
    struct str ref = str_from(spec->image);
    if (spec_is_image(ref) && !memchr(ref.p, '@', ref.n) && !spec_tag_at(ref))
        replace(&spec->image, str_printf("%s:latest", spec->image));
}

static void complete_routes(Davit__Common__V1__ServiceSpec *spec)
{
    for (size_t i = 0; i < spec->n_routes; i++)
        for (char *p = spec->routes[i]->hostname; *p; p++)
            if (*p >= 'A' && *p <= 'Z')
                *p = (char)(*p - 'A' + 'a');
}

/* What is reached by a hostname is asked for /health unless it says how else; an empty path asks nothing. */
static void complete_health(Davit__Common__V1__ServiceSpec *spec)
{
    Davit__Common__V1__HealthCheck *h = spec->health;
    if (!h && !spec->n_routes) /* the image may have a check of its own */
        return;
    if (!h) {
        h = spec->health = NEW(Davit__Common__V1__HealthCheck);
        davit__common__v1__health_check__init(h);
        h->kind = HTTP;
        h->path = str_dup(STR(SPEC_HEALTH_PATH));
        for (size_t i = 0; i < spec->n_routes && !h->port; i++)
            h->port = spec->routes[i]->port;
    }
    if (h->kind == HTTP && !*h->path)
        h->kind = NONE;
    if (!h->grace_ms)
        h->grace_ms = h->kind == NONE ? SPEC_SETTLE_MS : SPEC_GRACE_MS;
    if (h->kind == NONE)
        return;
    h->interval_ms = h->interval_ms ? h->interval_ms : SPEC_INTERVAL_MS;
    h->timeout_ms = h->timeout_ms ? h->timeout_ms : SPEC_TIMEOUT_MS;
    h->retries = h->retries ? h->retries : SPEC_RETRIES;
}

void spec_complete(Davit__Common__V1__ServiceSpec *spec)
{
    complete_image(spec);
    complete_routes(spec);
    complete_health(spec);
}

void spec_pin_image(Davit__Common__V1__ServiceSpec *spec, const char *digest)
{
    struct str rest = str_from(spec->image);
    struct str name = str_cut(&rest, '@');
    if (!spec_is_digest(str_from(digest)))
        return;
    replace(&spec->image, str_printf(STR_FMT "@%s", STR_ARG(name), digest));
    /* What has a digest does not change: there is nothing to pull once it is here. */
    if (str_eq(str_from(spec->pull), STR("always")))
        replace(&spec->pull, str_dup(STR("missing")));
}
