/* SPDX-License-Identifier: Apache-2.0 */
/* fence — what a sandbox reaches of this machine. The gateway of davit-net is an address of it, and every port that is bound to all of its
 * addresses is there too: a chain of the kernel's filter lets what comes from that bridge reach the relay, and answer what was asked of it, and
 * nothing else. It is set by iptables, where this agent may; where it may not, that is said.
 * The chain is named by the network, DAVIT-<12 hex>, and stays: an agent that is away takes nothing of it down. One of a network that is no more
 * matches nothing. */
#include "host/contain/contain_internal.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "loop/child.h"

enum { OUTPUT_MAX = 512 };
#define FENCE_WAIT (10 * USEC_SEC)
#define LOCK_WAIT  "5" /* seconds for iptables' own lock */

static const char *find(const char *const *places, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (access(places[i], X_OK) == 0)
            return places[i];
    return NULL;
}

/* 0, 1: it ended with a status that is not 0; negative: it could not be run. */
static int run(struct contain *k, const char *const *argv, const char *input, struct err *err)
{
    const struct child_spec spec = {.argv = argv, .input = str_from(input), .output_max = OUTPUT_MAX};
    struct child_result r = {0};
    int rc = child_run(k->loop, &spec, deadline_in(FENCE_WAIT), &r, err);

    if (rc < 0)
        return rc;
    if (r.exit_status != 0) {
        AUTO_FREE char *said = text_tail(buf_str(&r.err), OUTPUT_MAX / 2);
        (void)err_set(err, ERR_DENIED, "iptables: %s", *said ? said : "it refused");
    }
    rc = r.exit_status != 0;
    child_result_release(&r);
    return rc;
}

/* The chain is filled anew each time, so that one that somebody emptied is not taken for a fence. @net and @gateway are of the caller. */
static int raise_it(struct contain *k, const char *net, const char *gateway, struct err *err)
{
    static const char *const tables[] = {"/usr/sbin/iptables", "/sbin/iptables"};
    static const char *const restores[] = {"/usr/sbin/iptables-restore", "/sbin/iptables-restore"};
    const char *iptables = find(tables, ARRAY_LEN(tables)), *restore = find(restores, ARRAY_LEN(restores));
    AUTO_FREE char *chain = str_printf("DAVIT-%s", net), *bridge = str_printf("br-%s", net);
    const char *const look[] = {iptables, "-w", LOCK_WAIT, "-C", "INPUT", "-i", bridge, "-j", chain, NULL};
    const char *const add[] = {iptables, "-w", LOCK_WAIT, "-I", "INPUT", "1", "-i", bridge, "-j", chain, NULL};
    const char *const fill[] = {restore, "-w", LOCK_WAIT, "--noflush", NULL};

    if (geteuid() != 0)
        return err_set(err, ERR_DENIED, "the agent is not root");
    if (!iptables || !restore)
        return err_set(err, ERR_PRECONDITION, "iptables is not installed");
    int rc = run(k, look, NULL, err);
    if (rc < 0)
        return rc;
    bool jumps = rc == 0;
    *err = ERR_INIT;
    /* A chain that is named in it is emptied first; all of it counts, or nothing. */
    AUTO_FREE char *rules = str_printf("*filter\n:%s - [0:0]\n"
                                       "-A %s -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n"
                                       "-A %s -p tcp -d %s --dport %d -j ACCEPT\n"
                                       "-A %s -j REJECT\nCOMMIT\n",
                                       chain, chain, chain, gateway, CONTAIN_RELAY_PORT, chain);
    rc = run(k, fill, rules, err);
    if (rc == 0 && !jumps)
        rc = run(k, add, NULL, err);
    return rc == 0 ? 0 : -(int)err->code;
}

void fence_raise(struct contain *k, const char *network_id, const char *gateway)
{
    struct err err = ERR_INIT;
    char net[sizeof(k->fence_net)] = "", at[sizeof(k->fence_gateway)] = "";

    if (strlen(network_id) < sizeof(k->fence_net) - 1 || !*gateway)
        return;
    /* They may be our own, which another look may change while this one waits. */
    (void)snprintf(net, sizeof(net), "%.12s", network_id);
    (void)str_copy(at, sizeof(at), str_from(gateway));
    memcpy(k->fence_net, net, sizeof(net));
    memcpy(k->fence_gateway, at, sizeof(at));
    int rc = raise_it(k, net, at, &err);
    if (fiber_cancelled())
        return;
    bool told = k->unfenced && strcmp(k->unfenced, err.msg) == 0, was = k->fenced;
    free(k->unfenced);
    k->unfenced = rc < 0 ? str_dup(str_from(err.msg)) : NULL;
    k->fenced = rc == 0;
    if (rc < 0 && !told)
        log_err(LOG_WARN, &err, "sandboxes reach what this machine serves on all of its addresses", "network", CONTAIN_NET, NULL);
    else if (rc == 0 && !was)
        log_event(LOG_NOTICE, "sandboxes reach nothing of this machine but the agent", "network", CONTAIN_NET, NULL);
}

void fence_keep(struct contain *k)
{
    if (*k->fence_net)
        fence_raise(k, k->fence_net, k->fence_gateway);
}

const char *contain_fence(const struct contain *k, bool *ret_up)
{
    *ret_up = k && k->fenced;
    return k && k->unfenced ? k->unfenced : "";
}
