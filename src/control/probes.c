/* SPDX-License-Identifier: Apache-2.0 */
/* probes — see probes.h. A part of the control plane gets a line here, and is looked at from then on. */
#include "control/probes.h"

#include <string.h>

#include "control/oauth.h"

typedef bool probe_fn(struct control *c);

static bool serves(const struct rpc_server *s)
{
    const char *addr = s ? rpc_server_addr(s, 0) : NULL;
    return addr && *addr;
}

static bool admin(struct control *c)
{
    return serves(c->api);
}

/* The socket of this machine's agent; the port for others is open only once there is one. */
static bool agent_link(struct control *c)
{
    return serves(c->link);
}

static bool token_endpoint(struct control *c)
{
    return c->oauth && *oauth_issuer(c->oauth);
}

static int write_row(struct db *db, void *arg, struct err *err)
{
    (void)arg;
    AUTO_FREE char *now = str_printf("%llu", (unsigned long long)clock_real());
    return db_exec(db, err, "INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", "tt",
                   "health.written_us", now);
}

static bool store_writes(struct control *c)
{
    return store_write(c->store, write_row, NULL, deadline_in(PROBE_WAIT), NULL) == 0;
}

static const struct {
    const char *name;
    probe_fn *fn;
} probes[] = {
    {"admin", admin},
    {"agent-link", agent_link},
    {"token", token_endpoint},
    {"store", store_writes},
};

const char *probes_failed(struct control *c)
{
    usec_t now = clock_mono();
    /* Whoever comes while one looks is told what was seen last. */
    if (c->probed && now < c->probed + PROBES_EVERY)
        return c->probe_failed;
    c->probed = now;
    const char *failed = NULL;
    for (size_t i = 0; i < ARRAY_LEN(probes) && !failed; i++)
        if (!probes[i].fn(c))
            failed = probes[i].name;
    c->probe_failed = failed;
    return failed;
}

int probes_json(const char *failed, bool stopping, struct buf *out)
{
    return buf_printf(out, "{\"status\":\"%s\",\"failed_probe\":\"%s\"}\n", stopping ? "not_ready" : failed ? "unhealthy" : "healthy",
                      failed ? failed : "");
}
