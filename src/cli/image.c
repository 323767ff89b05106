/* SPDX-License-Identifier: Apache-2.0 */
/* image — images of a server's engine: ls, pull, check, rm. */
#include <stdio.h>

#include "cli/out.h"
#include "davit/control/v1/images.davit.h"
#include "davit/control/v1/images.pb-c.h"

static const usec_t CALL_TIMEOUT = 6 * USEC_MINUTE, PULL_TIMEOUT = 130 * USEC_MINUTE;

struct image_options {
    struct cli_common common;
    const char *server;
};

#define AT(field) offsetof(struct image_options, field)
static const struct opt image_opts[] = {
    {.name = "server", .letter = 's', .type = OPT_STRING, .offset = AT(server), .arg = "SERVER", .help = "which server; needed if there are several"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static char *lent(const char *s)
{
    return (char *)(uintptr_t)(s ? s : "");
}

static int call(struct cli *cli, const char *method, const ProtobufCMessage *request, ProtobufCMessage **ret, struct err *err)
{
    return cli_call(cli, &davit_control_v1_image_service, method, request, CALL_TIMEOUT, ret, err);
}

/* ---- ls ---- */

static char *joined(char **items, size_t n)
{
    AUTO_BUF text = BUF_INIT(16 * 1024);

    for (size_t i = 0; i < n; i++)
        (void)buf_printf(&text, "%s%s", i ? ", " : "", items[i]);
    return text.len ? buf_take(&text) : NULL;
}

static void image_row(struct out_table *t, const Davit__Common__V1__Image *m)
{
    struct str id = str_from(m->id);
    char *cells[] = {
        m->n_tags ? joined(m->tags, m->n_tags) : joined(m->digests, m->n_digests),
        str_printf("%.12s", str_starts(id, STR("sha256:")) ? m->id + 7 : m->id),
        out_bytes(m->bytes),
        out_age(m->created_us),
        joined(m->used_by, m->n_used_by),
    };

    out_table_row(t, cells);
}

static int run_ls(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    static const char *const heads[] = {"IMAGE", "ID", "SIZE", "CREATED", "USED BY", NULL};
    const struct image_options *o = options;
    Davit__Control__V1__ListImagesRequest req = DAVIT__CONTROL__V1__LIST_IMAGES_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct out_table t;

    (void)operands;
    (void)n;
    req.server = lent(o->server);
    int rc = call(cli, "ListImages", &req.base, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__ListImagesResponse *list = (const void *)message;
    if (cli->json) {
        rc = out_message(message, err);
    } else {
        out_table_init(&t, heads);
        for (size_t i = 0; i < list->n_images; i++)
            image_row(&t, list->images[i]);
        out_table_print(cli, &t);
        out_table_release(&t);
        if (list->truncated)
            out_note(cli, "There are more images than one answer holds.");
    }
    rpc_message_free(message);
    return rc;
}

/* ---- pull ---- */

static void show_layer(const struct cli *cli, const Davit__Common__V1__StepProgress *p)
{
    bool done = p->state == DAVIT__COMMON__V1__STEP_STATE__STEP_STATE_DONE;
    AUTO_FREE char *layer = out_clean(str_from(p->step));
    AUTO_FREE char *what = out_clean(str_from(p->message));

    if (cli->progress)
        (void)fprintf(stderr, "\r\033[K[%u/%u] %s %s%s", p->index, p->total, layer, what, done ? "\n" : "");
    else if (done)
        (void)fprintf(stderr, "[%u/%u] %s %s\n", p->index, p->total, layer, what);
    (void)fflush(stderr);
}

static int on_pull(struct cli *cli, const Davit__Control__V1__PullImageResponse *r, struct err *err)
{
    if (cli->json)
        return out_message(&r->base, err);
    if (r->progress)
        show_layer(cli, r->progress);
    if (*r->digest) {
        AUTO_FREE char *digest = out_clean(str_from(r->digest));
        if (cli->progress)
            (void)fputs("\r\033[K", stderr);
        printf("pulled %s\n", digest);
    }
    return 0;
}

static int run_pull(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct image_options *o = options;
    Davit__Control__V1__PullImageRequest req = DAVIT__CONTROL__V1__PULL_IMAGE_REQUEST__INIT;
    struct rpc_stream *stream = NULL;
    usec_t deadline = deadline_in(PULL_TIMEOUT);
    int rc = cli_connect(cli, err);

    (void)n;
    if (rc < 0)
        return rc;
    req.server = lent(o->server);
    req.image = lent(operands[0]);
    rc = rpc_stream_open(cli->channel, &davit_control_v1_image_service, "PullImage", deadline, &stream, err);
    if (rc == 0)
        rc = rpc_stream_put(stream, &req.base, deadline, err);
    if (rc == 0)
        rpc_stream_half_close(stream);
    while (rc == 0) {
        ProtobufCMessage *message = NULL;
        if ((rc = rpc_stream_get(stream, deadline, &message, err)) == 0)
            rc = on_pull(cli, (const void *)message, err);
        rpc_message_free(message);
    }
    rpc_stream_close(stream);
    return rc < 0 ? rc : 0;
}

/* ---- check ---- */

static int run_check(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct image_options *o = options;
    Davit__Control__V1__CheckImageRequest req = DAVIT__CONTROL__V1__CHECK_IMAGE_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    (void)n;
    req.server = lent(o->server);
    req.image = lent(operands[0]);
    int rc = call(cli, "CheckImage", &req.base, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Common__V1__ImageCheck *c = ((const Davit__Control__V1__CheckImageResponse *)(const void *)message)->check;
    if (cli->json) {
        rc = out_message(message, err);
    } else if (c) {
        AUTO_FREE char *local = out_clean(str_from(c->local_digest));
        AUTO_FREE char *remote = out_clean(str_from(c->remote_digest));
        const char *said = !c->differs ? "up to date" : *local ? "the registry has another one" : "not here";
        printf("%s\nhere      %s\nregistry  %s\n", said, *local ? local : "-", remote);
    }
    rpc_message_free(message);
    return rc;
}

/* ---- rm ---- */

static int run_rm(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct image_options *o = options;
    Davit__Control__V1__RemoveImageRequest req = DAVIT__CONTROL__V1__REMOVE_IMAGE_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    (void)n;
    req.server = lent(o->server);
    req.image = lent(operands[0]);
    int rc = call(cli, "RemoveImage", &req.base, &message, err);
    if (rc < 0)
        return rc;
    if (cli->json)
        rc = out_message(message, err);
    else
        printf("%s: %s\n", operands[0], ((const Davit__Control__V1__RemoveImageResponse *)(const void *)message)->outcome);
    rpc_message_free(message);
    return rc;
}

static const struct verb image_verbs[] = {
    {.name = "ls", .usage = "[OPTIONS]", .about = "list images and which containers have them", .opts = image_opts,
     .opts_size = sizeof(struct image_options), .run = run_ls, .example = "davit image ls --server web-1"},
    {.name = "pull", .usage = "[OPTIONS] IMAGE", .about = "fetch an image from its registry", .opts = image_opts,
     .opts_size = sizeof(struct image_options), .min_operands = 1, .max_operands = 1, .run = run_pull,
     .example = "davit image pull --server web-1 postgres:16"},
    {.name = "check", .usage = "[OPTIONS] IMAGE", .about = "tell whether the registry has another one under this name", .opts = image_opts,
     .opts_size = sizeof(struct image_options), .min_operands = 1, .max_operands = 1, .run = run_check,
     .example = "davit image check postgres:16"},
    {.name = "rm", .usage = "[OPTIONS] IMAGE", .about = "remove an image that no container has", .opts = image_opts,
     .opts_size = sizeof(struct image_options), .min_operands = 1, .max_operands = 1, .run = run_rm, .example = "davit image rm postgres:15"},
    {.name = NULL},
};

const struct verb verb_image = {
    .name = "image",
    .group = "Servers",
    .about = "ls, pull, check, rm: images of a server",
    .sub = image_verbs,
};
