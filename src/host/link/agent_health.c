/* SPDX-License-Identifier: Apache-2.0 */
/* agent_health — see agent.h: what the agent says about itself, and the question of `davit-agent status`. */
#include "base/json.h"
#include "base/log.h"
#include "host/contain/contain.h"
#include "host/link/agent_internal.h"
#include "net/http_client.h"

enum { HEALTH_MAX = 64 * 1024, SOCKET_PATH_MAX = 107 };
#define ASK_WAIT (5 * USEC_SEC)

static void put_text(struct jsonw *w, const char *key, const char *value)
{
    jsonw_key(w, key);
    jsonw_string(w, value && *value ? value : NULL);
}

static void put_time(struct jsonw *w, const char *key, usec_t real)
{
    char text[CLOCK_TEXT_SIZE] = "";
    if (real)
        clock_format(real, 3, text);
    put_text(w, key, text);
}

static void put_number(struct jsonw *w, const char *key, uint64_t n)
{
    jsonw_key(w, key);
    jsonw_u64(w, n);
}

static void put_credentials(struct jsonw *w, const struct agent *a)
{
    struct renew_status st;
    struct tunnel_status tunnel;
    if (a->tunnel) {
        tunnel_status(a->tunnel, &tunnel);
        put_text(w, "carried_by", tunnel_carrier_name(tunnel.carrier));
        put_number(w, "credential_generation", tunnel.generation);
        put_time(w, "credential_expires", tunnel.expires);
        put_text(w, "credential_error", tunnel.error);
    }
    if (!a->renew)
        return;
    renew_status(a->renew, &st);
    put_number(w, "credential_generation", st.generation);
    put_time(w, "credential_expires", st.expires);
    put_time(w, "credential_renewal", st.due);
    jsonw_key(w, "credential_staged");
    jsonw_bool(w, st.staged);
    put_text(w, "credential_error", st.error);
}

static void put_fence(struct jsonw *w, const struct agent *a)
{
    bool up;
    const char *why = contain_fence(a->contain, &up);
    put_text(w, "sandbox_fence", up ? "up" : *why ? "down" : NULL);
    put_text(w, "sandbox_fence_error", why);
}

static int describe(const struct agent *a, struct buf *out)
{
    const Davit__Common__V1__SystemInfo *system = sysinfo_get(a->sysinfo);
    const char *engine = a->work ? work_docker_error(a->work) : system->docker_error;
    struct session_status st;
    struct jsonw w;
    session_status(a->session, &st);
    jsonw_init(&w, out);
    jsonw_object(&w);
    put_text(&w, "state", session_state_name(st.state));
    put_text(&w, "version", DAVIT_VERSION);
    put_text(&w, "server_id", a->config.server_id);
    put_text(&w, "server_name", a->config.server_name);
    put_text(&w, "endpoint", st.endpoint);
    put_text(&w, "auth_mode", a->local ? "local" : a->tunnel ? "tunnel" : "mtls");
    put_time(&w, "since", st.since);
    put_time(&w, "last_heartbeat", st.heartbeat);
    put_time(&w, "next_try", st.next_try);
    put_text(&w, "error", st.state == SESSION_ONLINE ? NULL : st.error);
    put_text(&w, "hint", st.state == SESSION_ONLINE ? NULL : st.hint);
    put_text(&w, "seen_address", st.seen_address);
    put_credentials(&w, a);
    jsonw_key(&w, "clock_unsure");
    jsonw_bool(&w, clock_unsure());
    put_text(&w, "docker_version", system->docker_version);
    put_text(&w, "docker_error", engine);
    put_number(&w, "containers_running", a->work ? work_containers_running(a->work) : 0);
    put_fence(&w, a);
    put_number(&w, "commands", st.commands);
    put_number(&w, "connections", st.connections);
    put_number(&w, "dropped", st.dropped);
    put_number(&w, "pid", (uint64_t)getpid());
    jsonw_object_end(&w);
    return jsonw_end(&w);
}

static void serve(void *arg, struct http_call *call)
{
    struct agent *a = arg;
    const struct http_head *head = http_call_head(call);
    AUTO_BUF out = BUF_INIT(HEALTH_MAX);
    struct session_status st;
    if (!str_eq(str_from(head->target), STR("/healthz"))) {
        (void)http_reply(call, 404, "text/plain", STR("only /healthz is here\n"));
        return;
    }
    if (!str_eq(str_from(head->method), STR("GET")) && !str_eq(str_from(head->method), STR("HEAD"))) {
        (void)http_reply(call, 405, "text/plain", STR("GET it\n"));
        return;
    }
    session_status(a->session, &st);
    if (describe(a, &out) != 0 || buf_append_byte(&out, '\n') != 0)
        (void)http_reply(call, 500, "text/plain", STR("the answer does not fit\n"));
    else
        (void)http_reply(call, st.state == SESSION_ONLINE ? 200 : 503, "application/json", buf_str(&out));
}

int agent_health_listen(struct agent *a, const char *listen, struct err *err)
{
    AUTO_FREE char *path = agent_config_path(&a->config, "health.sock");
    AUTO_FREE char *addr = str_printf("unix:%s", path);
    int rc = 0;
    a->http = http_server_new(a->loop, serve, a, 0);
    if (strlen(path) > SOCKET_PATH_MAX)
        log_event(LOG_WARN, "no health socket: its path would be too long", "path", path, NULL);
    else
        rc = http_server_listen(a->http, addr, 0600, NULL, err);
    if (rc == 0 && listen)
        rc = http_server_listen(a->http, listen, 0, NULL, err);
    return rc;
}

int agent_ask_health(struct loop *loop, const char *config_dir, struct buf *out, bool *ret_online, struct err *err)
{
    CLEANUP(agent_config_release) struct agent_config c = {0};
    int rc = agent_config_init(&c, config_dir, err);
    if (rc < 0)
        return rc;
    AUTO_FREE char *addr = str_printf("unix:%s/health.sock", c.dir);
    struct http_client *client = http_client_new(loop, addr, "localhost", NULL);
    struct http_request req = {.method = "GET", .target = "/healthz"};
    struct http_exchange *x = NULL;
    struct err why = ERR_INIT;
    rc = http_request(client, &req, deadline_in(ASK_WAIT), &x, &why);
    if (rc == 0) {
        *ret_online = http_head(x)->status == 200;
        rc = http_read_all(x, out, deadline_in(ASK_WAIT), &why);
    }
    (void)http_finish(x);
    (void)http_client_free(client);
    if (rc < 0 && why.code != ERR_DENIED) {
        rc = err_set(err, ERR_UNAVAILABLE, "no agent answers in %s: %s", c.dir, why.msg);
        err_hint(err, "start it with: davit-agent run");
    } else if (rc < 0 && err) {
        *err = why;
    }
    return rc;
}
