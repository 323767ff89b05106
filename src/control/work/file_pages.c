/* SPDX-License-Identifier: Apache-2.0 */
/* file_pages — GET and PUT of /files/NAME, see tickets.h. What comes out of a container is never shown as a page: whatever it is and whatever it is
 * called, it is an attachment of bytes, in a sandbox of its own should a browser show it all the same. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "control/people/audit.h"
#include "control/people/doors.h"
#include "control/work/files.h"
#include "control/work/tickets.h"
#include "davit/control/v1/containers.davit.h"

enum { DISPOSITION_MAX = 8 * 1024, ERROR_MAX = 1024 };

static const char folder[] = "/files/";

static const char guards[] = "default-src 'none'; sandbox; frame-ancestors 'none'";

/* One use of a ticket, on the page's fiber. */
struct use {
    struct rpc_page *page;
    struct control *c;
    Davit__Control__V1__MakeTicketRequest *what;
    uint64_t size; /* of what is put */
    bool begun;    /* the answer */
    uint64_t bytes;
};

bool file_page_wanted(const struct rpc_page *p)
{
    return str_starts(str_from(rpc_page_target(p)), STR("/files/"));
}

static int head(struct rpc_page *p, int status, const char *type, const char *disposition, uint64_t length)
{
    struct http_field fields[] = {{"content-type", type},
                                  {"cache-control", "no-store"},
                                  {"x-content-type-options", "nosniff"},
                                  {"x-frame-options", "DENY"},
                                  {"content-security-policy", guards},
                                  {"cross-origin-resource-policy", "same-origin"},
                                  {"referrer-policy", "no-referrer"},
                                  {"content-disposition", disposition}};
    return rpc_page_begin(p, status, fields, ARRAY_LEN(fields) - (disposition ? 0 : 1), length);
}

static void tell(struct rpc_page *p, int status, const char *text)
{
    AUTO_BUF body = BUF_INIT(ERROR_MAX);
    if (buf_printf(&body, "%.*s\n", ERROR_MAX - 8, text) == 0 &&
        head(p, status, "text/plain; charset=utf-8", NULL, body.len) == 0)
        (void)rpc_page_write(p, buf_str(&body));
}

static void failed(struct rpc_page *p, const struct err *err)
{
    static const struct {
        enum err_code code;
        int status;
    } known[] = {{ERR_NOT_FOUND, 404}, {ERR_INVALID, 400},      {ERR_DENIED, 403},    {ERR_UNAUTHENTICATED, 401},
                 {ERR_EXISTS, 409},    {ERR_PRECONDITION, 409}, {ERR_EXHAUSTED, 507}, {ERR_UNAVAILABLE, 503}};
    int status = 500;
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (known[i].code == err->code)
            status = known[i].status;
    tell(p, status, err->msg);
}

/* A name that any browser takes, and the true one for those that can read it. */
int file_disposition(const char *path, bool archive, struct buf *out)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    name = *name ? name : "root";
    int rc = buf_append_cstr(out, "attachment; filename=\"");
    for (const char *at = name; rc == 0 && *at; at++) {
        bool plain = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') || strchr("._-", *at);
        rc = buf_append_byte(out, (uint8_t)(plain && !(at == name && *at == '.') ? *at : '_'));
    }
    if (rc == 0)
        rc = buf_printf(out, "%s\"; filename*=UTF-8''", archive ? ".tar" : "");
    if (rc == 0)
        rc = http_escape(out, str_from(name));
    return rc == 0 && archive ? buf_append_cstr(out, ".tar") : rc;
}

/* --- GET --- */

static int begin(struct use *u, struct err *err)
{
    AUTO_BUF disposition = BUF_INIT(DISPOSITION_MAX);
    if (u->begun)
        return 0;
    u->begun = true;
    if (file_disposition(u->what->path, u->what->archive, &disposition) != 0)
        return err_set(err, ERR_INVALID, "the path is too long");
    if (head(u->page, 200, "application/octet-stream", buf_cstr(&disposition), RPC_PAGE_OPEN) < 0)
        return err_set(err, ERR_CANCELLED, "the browser went away");
    return 0;
}

static int put_out(void *arg, struct str bytes, struct err *err)
{
    struct use *u = arg;
    int rc = begin(u, err);
    if (rc == 0 && rpc_page_write(u->page, bytes) < 0)
        rc = err_set(err, ERR_CANCELLED, "the browser went away");
    return rc;
}

static int run_get(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct use *u = ctx;
    Davit__Link__V1__FileCall file = DAVIT__LINK__V1__FILE_CALL__INIT;
    CLEANUP(file_move_release) struct file_move m = {.remote = NULL};
    (void)request;
    file.action =
        u->what->archive ? DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_GET : DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_READ;
    file.path = u->what->path;
    int rc = file_move_open(u->c, call, u->what->target, &file, "file.read", &m, err);
    if (rc == 0)
        rc = file_move_out(&m, put_out, u, err);
    if (rc == 0)
        rc = begin(u, err); /* of an empty file nothing came */
    if (rc == 0)
        rpc_page_end(u->page);
    return rc;
}

/* --- PUT --- */

static int get_in(void *arg, struct str *ret, struct err *err)
{
    struct use *u = arg;
    int rc = rpc_page_read(u->page, ret);
    return rc < 0 ? err_set(err, ERR_CANCELLED, "the browser went away") : rc;
}

static int run_put(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct use *u = ctx;
    Davit__Link__V1__FileCall file = DAVIT__LINK__V1__FILE_CALL__INIT;
    CLEANUP(file_move_release) struct file_move m = {.remote = NULL};
    (void)request;
    file.action =
        u->what->archive ? DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_PUT : DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_WRITE;
    file.path = u->what->path;
    file.size = u->size;
    int rc = file_move_open(u->c, call, u->what->target, &file, "file.write", &m, err);
    return rc < 0 ? rc : file_move_in(&m, get_in, u, &u->bytes, err);
}

static int size_of(const struct rpc_page *p, bool archive, uint64_t *ret)
{
    const char *length = rpc_page_field(p, "content-length");
    *ret = 0;
    return archive ? 0 : length && str_to_u64(str_from(length), INT64_MAX / 2, ret) == 0 ? 0 : -(int)ERR_INVALID;
}

/* --- Both --- */

static void use_ticket(struct use *u, bool writes, struct err *err)
{
    struct rpc_call *call = rpc_page_call(u->page);
    const struct rpc_service *service = &davit_control_v1_file_service;
    const struct rpc_method *method = &service->methods[writes ? 3 : 2];
    struct audit_record r = {.count = 1};
    Davit__Control__V1__ReadFileRequest q = DAVIT__CONTROL__V1__READ_FILE_REQUEST__INIT;
    q.target = u->what->target;
    q.path = u->what->path;
    audit_who_call(&r, call);
    rng_uuid(r.request);
    int rc = audit_run(u->c, &r, call, service, method, &q.base, writes ? run_put : run_get, u, err);
    if (rc < 0 && !u->begun)
        failed(u->page, err);
    else if (rc >= 0 && writes) {
        char text[64];
        (void)snprintf(text, sizeof(text), "%" PRIu64 " bytes", u->bytes);
        tell(u->page, 200, text);
    }
}

static int judge(struct control *c, struct rpc_page *p, bool local, bool writes, struct err *err)
{
    struct rpc_call *call = rpc_page_call(p);
    int rc = doors_judge(c, call, local, &davit_control_v1_file_service.methods[writes ? 3 : 2], err);
    const struct caller *k = caller_of(call);
    return rc < 0 ? rc : k && k->pass ? 0 : err_set(err, ERR_UNAUTHENTICATED, "you are not logged in");
}

static void answer(struct rpc_page *p, struct control *c, bool local)
{
    struct err err = ERR_INIT;
    struct use u = {.page = p, .c = c};
    struct str name = str_from(rpc_page_target(p) + sizeof(folder) - 1);
    bool writes = strcmp(rpc_page_method(p), "PUT") == 0;
    if (!writes && strcmp(rpc_page_method(p), "GET") != 0) {
        tell(p, 405, "only GET and PUT");
        return;
    }
    if (judge(c, p, local, writes, &err) < 0) {
        failed(p, &err);
        return;
    }
    u.what = tickets_take(c->tickets, name, caller_of(rpc_page_call(p))->pass->id, clock_mono());
    if (!u.what)
        tell(p, 404, "this link was good for one minute and one use");
    else if (u.what->write != writes)
        tell(p, 405, u.what->write ? "only PUT" : "only GET");
    else if (writes && size_of(p, u.what->archive, &u.size) < 0)
        tell(p, 411, "content-length is needed");
    else
        use_ticket(&u, writes, &err);
    u.what = rpc_message_free(u.what);
}

void file_page(struct rpc_page *p, struct control *c, bool local)
{
    c->fibers++; /* control_stop waits for it */
    answer(p, c, local);
    control_fiber_end(c);
}
