/* SPDX-License-Identifier: Apache-2.0 */
/* ingress — the way in to this server's services: one HAProxy in a container, told by hostname which service a request is for.
 *
 * The container `davit-ingress` runs a stock image without root, capabilities or writable root, publishes the HTTP port on the server's addresses,
 * and is a member of the network of each project that has a route; the agent's folder `ingress/` is all that it sees of the server: configuration,
 * the map of hostnames and the admin socket, which no network reaches. The engine's socket is not mounted. It is made with the first route, and goes
 * with the last one.
 * What shall be is a table of services in memory (set by the calls below, at start from what the agent knows it shall run); the configuration is made
 * from it, checked by HAProxy itself before it counts, and put in place without losing a connection: servers come, go, weigh and drain through the
 * runtime API; a new service means a reload, in which old connections end in peace.
 * A table that HAProxy refuses changes nothing. After a crash of HAProxy, of the engine or of the agent the state is made again from the table.
 * Ownership: ingress_new .. ingress_free.  Thread: loop; calls marked "waits" on a fiber; two of them at once take turns.
 * Limits: INGRESS_SERVICES_MAX services, INGRESS_HOSTS_MAX hostnames a service, INGRESS_SERVERS_MAX servers a service.
 * Input trust: hostnames and addresses were checked by host/work; they are checked again before they become configuration. */
#ifndef DAVIT_HOST_REACH_INGRESS_H
#define DAVIT_HOST_REACH_INGRESS_H

#include "docker/docker.h"

enum { INGRESS_SERVICES_MAX = 500, INGRESS_HOSTS_MAX = 16, INGRESS_SERVERS_MAX = 64 };
#define INGRESS_CONTAINER "davit-ingress"

struct ingress;

struct ingress_config {
    struct loop *loop;
    struct docker *docker;  /* borrowed; outlives it */
    const char *server_id;  /* for labels; copied */
    const char *folder;     /* made if it is not there (0700 of the agent's account); copied */
    const char *image;      /* reference of a HAProxy image, 2.4 or later; copied */
    const char *listen;     /* "ADDR:PORT" on the server, e.g. "0.0.0.0:80"; copied */
};

/* Begins with an empty table; touches nothing before the first call that waits. Never NULL. */
struct ingress *ingress_new(const struct ingress_config *config) MUST_USE;
/* Makes the network @spec where there is none of its name, with a range that it chooses; waits. 0 or negative with *err. */
struct docker_network_spec;
typedef int ingress_network_fn(void *arg, const struct docker_network_spec *spec, usec_t deadline, struct err *err);
/* The ingress's own network is made by @fn from now on; NULL, as at first: by the engine, with a range of the engine's choice. */
void ingress_networks_by(struct ingress *in, ingress_network_fn *fn, void *arg);
/* The container goes on running. Accepts NULL. Returns NULL. */
struct ingress *ingress_free(struct ingress *in);

/* One container behind a hostname. */
struct ingress_server {
    const char *name;    /* of the container: what drain and the state refer to */
    const char *address; /* IPv4 in the project's network */
    uint16_t port;
    unsigned weight;     /* 1..256; 0: 100 */
    bool drain;          /* gets no new connection; those that it has go on */
};
struct ingress_service {
    const char *project, *service; /* labels */
    const char *network;           /* of the project, which HAProxy joins */
    const char *const *hosts;      /* lower case */
    size_t n_hosts;
    const struct ingress_server *servers; /* none: 503 until there is one */
    size_t n_servers;
};

/* Waits: from now on @s is what the service of this name has; makes the container if need be. 0: HAProxy serves it. -ERR_EXISTS: a hostname belongs
 * to another service, named in @err; -ERR_PRECONDITION: the port is taken or HAProxy refuses; -ERR_UNAVAILABLE: the engine. On failure the table is
 * as it was. */
int ingress_set(struct ingress *in, const struct ingress_service *s, usec_t deadline, struct err *err) MUST_USE;
/* Right after a call that waits has failed: was it for want of HAProxy's image, which its registry did not give? */
bool ingress_unfetched(const struct ingress *in);
/* Waits: the service has no route any more. 0, also where it had none. */
int ingress_remove(struct ingress *in, const char *project, const char *service, usec_t deadline, struct err *err) MUST_USE;
/* Waits until @server (its name) of the service has no connection and no request left, or @limit is over: *ret_left is then how many there are.
 * Only for servers that drain. 0, also where there is no such server; negative. */
int ingress_drained(struct ingress *in, const char *project, const char *service, const char *server, usec_t limit, unsigned *ret_left,
                    struct err *err) MUST_USE;

/* Waits: puts what is there in accord with the table: after the start, when the engine came back, when the container was seen to end. @all NULL: the
 * table as it is; else first replaces it whole by @n services. */
int ingress_restore(struct ingress *in, const struct ingress_service *all, size_t n, usec_t deadline, struct err *err) MUST_USE;

/* Waits: as ingress_restore of the table as it is, if HAProxy does not run: somebody removed or stopped its container, which the engine leaves at
 * that; one that crashed the engine starts itself. One question to the engine where all is well, none without a route. */
int ingress_mend(struct ingress *in, usec_t deadline, struct err *err) MUST_USE;

/* The hostname's owner: 0 with project and service (borrowed until something waits), 1: nobody's. */
int ingress_owner(const struct ingress *in, const char *hostname, const char **ret_project, const char **ret_service);

#endif
