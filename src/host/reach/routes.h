/* SPDX-License-Identifier: Apache-2.0 */
/* routes — what the ingress shall serve: a table of services, and the HAProxy configuration that says it. A function of the table: nothing is
 * asked, nothing is written.
 * A table does not change: another one is made, which shares the services that are the same (by pointer: what is equal need not be compared).
 * Ownership: routes_release, route_unref; a table holds references.  Thread: any, one at a time.
 * Limits: those of ingress.h; ROUTES_TEXT_MAX bytes of text.  Input trust: all texts are checked before they come into a table, so that none of
 * them can say more in a configuration or a command than it is meant to. */
#ifndef DAVIT_HOST_REACH_ROUTES_H
#define DAVIT_HOST_REACH_ROUTES_H

#include "base/buf.h"
#include "host/reach/ingress.h"

enum {
    ROUTES_TEXT_MAX = 16 * 1024 * 1024,
    ROUTES_WEIGHT = 100, /* where none is said */
    ROUTES_WEIGHT_MAX = 256,
    ROUTES_OLD_MAX = 32, /* reloads that a worker with connections lives through; one more ends it. Less than HAPROXY_OLD_MAX */
    ROUTES_PORT = 8080, /* that HAProxy listens on in its container */
    ROUTES_GENERATION_SIZE = 20
};
/* What HAProxy calls a service: "project.service", neither of which has a dot. */
enum { ROUTES_BACKEND_SIZE = 2 * 63 + 2 };
/* Where HAProxy finds its files in its container. */
#define ROUTES_CONFIG_DIR "/davit/config"
#define ROUTES_RUN_DIR    "/davit/run"
#define ROUTES_PREFIX     "davit-" /* of the description, with the generation behind it */

struct route_server {
    char *name, *address;
    uint16_t port;
    unsigned weight; /* 0: it drains */
};
struct route {
    unsigned refs;
    char *project, *service, *network;
    char backend[ROUTES_BACKEND_SIZE];
    char **hosts;
    size_t n_hosts;
    struct route_server *servers;
    size_t n_servers;
};
/* In order of backend. */
struct routes {
    struct route **items;
    size_t n;
};

/* Checks and copies. 0 with one reference in *ret, or -ERR_INVALID that says what is wrong. */
int route_new(const struct ingress_service *s, struct route **ret, struct err *err) MUST_USE;
/* Accepts NULL. Returns NULL. */
struct route *route_unref(struct route *r);

/* A copy of @t in which @r (taken) stands for the service of its name. -ERR_EXISTS: another service has one of its hostnames; -ERR_EXHAUSTED:
 * INGRESS_SERVICES_MAX; @r is released then. */
int routes_with(const struct routes *t, struct route *r, struct routes *ret, struct err *err) MUST_USE;
/* A copy of @t without this service; equal to @t where it has none. */
struct routes routes_without(const struct routes *t, const char *project, const char *service);
void routes_release(struct routes *t);

/* NULL: there is none. Borrowed. */
const struct route *routes_find(const struct routes *t, const char *project, const char *service);
const struct route *routes_owner(const struct routes *t, const char *hostname);
/* Do the two differ in nothing but servers? */
bool routes_same_shape(const struct routes *a, const struct routes *b);

/* The configuration and the map of hostnames that it names. @generation: letters and digits, which HAProxy tells when asked what it has loaded. */
int routes_config(const struct routes *t, const char *generation, struct buf *out, struct err *err) MUST_USE;
int routes_map(const struct routes *t, struct buf *out, struct err *err) MUST_USE;
/* The generation of a configuration that was made so, read from its text. 0, or -ERR_INVALID. */
int routes_generation(struct str config, char ret[ROUTES_GENERATION_SIZE]) MUST_USE;

#endif
