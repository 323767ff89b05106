/* SPDX-License-Identifier: Apache-2.0 */
/* routes_text — the table of routes.h as HAProxy reads it (2.4 or later). */
#include "host/reach/routes.h"

/* Generation, reloads, port, generation.
 * A worker with connections that do not end goes after an hour or ROUTES_OLD_MAX reloads, whichever comes first: each one costs memory and threads.
 * A second Host field, and what a client says of whom it speaks for, are not believed. A request is told by its hostname without port, final dot
 * and capitals. Only a connection that was refused is tried again, elsewhere: the request has not been sent then.
 * An upgrade to HTTP/2 in the clear would pass by all of this. */
static const char head[] =
    "# Written by davit-agent. What is changed here by hand is lost.\n"
    "global\n"
    "    description " ROUTES_PREFIX "%s\n"
    "    maxconn 8000\n"
    "    no strict-limits\n"
    "    hard-stop-after 1h\n"
    "    mworker-max-reloads %d\n"
    "    stats socket " ROUTES_RUN_DIR "/admin.sock mode 600 level admin expose-fd listeners\n"
    "    stats timeout 1m\n"
    "\n"
    "defaults\n"
    "    mode http\n"
    "    balance roundrobin\n"
    "    timeout connect 3s\n"
    "    timeout http-request 10s\n"
    "    timeout http-keep-alive 20s\n"
    "    timeout client 10m\n"
    "    timeout server 10m\n"
    "    timeout queue 30s\n"
    "    timeout tunnel 1h\n"
    "    timeout client-fin 30s\n"
    "    retries 3\n"
    "    retry-on conn-failure\n"
    "    option redispatch 1\n"
    "    option idle-close-on-response\n"
    "    option disable-h2-upgrade\n"
    "\n"
    "frontend http\n"
    "    bind :%d\n"
    "    http-request deny deny_status 400 if { req.fhdr_cnt(host) gt 1 }\n"
    "    http-request set-var(txn.backend) req.fhdr(host),field(1,:),rtrim(.),lower,map_str(" ROUTES_CONFIG_DIR "/hosts-%s.map)\n"
    "    http-request return status 404 content-type text/plain string \"No service here has this name.\\n\" if !{ var(txn.backend) -m found }\n"
    "    http-request del-header x-forwarded- -m beg\n"
    "    http-request del-header forwarded\n"
    "    http-request del-header x-real-ip\n"
    "    http-request del-header http2-settings\n"
    "    http-request del-header upgrade if { req.hdr(upgrade) -m sub -i h2c }\n"
    "    http-request set-header X-Forwarded-For %%[src]\n"
    "    http-request set-header X-Forwarded-Proto http\n"
    "    http-request set-header X-Forwarded-Host %%[req.fhdr(host)]\n"
    "    use_backend %%[var(txn.backend)]\n";

static int too_long(struct err *err)
{
    return err_set(err, ERR_EXHAUSTED, "the configuration of the ingress would be longer than %d bytes", ROUTES_TEXT_MAX);
}

int routes_config(const struct routes *t, const char *generation, struct buf *out, struct err *err)
{
    int rc = buf_printf(out, head, generation, ROUTES_OLD_MAX, ROUTES_PORT, generation);
    for (size_t i = 0; rc == 0 && i < t->n; i++) {
        const struct route *r = t->items[i];
        rc = buf_printf(out, "\nbackend %s\n", r->backend);
        for (size_t k = 0; rc == 0 && k < r->n_servers; k++) {
            const struct route_server *s = &r->servers[k];
            rc = buf_printf(out, "    server %s %s:%u weight %u\n", s->name, s->address, s->port, s->weight);
        }
    }
    return rc == 0 ? 0 : too_long(err);
}

int routes_map(const struct routes *t, struct buf *out, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < t->n; i++)
        for (size_t k = 0; rc == 0 && k < t->items[i]->n_hosts; k++)
            rc = buf_printf(out, "%s %s\n", t->items[i]->hosts[k], t->items[i]->backend);
    return rc == 0 ? 0 : too_long(err);
}

int routes_generation(struct str config, char ret[ROUTES_GENERATION_SIZE])
{
    static const struct str key = {"    description " ROUTES_PREFIX, sizeof("    description " ROUTES_PREFIX) - 1};
    while (config.n > 0) {
        struct str line = str_cut(&config, '\n');
        if (!str_starts(line, key))
            continue;
        struct str value = {line.p + key.n, line.n - key.n};
        return value.n > 0 && str_copy(ret, ROUTES_GENERATION_SIZE, value) == 0 ? 0 : -(int)ERR_INVALID;
    }
    return -(int)ERR_INVALID;
}
