/* SPDX-License-Identifier: Apache-2.0 */
/* probes — see probes.h. A part of the control plane gets a line here, and is looked at from then on. */
#include "control/probes.h"

#include <string.h>

#include "control/people/oauth_internal.h"
#include "loop/stream.h"

typedef bool probe_fn(struct control *c);

/* Somebody can connect: a listener that is merely held would not do. What comes of it, TLS or not, is another matter. */
static bool answers(struct control *c, const char *addr)
{
    AUTO_FREE char *at = addr ? control_bind(c, addr) : NULL;
    struct stream *s = NULL;
    if (!at || !*at || stream_dial(c->loop, at, deadline_in(PROBE_WAIT / 2), &s, NULL) != 0)
        return false;
    (void)stream_close(s);
    return true;
}

static bool admin(struct control *c)
{
    return answers(c, control_api_addr(c));
}

/* The socket of this machine's agent; the port for others is open only once there is one. */
static bool agent_link(struct control *c)
{
    return answers(c, c->link_socket) && (!c->link_open || answers(c, control_link_addr(c)));
}

/* What it would issue is good, and where it does so beside the API somebody can connect. */
static bool token_endpoint(struct control *c)
{
    static const uint8_t nobody[OAUTH_X5T_SIZE];
    AUTO_BUF token = BUF_INIT(JWS_MAX);
    struct oauth_claims claims;
    if (!c->oauth || oauth_sign(c->oauth, oauth_client_of("davit-cli"), SCOPE_READ, nobody, &token, NULL) < 0 ||
        oauth_verify(c->oauth, buf_str(&token), &claims, NULL) != 0)
        return false;
    return !*control_token_addr(c) || answers(c, control_token_addr(c));
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
    probe_fn *fn; /* NULL: it is not looked at from here */
} probes[] = {
    {"admin", admin},
    {"agent-link", agent_link},
    {"token", token_endpoint},
    {"store", store_writes},
    /* Of the filter for what sandboxes send, which there is not; the listener for sandboxes is the agent's. */
    {"sandbox-listener", NULL},
    {"gate", NULL},
    {"dns", NULL},
    {"proxy", NULL},
    {"hooks", NULL},
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
        if (probes[i].fn && !probes[i].fn(c))
            failed = probes[i].name;
    c->probe_failed = failed;
    return failed;
}

static int parts_json(const char *failed, struct buf *out)
{
    bool behind = false;
    int rc = buf_append_cstr(out, ",\"parts\":{");
    for (size_t i = 0; i < ARRAY_LEN(probes) && rc == 0; i++) {
        bool is = failed && strcmp(failed, probes[i].name) == 0;
        const char *state = !probes[i].fn ? "not_probed" : is ? "failed" : behind ? "unknown" : "ok";
        rc = buf_printf(out, "%s\"%s\":\"%s\"", i ? "," : "", probes[i].name, state);
        behind = behind || is;
    }
    return rc == 0 ? buf_append_byte(out, '}') : rc;
}

int probes_json(const struct control *c, const char *failed, bool verbose, struct buf *out)
{
    const char *status = c->stopping ? "not_ready" : failed ? "unhealthy" : "healthy";
    int rc = buf_printf(out, "{\"status\":\"%s\",\"failed_probe\":\"%s\"", status, failed ? failed : "");
    if (rc == 0 && verbose && !c->stopping)
        rc = parts_json(failed, out);
    return rc == 0 ? buf_append_cstr(out, "}\n") : rc;
}
