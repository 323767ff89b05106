/* SPDX-License-Identifier: Apache-2.0 */
/* place — where in the networks of sandboxes this agent is. A process of the machine has the gateway's address; one in a container (self) has none
 * until its container is in the network: it joins at the address that sandboxes never get. */
#include "host/contain/contain_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

/* Networks of 256 addresses alone: the last octet is what the addresses of ours are told by. */
static int check_size(const char *network, const char *subnet, struct err *err)
{
    if (str_ends(str_from(subnet), STR(".0/24")))
        return 0;
    (void)err_set(err, ERR_PRECONDITION, "network %s is %.64s: sandboxes need one of 256 addresses (/24), in which .200 to .202 are kept free",
                  network, *subnet ? subnet : "without a subnet");
    err_hint(err, "docker network rm %s when nothing is in it; it is made anew, as it should be", network);
    return -ERR_PRECONDITION;
}

int place_in(struct contain *k, const char *network, const char *subnet, const char *gateway, char ret_at[64], usec_t deadline, struct err *err)
{
    const char *end = strrchr(subnet, '.');
    int rc = k->self || strcmp(network, CONTAIN_NET) == 0 ? check_size(network, subnet, err) : 0;

    (void)str_copy(ret_at, 64, str_from(gateway));
    if (rc < 0 || !k->self || !end)
        return rc;
    (void)snprintf(ret_at, 64, "%.*s.%d", (int)(end - subnet), subnet, CONTAIN_OWN_OCTET);
    rc = docker_network_connect(k->w->docker, network, k->self, NULL, 0, ret_at, deadline, err);
    if (rc == 0)
        log_event(LOG_NOTICE, "joined a network of sandboxes", "network", network, "address", ret_at, NULL);
    else if (rc < 0)
        (void)err_wrap(err, "container %s cannot join network %s", k->self, network);
    return rc < 0 ? rc : 0;
}

void place_join(struct contain *k)
{
    const sandbox_spec closed = DAVIT__COMMON__V1__SANDBOX_SPEC__INIT;
    char at[64], dns[64];
    struct err err = ERR_INIT;
    int rc = k->self && !k->joined ? sandbox_network(k, &closed, at, dns, deadline_in(2 * ENGINE_CALL), &err) : 0;

    k->joined = rc == 0;
    if (rc < 0)
        log_err(LOG_WARN, &err, "there is no network for sandboxes", NULL);
}
