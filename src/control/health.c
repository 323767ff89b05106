/* SPDX-License-Identifier: Apache-2.0 */
/* health — /healthz and /metrics on loopback, plain HTTP. Metrics in the text format of Prometheus; no label comes from a user or an agent. */
#include <inttypes.h>

#include "control/watch/bus.h"
#include "control/link/commands.h"
#include "control/link/links.h"
#include "control/probes.h"

enum { METRICS_MAX = 64 * 1024, HEALTHZ_MAX = 512 };

static int one(struct buf *b, const char *name, const char *type, const char *help, uint64_t value)
{
    return buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", name, help, name, type, name, value);
}

static int by_state(struct buf *b, const struct control *c)
{
    unsigned n[SERVER_STATE_MAX] = {0};
    struct server *s;
    list_each(s, &c->servers, struct server, node)
        n[s->state]++;
    int rc = buf_append_cstr(b, "# HELP davit_servers Servers by state.\n# TYPE davit_servers gauge\n");
    for (int i = SERVER_PENDING; i < SERVER_STATE_MAX && rc == 0; i++)
        rc = buf_printf(b, "davit_servers{state=\"%s\"} %u\n", server_state_name((enum server_state)i), n[i]);
    return rc;
}

static int metrics(struct buf *b, struct control *c)
{
    const struct counters *k = &c->counters;
    usec_t lag = loop_take_lag(c->loop);
    struct bus_stats bus;
    bus_stats(c->bus, &bus);
    int rc = buf_printf(
        b,
        "# HELP davit_build_info Version of this program.\n# TYPE davit_build_info gauge\ndavit_build_info{version=\"%s\"} 1\n",
        DAVIT_VERSION);
    rc = rc ? rc : by_state(b, c);
    rc = rc ? rc : one(b, "davit_links", "gauge", "Agents connected.", links_live(c));
    rc = rc ? rc : one(b, "davit_links_opened_total", "counter", "Links that were accepted.", k->links_opened);
    rc = rc ? rc : one(b, "davit_links_fenced_total", "counter", "Links cut for another of the same identity.", k->links_fenced);
    rc = rc ? rc : one(b, "davit_links_refused_total", "counter", "Links refused at Hello.", k->links_refused);
    rc = rc ? rc : one(b, "davit_link_bytes_total", "counter", "Bytes on the wire of all links, both ways.", k->link_bytes);
    rc = rc ? rc : one(b, "davit_watch_streams", "gauge", "Streams of who watches.", c->n_streams);
    rc = rc ? rc : one(b, "davit_event_subscribers", "gauge", "Who follows events.", bus.subscribers);
    rc = rc ? rc : one(b, "davit_events_published_total", "counter", "Events that happened.", bus.published);
    rc = rc ? rc : one(b, "davit_events_dropped_total", "counter", "Events dropped from the queues of who followed too slowly.", bus.dropped);
    rc = rc ? rc : one(b, "davit_event_subscribers_ended_total", "counter", "Who followed too slowly to be told all that ended.", bus.ended);
    rc = rc ? rc : one(b, "davit_log_lines_lost_total", "counter", "Lines that the log file did not take.", log_lost());
    rc = rc ? rc : one(b, "davit_rss_bytes", "gauge", "Resident set of this process.", status_rss());
    rc = rc ? rc
            : buf_printf(b,
                         "# HELP davit_loop_lag_seconds Longest turn of the loop since the last scrape.\n"
                         "# TYPE davit_loop_lag_seconds gauge\ndavit_loop_lag_seconds %" PRIu64 ".%06" PRIu64 "\n",
                         lag / USEC_SEC, lag % USEC_SEC);
    rc = rc ? rc : one(b, "davit_commands_pending", "gauge", "Commands without a result.", commands_pending(c));
    rc = rc ? rc : one(b, "davit_commands_sent_total", "counter", "Commands sent, repeats included.", k->commands_sent);
    rc = rc ? rc : one(b, "davit_commands_done_total", "counter", "Commands with a result.", k->commands_done);
    rc = rc ? rc : one(b, "davit_enrolments_total", "counter", "Servers enrolled.", k->enrol_ok);
    rc = rc ? rc : one(b, "davit_enrolments_refused_total", "counter", "Enrolments refused.", k->enrol_refused);
    rc = rc ? rc : one(b, "davit_credentials_issued_total", "counter", "Renewals and recoveries of servers.", k->credentials_issued);
    rc = rc ? rc : one(b, "davit_recoveries_refused_total", "counter", "Recoveries refused.", k->recoveries_refused);
    rc = rc ? rc : one(b, "davit_duplicates_total", "counter", "Servers whose identity a second agent was found with.", k->duplicates);
    return rc ? rc
              : buf_printf(
                    b,
                    "# HELP davit_deployments_total Deployments that ended, by result.\n# TYPE davit_deployments_total counter\n"
                    "davit_deployments_total{result=\"active\"} %" PRIu64 "\ndavit_deployments_total{result=\"failed\"} %" PRIu64
                    "\n",
                    k->deployments_ok, k->deployments_failed);
}

/* What failing to send means is the connection's business: the caller sees it closed. */
void health_serve(void *arg, struct http_call *call)
{
    struct control *c = arg;
    const struct http_head *head = http_call_head(call);
    struct str target = str_from(head->target);
    struct str path = str_cut(&target, '?');
    if (!str_eq(str_from(head->method), STR("GET")) && !str_eq(str_from(head->method), STR("HEAD"))) {
        (void)http_reply(call, 405, "text/plain", STR("only GET\n"));
        return;
    }
    if (str_eq(path, STR("/healthz"))) {
        AUTO_BUF body = BUF_INIT(HEALTHZ_MAX);
        const char *failed = c->stopping ? NULL : probes_failed(c);
        if (probes_json(c, failed, str_eq(target, STR("verbose")), &body) == 0)
            (void)http_reply(call, failed || c->stopping ? 503 : 200, "application/json", buf_str(&body));
        return;
    }
    if (!str_eq(path, STR("/metrics"))) {
        (void)http_reply(call, 404, "text/plain", STR("there is /healthz and /metrics\n"));
        return;
    }
    AUTO_BUF b = BUF_INIT(METRICS_MAX);
    if (metrics(&b, c) == 0)
        (void)http_reply(call, 200, "text/plain; version=0.0.4", buf_str(&b));
    else
        (void)http_reply(call, 500, "text/plain", STR("the metrics do not fit\n"));
}
