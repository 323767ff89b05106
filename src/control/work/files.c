/* SPDX-License-Identifier: Apache-2.0 */
/* files — see files.h: one move of bytes. */
#include "control/work/files.h"

#include "base/mem.h"
#include "control/people/audit.h"

static void note(struct control *c, struct rpc_call *call, const struct container_place *where, const char *action,
                 const char *path)
{
    struct audit_record r = {.count = 1};
    AUTO_FREE char *object = str_printf("%s %.60s:%.120s", where->subject, where->name, path);
    audit_who_call(&r, call);
    audit_what(&r, action, object);
    audit_how(&r, AUDIT_OK, NULL);
    audit_note(c, &r);
}

int file_move_open(struct control *c, struct rpc_call *call, const Davit__Control__V1__ContainerRef *target,
                   Davit__Link__V1__FileCall *file, const char *action, struct file_move *ret, struct err *err)
{
    Davit__Link__V1__CallOpen open = DAVIT__LINK__V1__CALL_OPEN__INIT;
    if (!target)
        return err_set(err, ERR_INVALID, "target: there is none");
    if (*text(file->path) != '/')
        return err_set(err, ERR_INVALID, "path: an absolute one of the container, such as /etc/hosts");
    int rc = containers_find(c, target, &ret->where, err);
    if (rc < 0)
        return rc;
    file->container_id = ret->where.id;
    open.body_case = DAVIT__LINK__V1__CALL_OPEN__BODY_FILE;
    open.file = file;
    note(c, call, &ret->where, action, file->path);
    return link_call_open(ret->where.server, &open, &ret->remote, err);
}

void file_move_release(struct file_move *m)
{
    m->remote = link_call_free(m->remote);
    container_place_release(&m->where);
}

int file_move_out(struct file_move *m, file_put_fn *put, void *arg, struct err *err)
{
    for (;;) {
        struct link_call_piece p;
        int rc = link_call_next(m->remote, &p, deadline_in(FILE_STALL), err);
        if (rc == 0 && p.data && p.data->data.len)
            rc = put(arg, (struct str){(const char *)p.data->data.data, p.data->data.len}, err);
        if (rc < 0 || p.end)
            return rc;
    }
}

int file_move_in(struct file_move *m, file_get_fn *get, void *arg, uint64_t *ret_bytes, struct err *err)
{
    const Davit__Link__V1__CallEnd *end;
    int rc = 0;
    *ret_bytes = 0;
    while (rc == 0) {
        struct str piece = STR("");
        rc = get(arg, &piece, err);
        if (rc < 0)
            return rc;
        *ret_bytes += piece.n;
        bool last = rc == 1;
        rc = link_call_send(m->remote, piece, last, deadline_in(FILE_STALL), err);
        if (rc < 0)
            return rc;
        if (last)
            break;
    }
    return link_call_end(m->remote, &end, deadline_in(FILE_WAIT), err);
}
