/* SPDX-License-Identifier: Apache-2.0 */
/* files_rpc — FileService. What has bytes is in files.h. */
#include <string.h>

#include "control/work/files.h"
#include "control/work/tickets.h"

static int without_bytes(struct rpc_call *call, struct control *c, const Davit__Control__V1__ContainerRef *target,
                         Davit__Link__V1__FileCall *file, const char *action, struct file_move *m,
                         const Davit__Link__V1__CallEnd **ret, struct err *err)
{
    int rc = file_move_open(c, call, target, file, action, m, err);
    return rc < 0 ? rc : link_call_end(m->remote, ret, deadline_in(FILE_WAIT), err);
}

static int no_list(struct err *err)
{
    return err_set(err, ERR_INTERNAL, "the agent did not say what is there");
}

static int run_list(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__ListFilesRequest *q = (const void *)request;
    Davit__Control__V1__ListFilesResponse a = DAVIT__CONTROL__V1__LIST_FILES_RESPONSE__INIT;
    Davit__Link__V1__FileCall file = DAVIT__LINK__V1__FILE_CALL__INIT;
    const Davit__Link__V1__CallEnd *end;
    CLEANUP(file_move_release) struct file_move m = {.remote = NULL};
    file.action = DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_LIST;
    file.path = q->path;
    int rc = without_bytes(call, ctx, q->target, &file, "file.list", &m, &end, err);
    if (rc == 0 && end->result_case != DAVIT__LINK__V1__CALL_END__RESULT_FILE)
        rc = no_list(err);
    if (rc < 0)
        return rc;
    a.entries = end->file->entries;
    a.n_entries = end->file->n_entries;
    a.truncated = end->file->truncated;
    a.container = m.where.name;
    return rpc_send(call, &a.base);
}

static int run_stat(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__StatFileRequest *q = (const void *)request;
    Davit__Control__V1__StatFileResponse a = DAVIT__CONTROL__V1__STAT_FILE_RESPONSE__INIT;
    Davit__Link__V1__FileCall file = DAVIT__LINK__V1__FILE_CALL__INIT;
    const Davit__Link__V1__CallEnd *end;
    CLEANUP(file_move_release) struct file_move m = {.remote = NULL};
    file.action = DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_STAT;
    file.path = q->path;
    int rc = without_bytes(call, ctx, q->target, &file, "file.stat", &m, &end, err);
    if (rc == 0 && (end->result_case != DAVIT__LINK__V1__CALL_END__RESULT_FILE || end->file->n_entries != 1))
        rc = no_list(err);
    if (rc < 0)
        return rc;
    a.entry = end->file->entries[0];
    return rpc_send(call, &a.base);
}

static int run_remove(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__RemoveFileRequest *q = (const void *)request;
    Davit__Control__V1__RemoveFileResponse a = DAVIT__CONTROL__V1__REMOVE_FILE_RESPONSE__INIT;
    Davit__Link__V1__FileCall file = DAVIT__LINK__V1__FILE_CALL__INIT;
    const Davit__Link__V1__CallEnd *end;
    CLEANUP(file_move_release) struct file_move m = {.remote = NULL};
    file.action = DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_REMOVE;
    file.path = q->path;
    file.recursive = q->recursive;
    int rc = without_bytes(call, ctx, q->target, &file, "file.remove", &m, &end, err);
    return rc < 0 ? rc : rpc_send(call, &a.base);
}

static int run_mkdir(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__MakeFolderRequest *q = (const void *)request;
    Davit__Control__V1__MakeFolderResponse a = DAVIT__CONTROL__V1__MAKE_FOLDER_RESPONSE__INIT;
    Davit__Link__V1__FileCall file = DAVIT__LINK__V1__FILE_CALL__INIT;
    const Davit__Link__V1__CallEnd *end;
    CLEANUP(file_move_release) struct file_move m = {.remote = NULL};
    file.action = DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_MKDIR;
    file.path = q->path;
    file.mode = q->mode;
    file.uid = q->uid;
    file.gid = q->gid;
    int rc = without_bytes(call, ctx, q->target, &file, "file.mkdir", &m, &end, err);
    return rc < 0 ? rc : rpc_send(call, &a.base);
}

static int pass_on(void *arg, struct str bytes, struct err *err)
{
    Davit__Control__V1__ReadFileResponse a = DAVIT__CONTROL__V1__READ_FILE_RESPONSE__INIT;
    a.data = (ProtobufCBinaryData){bytes.n, (uint8_t *)(uintptr_t)bytes.p};
    return rpc_send(arg, &a.base) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

static int run_read(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__ReadFileRequest *q = (const void *)request;
    Davit__Link__V1__FileCall file = DAVIT__LINK__V1__FILE_CALL__INIT;
    CLEANUP(file_move_release) struct file_move m = {.remote = NULL};
    file.action = q->archive ? DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_GET : DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_READ;
    file.path = q->path;
    int rc = file_move_open(ctx, call, q->target, &file, "file.read", &m, err);
    return rc < 0 ? rc : file_move_out(&m, pass_on, call, err);
}

/* The messages behind the first one. */
struct incoming {
    struct rpc_call *call;
    ProtobufCMessage *last;
};

static int next_part(void *arg, struct str *ret, struct err *err)
{
    struct incoming *in = arg;
    in->last = rpc_message_free(in->last);
    int rc = rpc_recv(in->call, &in->last, err);
    if (rc != 0)
        return rc;
    const Davit__Control__V1__WriteFileRequest *q = (const void *)in->last;
    if (q->start)
        return err_set(err, ERR_INVALID, "start: only in the first message");
    *ret = (struct str){(const char *)q->data.data, q->data.len};
    return 0;
}

static int write_file(struct rpc_call *call, struct control *c, const Davit__Control__V1__WriteFileStart *q, struct incoming *in,
                      struct err *err)
{
    Davit__Control__V1__WriteFileResponse a = DAVIT__CONTROL__V1__WRITE_FILE_RESPONSE__INIT;
    Davit__Link__V1__FileCall file = DAVIT__LINK__V1__FILE_CALL__INIT;
    CLEANUP(file_move_release) struct file_move m = {.remote = NULL};
    if (!q)
        return err_set(err, ERR_INVALID, "start: the first message must have it");
    file.action = q->archive ? DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_PUT : DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_WRITE;
    file.path = q->path;
    file.size = q->size;
    file.mode = q->mode;
    file.uid = q->uid;
    file.gid = q->gid;
    int rc = file_move_open(c, call, q->target, &file, "file.write", &m, err);
    if (rc == 0)
        rc = file_move_in(&m, next_part, in, &a.bytes, err);
    return rc < 0 ? rc : rpc_send(call, &a.base);
}

static int run_write(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct incoming in = {.call = call};
    ProtobufCMessage *first = NULL;
    (void)request; /* the client streams */
    int rc = rpc_recv(call, &first, err);
    if (rc == 1)
        rc = err_set(err, ERR_INVALID, "start: the first message must have it");
    if (rc == 0)
        rc = write_file(call, ctx, ((const Davit__Control__V1__WriteFileRequest *)first)->start, &in, err);
    (void)rpc_message_free(in.last);
    (void)rpc_message_free(first);
    return rc;
}

static int run_ticket(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    const Davit__Control__V1__MakeTicketRequest *q = (const void *)request;
    Davit__Control__V1__MakeTicketResponse a = DAVIT__CONTROL__V1__MAKE_TICKET_RESPONSE__INIT;
    struct control *c = ctx;
    const struct caller *k = caller_of(call);
    struct container_place where = {0};
    char path[64], name[TICKET_NAME_SIZE];
    if (!k || !k->pass)
        return err_set(err, ERR_PRECONDITION, "tickets are for browsers; ReadFile and WriteFile are for others");
    if (!q->target || *text(q->path) != '/')
        return err_set(err, ERR_INVALID, "target and an absolute path are needed");
    int rc = containers_find(c, q->target, &where, err);
    container_place_release(&where);
    if (rc == 0)
        rc = k->pass ? tickets_make(c->tickets, k->pass->id, q, clock_mono(), name, err)
                     : err_set(err, ERR_UNAUTHENTICATED, "the session has ended");
    if (rc < 0)
        return rc;
    (void)snprintf(path, sizeof(path), "/files/%s", name);
    a.path = path;
    a.expires_us = clock_real() + TICKET_LIFE;
    return rpc_send(call, &a.base);
}

CONTROL_HANDLER(run_list)
CONTROL_HANDLER(run_stat)
CONTROL_HANDLER(run_read)
CONTROL_HANDLER(run_write)
CONTROL_HANDLER(run_remove)
CONTROL_HANDLER(run_ticket)
CONTROL_HANDLER(run_mkdir)

const struct rpc_handler files_handlers[] = {{.run = run_list_tracked},  {.run = run_stat_tracked},   {.run = run_read_tracked},
                                             {.run = run_write_tracked}, {.run = run_remove_tracked}, {.run = run_ticket_tracked},
                                             {.run = run_mkdir_tracked}};
