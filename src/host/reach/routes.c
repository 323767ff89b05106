/* SPDX-License-Identifier: Apache-2.0 */
/* routes — see routes.h: the table. Its text is in routes_text.c. */
#include "host/reach/routes.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/mem.h"

enum { SERVER_NAME_MAX = 200, NETWORK_NAME_MAX = 200 };

/* --- Checks: what is let through here is written into configuration and commands as it is. ---- */

/* As the engine names containers and networks. */
static bool is_engine_name(const char *s, size_t max)
{
    size_t n = s ? strlen(s) : 0;
    if (n == 0 || n > max || s[0] == '-' || s[0] == '.')
        return false;
    return strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == n;
}

/* The one way to write it, of a machine: neither 0.0.0.0/8, by which HAProxy means what the client wanted to reach, nor loopback, nor multicast. */
static bool is_address(const char *s)
{
    struct in_addr a;
    char again[INET_ADDRSTRLEN];
    if (!s || inet_pton(AF_INET, s, &a) != 1 || !inet_ntop(AF_INET, &a, again, sizeof(again)) || strcmp(s, again) != 0)
        return false;
    uint32_t first = ntohl(a.s_addr) >> 24;
    return first != 0 && first != 127 && first < 224;
}

static int check_server(const struct ingress_service *s, size_t at, struct err *err)
{
    const struct ingress_server *v = &s->servers[at];
    if (!is_engine_name(v->name, SERVER_NAME_MAX))
        return err_set(err, ERR_INVALID, "route: server %zu has a name that no container can have", at + 1);
    if (!is_address(v->address))
        return err_set(err, ERR_INVALID, "route: server %s has no IPv4 address of a container", v->name);
    if (v->port == 0 || v->weight > ROUTES_WEIGHT_MAX)
        return err_set(err, ERR_INVALID, "route: server %s: a port and a weight of at most %d are expected", v->name, ROUTES_WEIGHT_MAX);
    for (size_t i = 0; i < at; i++)
        if (strcmp(s->servers[i].name, v->name) == 0)
            return err_set(err, ERR_INVALID, "route: server %s stands there twice", v->name);
    return 0;
}

static int check_host(const struct ingress_service *s, size_t at, struct err *err)
{
    struct str host = str_from(s->hosts[at]);
    if (!str_is_dns_name(host))
        return err_set(err, ERR_INVALID, "route: hostname %zu is no DNS name in lower case", at + 1);
    for (size_t i = 0; i < at; i++)
        if (str_eq(str_from(s->hosts[i]), host))
            return err_set(err, ERR_INVALID, "route: hostname %s stands there twice", s->hosts[at]);
    return 0;
}

static int check(const struct ingress_service *s, struct err *err)
{
    if (!str_is_label(str_from(s->project)) || !str_is_label(str_from(s->service)))
        return err_set(err, ERR_INVALID, "route: project and service are names (1 to 63 of a-z, 0-9 and '-')");
    if (!is_engine_name(s->network, NETWORK_NAME_MAX))
        return err_set(err, ERR_INVALID, "route: the network has a name that none can have");
    if (s->n_hosts == 0)
        return err_set(err, ERR_INVALID, "route: a hostname is expected");
    if (s->n_hosts > INGRESS_HOSTS_MAX || s->n_servers > INGRESS_SERVERS_MAX)
        return err_set(err, ERR_INVALID, "route: at most %d hostnames and %d containers are possible", INGRESS_HOSTS_MAX, INGRESS_SERVERS_MAX);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < s->n_hosts; i++)
        rc = check_host(s, i, err);
    for (size_t i = 0; rc == 0 && i < s->n_servers; i++)
        rc = check_server(s, i, err);
    return rc;
}

/* --- One service ---- */

int route_new(const struct ingress_service *s, struct route **ret, struct err *err)
{
    int rc = check(s, err);
    if (rc < 0)
        return rc;
    struct route *r = NEW(struct route);
    *r = (struct route){.refs = 1,
                        .project = str_dup(str_from(s->project)),
                        .service = str_dup(str_from(s->service)),
                        .network = str_dup(str_from(s->network)),
                        .hosts = mem_zalloc(s->n_hosts + 1, sizeof(*r->hosts)),
                        .servers = mem_zalloc(s->n_servers + 1, sizeof(*r->servers))};
    AUTO_FREE char *backend = str_printf("%s.%s", r->project, r->service);
    (void)str_copy(r->backend, sizeof(r->backend), str_from(backend));
    for (; r->n_hosts < s->n_hosts; r->n_hosts++)
        r->hosts[r->n_hosts] = str_dup(str_from(s->hosts[r->n_hosts]));
    for (; r->n_servers < s->n_servers; r->n_servers++) {
        const struct ingress_server *v = &s->servers[r->n_servers];
        r->servers[r->n_servers] = (struct route_server){.name = str_dup(str_from(v->name)),
                                                         .address = str_dup(str_from(v->address)),
                                                         .port = v->port,
                                                         .weight = v->drain ? 0 : v->weight ? v->weight : ROUTES_WEIGHT};
    }
    *ret = r;
    return 0;
}

struct route *route_unref(struct route *r)
{
    if (!r || --r->refs > 0)
        return NULL;
    for (size_t i = 0; i < r->n_hosts; i++)
        free(r->hosts[i]);
    for (size_t i = 0; i < r->n_servers; i++) {
        free(r->servers[i].name);
        free(r->servers[i].address);
    }
    free(r->hosts);
    free(r->servers);
    free(r->project);
    free(r->service);
    free(r->network);
    free(r);
    return NULL;
}

/* --- The table ---- */

const struct route *routes_find(const struct routes *t, const char *project, const char *service)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->items[i]->project, project) == 0 && strcmp(t->items[i]->service, service) == 0)
            return t->items[i];
    return NULL;
}

const struct route *routes_owner(const struct routes *t, const char *hostname)
{
    for (size_t i = 0; i < t->n; i++)
        for (size_t k = 0; k < t->items[i]->n_hosts; k++)
            if (strcmp(t->items[i]->hosts[k], hostname) == 0)
                return t->items[i];
    return NULL;
}

static void add(struct routes *t, struct route *r)
{
    t->items = mem_resize(t->items, t->n + 1, sizeof(struct route *));
    t->items[t->n++] = r;
}

struct routes routes_without(const struct routes *t, const char *project, const char *service)
{
    const struct route *gone = routes_find(t, project, service);
    struct routes out = {0};
    for (size_t i = 0; i < t->n; i++) {
        if (t->items[i] == gone)
            continue;
        t->items[i]->refs++;
        add(&out, t->items[i]);
    }
    return out;
}

void routes_release(struct routes *t)
{
    for (size_t i = 0; i < t->n; i++)
        (void)route_unref(t->items[i]);
    free(t->items);
    *t = (struct routes){0};
}

static int by_backend(const void *a, const void *b)
{
    const struct route *const *x = a, *const *y = b;
    return strcmp((*x)->backend, (*y)->backend);
}

int routes_with(const struct routes *t, struct route *r, struct routes *ret, struct err *err)
{
    struct routes out = routes_without(t, r->project, r->service);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < r->n_hosts; i++) {
        const struct route *owner = routes_owner(&out, r->hosts[i]);
        if (owner)
            rc = err_set(err, ERR_EXISTS, "hostname %s belongs to service %s of project %s", r->hosts[i], owner->service, owner->project);
    }
    if (rc == 0 && out.n >= INGRESS_SERVICES_MAX)
        rc = err_set(err, ERR_EXHAUSTED, "this server has routes to %d services, and more are not possible", INGRESS_SERVICES_MAX);
    if (rc < 0) {
        routes_release(&out);
        (void)route_unref(r);
        return rc;
    }
    add(&out, r);
    qsort(out.items, out.n, sizeof(struct route *), by_backend);
    *ret = out;
    return 0;
}

static bool same_hosts(const struct route *a, const struct route *b)
{
    if (a == b)
        return true;
    if (strcmp(a->backend, b->backend) != 0 || strcmp(a->network, b->network) != 0 || a->n_hosts != b->n_hosts)
        return false;
    for (size_t i = 0; i < a->n_hosts; i++)
        if (strcmp(a->hosts[i], b->hosts[i]) != 0)
            return false;
    return true;
}

bool routes_same_shape(const struct routes *a, const struct routes *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!same_hosts(a->items[i], b->items[i]))
            return false;
    return true;
}
