/* SPDX-License-Identifier: Apache-2.0 */
/* files_remove — see files.h: removal, by way of inside.h, else by the engine's archives. The engine would empty what is mounted below a folder, so
 * that is looked for first, by the places where the mounts really are. */
#include <string.h>

#include "host/work/files_internal.h"
#include "host/work/inside.h"

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
        if (str_eq(buf_str(real), STR("/"))) /* where a link led */
            buf_clear(real);
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

/* Appends where @mount, a folder of the container, really is, with "/." behind it. */
static int find_mount(struct file_call *f, const char *mount, struct buf *at, struct err *err)
{
    AUTO_FREE char *inner = str_printf("%s/.", mount);
    struct err missing = ERR_INIT;
    int rc = resolve(f->w, f->info.id, inner, at, &missing);
    if (rc == -(int)ERR_NOT_FOUND) { /* made with the first start */
        buf_clear(at);
        rc = buf_append_cstr(at, inner);
    }
    if (rc < 0 && err)
        *err = missing;
    return rc;
}

/* What the engine would remove or empty along with @real: mounts of the container, and what is mounted on this machine below one of them. */
static int judge_mounts(struct file_call *f, const char *real, char kind, struct err *err)
{
    AUTO_BUF top = BUF_INIT(2 * FILES_PATH_MAX);
    AUTO_FREE char *folder = str_printf("%s/", real);
    const struct docker_container_mount *on = NULL;
    for (size_t i = 0; i < f->info.n_mounts + f->info.n_tmpfs; i++) {
        const struct docker_container_mount *m = i < f->info.n_mounts ? &f->info.mounts[i] : NULL;
        const char *mount = m ? m->target : f->info.tmpfs[i - f->info.n_mounts];
        AUTO_BUF found = BUF_INIT(2 * FILES_PATH_MAX);
        int rc = find_mount(f, mount, &found, err);
        if (rc < 0)
            return rc;
        struct str at = {found.data, found.len - 1};
        if (str_starts(at, str_from(folder)))
            return err_set(err, ERR_PRECONDITION, "%s is not removed: %s is mounted there", f->path, mount);
        if (at.n <= top.len || !str_starts(str_from(folder), at))
            continue;
        on = m;
        buf_clear(&top);
        if (buf_append_str(&top, at) != 0)
            return err_set(err, ERR_INVALID, "the path is too long");
    }
    return kind == 'd' && on && *on->source == '/' ? files_judge_host(f, real, (struct str){top.data, top.len - 1}, on, err) : 0;
}

/* Of a folder that is removed only when nothing is in it. */
static int judge_empty(struct file_call *f, struct err *err)
{
    int rc = files_has_any(f, err);
    if (rc <= 0)
        return rc;
    (void)err_set(err, ERR_PRECONDITION, "%s is not empty", f->path);
    err_hint(err, "a folder with what is in it: --recursive");
    return -(int)ERR_PRECONDITION;
}

/* There is no call that judges and removes in one step: a link may have come onto the way while we looked. */
static int judge_again(struct file_call *f, const char *real, struct err *err)
{
    AUTO_BUF now = BUF_INIT(2 * FILES_PATH_MAX);
    int rc = resolve(f->w, f->info.id, f->path, &now, err);
    if (rc == 0 && strcmp(buf_cstr(&now), real) != 0)
        rc = err_set(err, ERR_PRECONDITION, "%s is not removed: it leads elsewhere than a moment ago", f->path);
    return rc;
}

static int by_archive(struct file_call *f, struct err *err)
{
    AUTO_BUF path = BUF_INIT(2 * FILES_PATH_MAX);
    struct docker_path_stat st = {0};
    struct err why = ERR_INIT;
    struct str folder;
    const char *name;
    int rc = resolve(f->w, f->info.id, f->path, &path, err);
    const char *real = buf_cstr(&path);
    if (rc == 0 && inside_is_top(real))
        rc = err_set(err, ERR_DENIED, "%s is not removed: it is %s, which no container can do without", f->path, real);
    if (rc == 0)
        rc = docker_archive_stat(f->w->docker, f->info.id, real, &st, deadline_in(ENGINE_CALL), err);
    if (rc == 0 && st.kind == 'd' && !f->m->recursive)
        rc = judge_empty(f, err);
    if (rc == 0)
        rc = judge_mounts(f, real, st.kind, err);
    docker_path_stat_release(&st);
    if (rc == 0)
        rc = judge_again(f, real, err);
    if (rc < 0)
        return rc;
    files_split(real, &folder, &name);
    AUTO_FREE char *parent = str_dup(folder);
    rc = docker_archive_remove(f->w->docker, f->info.id, parent, name, deadline_in(RM_WAIT), &why);
    return rc < 0 ? err_set(err, why.code, "%s could not be removed: %s", f->path, why.msg) : 0;
}

int files_do_remove(struct file_call *f, struct err *err)
{
    struct inside *in = NULL;
    int rc = inside_is_top(f->path) ? err_set(err, ERR_DENIED, "%s is not removed: no container can do without it", f->path) : 0;
    if (rc == 0 && files_read_only(&f->info, f->path))
        rc = err_set(err, ERR_PRECONDITION, "%s is on a read-only file system", f->path);
    if (rc < 0)
        return rc;
    rc = inside_open(f->w, &f->info, f->path, &in, NULL);
    if (rc == 1)
        return by_archive(f, err);
    if (rc == 0)
        rc = inside_remove(in, f->m->recursive, err);
    (void)inside_close(in);
    return rc;
}
