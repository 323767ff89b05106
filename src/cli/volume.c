/* SPDX-License-Identifier: Apache-2.0 */
/* volume — volumes of a server's engine: ls, rm. Nothing else removes what is in one, but `davit rm --volumes` and `davit prune --volumes`. */
#include <stdio.h>

#include "cli/out.h"
#include "davit/control/v1/images.davit.h"
#include "davit/control/v1/images.pb-c.h"

static const usec_t CALL_TIMEOUT = 6 * USEC_MINUTE;

struct volume_options {
    struct cli_common common;
    const char *server;
    bool force;
};

#define AT(field) offsetof(struct volume_options, field)
static const struct opt volume_opts[] = {
    {.name = "force", .type = OPT_BOOL, .offset = AT(force), .help = "remove it although Davit did not make it"},
    {.name = "server", .letter = 's', .type = OPT_STRING, .offset = AT(server), .arg = "SERVER", .help = "which server; needed if there are several"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static char *users_of(const Davit__Common__V1__Volume *v)
{
    AUTO_BUF text = BUF_INIT(16 * 1024);

    for (size_t i = 0; i < v->n_used_by; i++)
        (void)buf_printf(&text, "%s%s", i ? ", " : "", v->used_by[i]);
    return text.len ? buf_take(&text) : NULL;
}

static int run_ls(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    static const char *const heads[] = {"VOLUME", "SERVICE", "CREATED", "USED BY", NULL};
    const struct volume_options *o = options;
    Davit__Control__V1__ListVolumesRequest req = DAVIT__CONTROL__V1__LIST_VOLUMES_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct out_table t;

    (void)operands;
    (void)n;
    req.server = (char *)(uintptr_t)(o->server ? o->server : "");
    int rc = cli_call(cli, &davit_control_v1_image_service, "ListVolumes", &req.base, CALL_TIMEOUT, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__ListVolumesResponse *list = (const void *)message;
    if (cli->json) {
        rc = out_message(message, err);
    } else {
        out_table_init(&t, heads);
        for (size_t i = 0; i < list->n_volumes; i++) {
            const Davit__Common__V1__Volume *v = list->volumes[i];
            char *cells[] = {str_dup(str_from(v->name)), *v->project ? str_printf("%s/%s", v->project, v->service) : NULL, out_age(v->created_us),
                             users_of(v)};
            out_table_row(&t, cells);
        }
        out_table_print(cli, &t);
        out_table_release(&t);
        if (list->truncated)
            out_note(cli, "There are more volumes than are told here.");
    }
    rpc_message_free(message);
    return rc;
}

static int run_rm(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct volume_options *o = options;
    Davit__Control__V1__RemoveVolumeRequest req = DAVIT__CONTROL__V1__REMOVE_VOLUME_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    (void)n;
    req.server = (char *)(uintptr_t)(o->server ? o->server : "");
    req.name = (char *)(uintptr_t)operands[0];
    req.force = o->force;
    int rc = cli_call(cli, &davit_control_v1_image_service, "RemoveVolume", &req.base, CALL_TIMEOUT, &message, err);
    if (rc < 0)
        return rc;
    if (cli->json)
        rc = out_message(message, err);
    else
        printf("%s: %s\n", operands[0], ((const Davit__Control__V1__RemoveVolumeResponse *)(const void *)message)->outcome);
    rpc_message_free(message);
    return rc;
}

static const struct verb volume_verbs[] = {
    {.name = "ls", .usage = "[OPTIONS]", .about = "list volumes and which containers have them", .opts = volume_opts + 1,
     .opts_size = sizeof(struct volume_options), .run = run_ls, .example = "davit volume ls --server web-1"},
    {.name = "rm", .usage = "[OPTIONS] NAME", .about = "remove a volume that no container has, with what is in it", .opts = volume_opts,
     .opts_size = sizeof(struct volume_options), .min_operands = 1, .max_operands = 1, .run = run_rm,
     .example = "davit volume rm davit-shop-data"},
    {.name = NULL},
};

const struct verb verb_volume = {
    .name = "volume",
    .group = "Servers",
    .about = "ls, rm: volumes of a server",
    .sub = volume_verbs,
};
