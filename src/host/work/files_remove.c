/* SPDX-License-Identifier: Apache-2.0 */
/* files_remove — see files.h: removal, by way of inside.h, else by the container's own `rm`. Of the second nothing is believed: what counts is
 * whether
 * the engine finds the file afterwards. */
#include <stdio.h>
#include <string.h>

#include "host/work/files_internal.h"
#include "host/work/inside.h"

enum { SAID_MAX = 1024, READ_SIZE = 16 * 1024 };

#define RM_WAIT (20 * USEC_MINUTE)

/* @path without links on the way, as the engine resolves them: appended to @real. */
static int resolve(struct work *w, const char *id, const char *path, struct buf *real, struct err *err)
{
    struct str folder, rest;
    const char *name;
    files_split(path, &folder, &name);
    rest = folder;
    while (rest.n) {
        struct str part = str_cut(&rest, '/');
        AUTO_BUF at = BUF_INIT(2 * FILES_PATH_MAX);
        char kind;
        if (part.n == 0)
            continue;
        if (buf_append_byte(real, '/') != 0 || buf_append_str(real, part) != 0)
            return err_set(err, ERR_INVALID, "the path is too long");
        int rc = files_follow(w, id, buf_cstr(real), &at, &kind, err);
        if (rc < 0)
            return rc;
        buf_clear(real);
        if (buf_append_str(real, buf_str(&at)) != 0)
            return err_set(err, ERR_INVALID, "the path is too long");
    }
    if ((real->len != 1 || *real->data != '/') && buf_append_byte(real, '/') != 0)
        return err_set(err, ERR_INVALID, "the path is too long");
    return (real->len || buf_append_byte(real, '/') == 0) && buf_append_cstr(real, name) == 0
               ? 0
               : err_set(err, ERR_INVALID, "the path is too long");
}

/* Reads to the end of the process; what it says is kept, as far as it fits. */
static int drain(struct conn *conn, struct buf *said, struct err *err)
{
    struct docker_demux demux = {.n_head = 0};
    AUTO_FREE char *bytes = mem_alloc(READ_SIZE);
    for (;;) {
        size_t n = 0;
        int rc = conn_read(conn, bytes, READ_SIZE, deadline_in(RM_WAIT), &n, err), stream;
        if (rc < 0 || n == 0)
            return rc;
        struct str in = {bytes, n}, piece;
        bool end;
        while ((rc = docker_demux_next(&demux, &in, &stream, &piece, &end, err)) == 1)
            (void)buf_append(said, piece.p, piece.n < said->max - said->len ? piece.n : said->max - said->len);
        if (rc < 0)
            return rc;
    }
}

static int run_in(struct file_call *f, const char *const *command, size_t n, struct buf *said, struct err *err)
{
    const struct docker_exec_spec spec = {.command = command, .n_command = n, .user = "0"};
    char id[DOCKER_ID_SIZE];
    struct conn *conn = NULL;
    int rc = docker_exec_start(f->w->docker, f->info.id, &spec, id, &conn, deadline_in(ENGINE_CALL), err);
    if (rc == 0)
        rc = drain(conn, said, err);
    conn = conn_close(conn);
    return rc;
}

/* @why: there is no better way. */
static int by_program(struct file_call *f, const struct err *why, struct err *err)
{
    AUTO_BUF real = BUF_INIT(2 * FILES_PATH_MAX), said = BUF_INIT(SAID_MAX);
    struct docker_path_stat st = {0};
    if (f->info.state != DOCKER_STATE_RUNNING) {
        (void)err_set(err, ERR_PRECONDITION, "%s cannot be removed: %s, and a program of the container can only while it runs",
                      f->path, why->msg);
        err_hint(err, "start the container, or run the agent of this server as root");
        return -(int)ERR_PRECONDITION;
    }
    int rc = resolve(f->w, f->info.id, f->path, &real, err);
    if (rc == 0 && inside_is_top(buf_cstr(&real)))
        rc = err_set(err, ERR_DENIED, "%s is not removed: it is %s, which no container can do without", f->path, buf_cstr(&real));
    if (rc == 0)
        rc = docker_archive_stat(f->w->docker, f->info.id, buf_cstr(&real), &st, deadline_in(ENGINE_CALL), err);
    bool folder = st.kind == 'd';
    docker_path_stat_release(&st);
    if (rc < 0)
        return rc;
    const char *const command[] = {folder && !f->m->recursive ? "rmdir" : "rm",
                                   f->m->recursive ? "-rf"
                                   : folder        ? "--"
                                                   : "-f",
                                   folder && !f->m->recursive ? buf_cstr(&real) : "--", buf_cstr(&real)};
    (void)run_in(f, command, folder && !f->m->recursive ? 3 : 4, &said, NULL);
    rc = docker_archive_stat(f->w->docker, f->info.id, buf_cstr(&real), &st, deadline_in(ENGINE_CALL), NULL);
    docker_path_stat_release(&st);
    if (rc == -(int)ERR_NOT_FOUND)
        return 0;
    AUTO_FREE char *text = text_tail(buf_str(&said), 300);
    (void)err_set(err, ERR_PRECONDITION, "%s could not be removed: %s", f->path, *text ? text : why->msg);
    err_hint(err, folder && !f->m->recursive ? "a folder with what is in it: --recursive"
                                             : "the container must have the program rm, or the agent of this server run as root");
    return -(int)ERR_PRECONDITION;
}

int files_do_remove(struct file_call *f, struct err *err)
{
    struct inside *in = NULL;
    struct err why = ERR_INIT;
    int rc = inside_is_top(f->path) ? err_set(err, ERR_DENIED, "%s is not removed: no container can do without it", f->path) : 0;
    if (rc == 0 && files_read_only(&f->info, f->path))
        rc = err_set(err, ERR_PRECONDITION, "%s is on a read-only file system", f->path);
    if (rc < 0)
        return rc;
    rc = inside_open(f->w, &f->info, f->path, &in, &why);
    if (rc == 1)
        return by_program(f, &why, err);
    if (rc == 0)
        rc = inside_remove(in, f->m->recursive, err);
    (void)inside_close(in);
    return rc;
}
