/* SPDX-License-Identifier: Apache-2.0 */
/* controlplane_status — does the control plane of this machine run, and do all its parts answer? The same look as that of `davit up`. */
#include <stdio.h>

#include "base/json.h"
#include "cli/controlplane.h"
#include "cli/out.h"
#include "cli/plane.h"
#include "cli/proc.h"
#include "net/http_client.h"
#include "net/resolve.h"

enum { HEALTH_BODY_MAX = 4096, STATE_MAX = 128 };
static const usec_t LOOK_WAIT = 2 * USEC_SEC;

const struct opt controlplane_status_opts[] = {
    {.name = "quiet", .letter = 'q', .type = OPT_BOOL, .offset = offsetof(struct controlplane_status_options, quiet),
     .help = "say nothing: the exit status is 0 if all answers, else 1"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

/* Another program may hold the port: what is no such answer names no part. */
static void read_part(struct str body, struct buf *failed)
{
    struct json j;
    struct str key, value;
    bool stopping = false;

    json_init(&j, body);
    if (json_enter(&j, JSON_OBJECT, NULL) == 0)
        while (json_key(&j, &key, NULL) == 0) {
            bool wanted = str_eq(key, STR("failed_probe"));
            if (json_read_str(&j, &value, NULL) < 0)
                break;
            stopping |= str_eq(key, STR("status")) && str_eq(value, STR("not_ready"));
            if (wanted && value.n <= HEALTH_PART_MAX)
                (void)buf_append_str(failed, value);
        }
    json_release(&j);
    if (stopping && !failed->len)
        (void)buf_append_str(failed, STR("stopping"));
}

int health_look(struct cli *cli, struct buf *failed)
{
    const struct http_request request = {.method = "GET", .target = "/healthz"};
    AUTO_BUF body = BUF_INIT(HEALTH_BODY_MAX);
    struct http_exchange *x = NULL;
    usec_t deadline = deadline_in(LOOK_WAIT);
    char addr[NET_ADDR_SIZE];

    if (net_resolve(cli->loop, cli->settings.health, deadline, addr, sizeof(addr), NULL) < 0)
        return -ERR_UNAVAILABLE;
    struct http_client *client = http_client_new(cli->loop, addr, cli->settings.health, NULL);
    int status = 0, rc = http_request(client, &request, deadline, &x, NULL);
    if (rc == 0) {
        status = http_head(x)->status;
        rc = http_read_all(x, &body, deadline, NULL);
    }
    (void)http_finish(x);
    (void)http_client_free(client);
    if (rc < 0)
        return -ERR_UNAVAILABLE;
    if (status != 200 && failed)
        read_part(buf_str(&body), failed);
    return status == 200 ? 0 : 1;
}

/* What there is to tell. */
struct found {
    bool runs, container;
    char what[STATE_MAX]; /* of a container that does not run */
    char where[STATE_MAX];
    int health;
    const char *part;
    bool counted;
    unsigned sandboxes; /* that run */
};

static void print_text(struct cli *cli, const struct found *f)
{
    if (f->runs)
        printf("Container: %srunning%s (%s)\n", out_color(cli, OUT_GREEN), out_color(cli, OUT_PLAIN), f->where);
    else
        printf("Container: %sstopped%s%s\n", out_color(cli, OUT_RED), out_color(cli, OUT_PLAIN), f->what);
    if (f->runs && f->health == 0)
        printf("Healthz:   %shealthy%s\n", out_color(cli, OUT_GREEN), out_color(cli, OUT_PLAIN));
    else if (f->runs)
        printf("Healthz:   %sunhealthy%s (%s)\n", out_color(cli, OUT_RED), out_color(cli, OUT_PLAIN), *f->part ? f->part : "no answer");
    if (!f->runs && f->counted && f->sandboxes)
        printf("Sandboxes: %u run%s on; dispatch is not available: nothing reaches them until `davit up`\n", f->sandboxes,
               f->sandboxes == 1 ? "s" : "");
}

static void print_json(const struct found *f)
{
    AUTO_BUF text = BUF_INIT(HEALTH_BODY_MAX);
    struct jsonw w;

    jsonw_init(&w, &text);
    jsonw_object(&w);
    jsonw_key(&w, "container_running");
    jsonw_bool(&w, f->runs);
    if (f->runs) {
        jsonw_key(&w, "healthz_ok");
        jsonw_bool(&w, f->health == 0);
        jsonw_key(&w, "healthz_status");
        jsonw_string(&w, f->health == 0 ? "healthy" : "unhealthy");
        jsonw_key(&w, "healthz_error");
        jsonw_string(&w, f->health == 0 ? "" : *f->part ? f->part : "no answer");
    } else if (f->counted && f->sandboxes) {
        jsonw_key(&w, "sandboxes_running");
        jsonw_u64(&w, f->sandboxes);
        jsonw_key(&w, "dispatch_available");
        jsonw_bool(&w, false);
    }
    jsonw_object_end(&w);
    if (jsonw_end(&w) == 0)
        printf("%s\n", buf_cstr(&text));
}

static int look_process(struct cli *cli, struct found *f, struct err *err)
{
    struct local local;
    pid_t pid = 0;

    local_init(&local, cli);
    int rc = proc_alive(&local.davitd, &pid, err);
    local_release(&local);
    f->runs = rc == 1;
    (void)snprintf(f->where, sizeof(f->where), "a process of this machine, pid %ld", (long)pid);
    return rc < 0 ? rc : 0;
}

static int look_container(struct cli *cli, struct found *f, struct err *err)
{
    struct plane_look look;
    int rc = plane_look(cli, &look, err);

    f->runs = look.state == DOCKER_STATE_RUNNING;
    (void)snprintf(f->where, sizeof(f->where), PLANE_CONTAINER ", %.12s", look.id);
    if (look.state != DOCKER_STATE_UNKNOWN)
        (void)snprintf(f->what, sizeof(f->what), " (" PLANE_CONTAINER ", %s)", docker_state_name(look.state));
    return rc;
}

int run_controlplane_status(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct controlplane_status_options *o = options;
    AUTO_BUF part = BUF_INIT(HEALTH_PART_MAX + 1);
    struct found f = {.health = -ERR_UNAVAILABLE};
    unsigned all;

    (void)operands;
    (void)n;
    int rc = plane_mode(&cli->settings) ? look_container(cli, &f, err) : look_process(cli, &f, err);
    if (rc < 0)
        return rc;
    if (f.runs)
        f.health = health_look(cli, &part);
    else if (!o->quiet)
        f.counted = plane_sandboxes(cli, &all, &f.sandboxes, NULL) == 0;
    AUTO_FREE char *clean = out_clean(buf_str(&part));
    f.part = clean;
    if (!o->quiet && cli->json)
        print_json(&f);
    else if (!o->quiet)
        print_text(cli, &f);
    return f.health == 0 ? 0 : 1;
}
