/* SPDX-License-Identifier: Apache-2.0 */
/* controlplane_status — does the control plane of this machine run, and do all its parts answer? The same look as that of `davit up`. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/controlplane.h"
#include "cli/out.h"
#include "cli/proc.h"
#include "net/http_client.h"
#include "net/resolve.h"

enum { HEALTH_BODY_MAX = 4096, PART_MAX = 64 };
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
            if (wanted && value.n <= PART_MAX)
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

static void print_text(struct cli *cli, bool runs, pid_t pid, int health, const char *part)
{
    if (!runs) {
        printf("Container: %sstopped%s\n", out_color(cli, OUT_RED), out_color(cli, OUT_PLAIN));
        return;
    }
    printf("Container: %srunning%s (a process of this machine, pid %ld)\n", out_color(cli, OUT_GREEN), out_color(cli, OUT_PLAIN), (long)pid);
    if (health == 0)
        printf("Healthz:   %shealthy%s\n", out_color(cli, OUT_GREEN), out_color(cli, OUT_PLAIN));
    else
        printf("Healthz:   %sunhealthy%s (%s)\n", out_color(cli, OUT_RED), out_color(cli, OUT_PLAIN), *part ? part : "no answer");
}

static void print_json(bool runs, int health, const char *part)
{
    AUTO_BUF text = BUF_INIT(HEALTH_BODY_MAX);
    struct jsonw w;

    jsonw_init(&w, &text);
    jsonw_object(&w);
    jsonw_key(&w, "container_running");
    jsonw_bool(&w, runs);
    if (runs) {
        jsonw_key(&w, "healthz_ok");
        jsonw_bool(&w, health == 0);
        jsonw_key(&w, "healthz_status");
        jsonw_string(&w, health == 0 ? "healthy" : "unhealthy");
        jsonw_key(&w, "healthz_error");
        jsonw_string(&w, health == 0 ? "" : *part ? part : "no answer");
    }
    jsonw_object_end(&w);
    if (jsonw_end(&w) == 0)
        printf("%s\n", buf_cstr(&text));
}

int run_controlplane_status(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct controlplane_status_options *o = options;
    AUTO_BUF part = BUF_INIT(PART_MAX + 1);
    struct local local;
    pid_t pid = 0;

    (void)operands;
    (void)n;
    local_init(&local, cli);
    int runs = proc_alive(&local.davitd, &pid, err);
    local_release(&local);
    if (runs < 0)
        return runs;
    int health = runs ? health_look(cli, &part) : -ERR_UNAVAILABLE;
    AUTO_FREE char *clean = out_clean(buf_str(&part));
    if (!o->quiet && cli->json)
        print_json(runs, health, clean);
    else if (!o->quiet)
        print_text(cli, runs, pid, health, clean);
    return health == 0 ? 0 : 1;
}
