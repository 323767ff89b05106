/* SPDX-License-Identifier: Apache-2.0 */
/* files — see files.h: what a call asks for, by the engine's archives or by way of inside.h. */
#include "host/work/files.h"

#include <stdio.h>
#include <string.h>

#include "base/tar.h"
#include "host/link/policy.h"
#include "host/work/calls.h"
#include "host/work/files_internal.h"

/* --- What the engine tells ---- */

struct first {
    struct files_list list;
    const char *name;
    bool have;
    struct tar_reader tar;
    struct err err;
};

static int first_entry(void *arg, const struct tar_entry *e, struct err *err)
{
    struct first *f = arg;
    Davit__Common__V1__FileEntry facts = DAVIT__COMMON__V1__FILE_ENTRY__INIT;
    (void)err;
    if (f->have)
        return 0;
    files_facts(e, &facts);
    f->have = true;
    return files_list_add(&f->list, str_from(f->name), &facts, str_from(e->kind == TAR_SYMLINK ? e->link : ""));
}

static int no_bytes(void *arg, struct str bytes, struct err *err)
{
    (void)arg;
    (void)bytes;
    (void)err;
    return 0;
}

static int no_end(void *arg, struct err *err)
{
    (void)arg;
    (void)err;
    return 0;
}

static int first_sink(void *arg, struct str bytes)
{
    struct first *f = arg;
    int rc = tar_feed(&f->tar, bytes, &f->err);
    return rc < 0 ? rc : f->have ? DOCKER_STOPPED : 0;
}

int files_stat(struct work *w, const char *id, const char *path, Davit__Link__V1__FileEnd **ret, struct err *err)
{
    static const struct tar_handler handler = {first_entry, no_bytes, no_end};
    AUTO_FREE struct first *f = NEW(struct first);
    struct docker_path_stat st = {0};
    struct str folder;
    *ret = NULL;
    int rc = docker_archive_stat(w->docker, id, path, &st, deadline_in(ENGINE_CALL), err);
    docker_path_stat_release(&st);
    if (rc < 0)
        return rc;
    f->list = files_list_new();
    files_split(path, &folder, &f->name);
    f->name = *f->name ? f->name : "/";
    tar_reader_init(&f->tar, false, &handler, f);
    rc = docker_archive_get(w->docker, id, path, first_sink, f, deadline_in(ENGINE_CALL), err);
    if (rc < 0 && f->err.code && err)
        *err = f->err;
    if (rc == 0 && !f->have)
        rc = err_set(err, ERR_NOT_FOUND, "there is no %s in this container", path);
    tar_reader_release(&f->tar);
    *ret = f->list.end;
    return rc;
}

/* Where @path leads, if it is a link; its kind. */
int files_follow(struct work *w, const char *id, const char *path, struct buf *ret, char *ret_kind, struct err *err)
{
    struct docker_path_stat st = {0};
    int rc = docker_archive_stat(w->docker, id, path, &st, deadline_in(ENGINE_CALL), err);
    if (rc == 0 && st.kind == 'l' && *st.target == '/') {
        rc = buf_append_cstr(ret, st.target);
        docker_path_stat_release(&st);
        if (rc == 0)
            rc = docker_archive_stat(w->docker, id, buf_cstr(ret), &st, deadline_in(ENGINE_CALL), err);
    } else if (rc == 0) {
        rc = buf_append_cstr(ret, path);
    }
    *ret_kind = rc == 0 ? st.kind : '-';
    docker_path_stat_release(&st);
    return rc;
}

/* --- Bytes out ---- */

struct out {
    struct call *call;
    bool have, raw;
    int rc;
    struct tar_reader tar;
    struct err err;
};

static int out_entry(void *arg, const struct tar_entry *e, struct err *err)
{
    struct out *o = arg;
    if (o->have || e->kind != TAR_FILE)
        return err_set(err, ERR_INVALID, "it is no file any more");
    o->have = true;
    return 0;
}

/* While its archive is read the engine does nothing else with the container, so nobody may hold it up for ever. */
static int pass_out(struct out *o, struct str bytes)
{
    int rc = call_send_within(o->call, 0, bytes, FILES_STALL);
    return rc == -(int)ERR_DEADLINE ? err_set(&o->err, ERR_DEADLINE, "what came was not taken for too long") : rc;
}

static int out_bytes(void *arg, struct str bytes, struct err *err)
{
    (void)err;
    return pass_out(arg, bytes);
}

static int out_sink(void *arg, struct str bytes)
{
    struct out *o = arg;
    return o->raw ? pass_out(o, bytes) : tar_feed(&o->tar, bytes, &o->err);
}

static int send_archive(struct file_call *f, const char *path, bool raw, struct err *err)
{
    static const struct tar_handler handler = {out_entry, out_bytes, no_end};
    AUTO_FREE struct out *o = NEW(struct out);
    o->call = f->call;
    o->raw = raw;
    tar_reader_init(&o->tar, false, &handler, o);
    int rc = docker_archive_get(f->w->docker, f->info.id, path, out_sink, o, deadline_in(FILES_TRANSFER_MAX), err);
    if (rc == 0 && !raw)
        rc = tar_reader_end(&o->tar, err);
    if (rc < 0 && o->err.code && err)
        *err = o->err;
    tar_reader_release(&o->tar);
    return rc;
}

static int do_read(struct file_call *f, struct err *err)
{
    AUTO_BUF path = BUF_INIT(2 * FILES_PATH_MAX);
    char kind;
    int rc = files_follow(f->w, f->info.id, f->path, &path, &kind, err);
    if (rc == 0 && kind != 'f')
        rc = err_set(err, ERR_INVALID, "%s is %s", f->path, kind == 'd' ? "a folder" : "no file");
    return rc < 0 ? rc : send_archive(f, buf_cstr(&path), false, err);
}

/* --- Bytes in ---- */

static int judge_read_only(const struct file_call *f, struct err *err)
{
    return files_read_only(&f->info, f->path) ? err_set(err, ERR_PRECONDITION, "%s is on a read-only file system", f->path) : 0;
}

struct in {
    struct call *call;
    struct str rest; /* of what came */
    int rc;
};

static int in_source(void *arg, void *dst, size_t size, size_t *ret_n)
{
    struct in *in = arg;
    if (in->rc == 0 && in->rest.n == 0)
        in->rc = call_input(in->call, &in->rest, deadline_in(FILES_STALL));
    *ret_n = in->rc == 0 ? (in->rest.n < size ? in->rest.n : size) : 0;
    memcpy(dst, in->rest.p ? in->rest.p : "", *ret_n);
    in->rest = (struct str){in->rest.p + *ret_n, in->rest.n - *ret_n};
    return in->rc < 0 ? in->rc : 0;
}

static int do_put(struct file_call *f, struct err *err)
{
    struct in in = {.call = f->call};
    int rc = judge_read_only(f, err);
    return rc < 0 ? rc
                  : docker_archive_put(f->w->docker, f->info.id, f->path, in_source, &in, deadline_in(FILES_TRANSFER_MAX), err);
}

struct text {
    struct str rest;
};

static int text_source(void *arg, void *dst, size_t size, size_t *ret_n)
{
    struct text *t = arg;
    *ret_n = t->rest.n < size ? t->rest.n : size;
    memcpy(dst, t->rest.p, *ret_n);
    t->rest = (struct str){t->rest.p + *ret_n, t->rest.n - *ret_n};
    return 0;
}

static int do_mkdir(struct file_call *f, struct err *err)
{
    AUTO_BUF tar = BUF_INIT(64 * 1024);
    struct docker_path_stat st = {0};
    struct tar_entry e = {
        .kind = TAR_DIR, .link = "", .mode = f->m->mode ? f->m->mode & 07777 : 0755, .uid = f->m->uid, .gid = f->m->gid};
    struct str folder;
    int rc = docker_archive_stat(f->w->docker, f->info.id, f->path, &st, deadline_in(ENGINE_CALL), NULL);
    char kind = st.kind;
    docker_path_stat_release(&st);
    if (rc == 0)
        return kind == 'd' ? 0 : err_set(err, ERR_EXISTS, "%s is there and no folder", f->path);
    rc = judge_read_only(f, err);
    files_split(f->path, &folder, &e.name);
    AUTO_FREE char *parent = str_dup(folder);
    e.mtime = (int64_t)(clock_real() / USEC_SEC);
    if (rc == 0 && (tar_put(&tar, &e) != 0 || buf_append(&tar, tar_zeros, TAR_END) != 0))
        rc = err_set(err, ERR_INVALID, "%s is not the name of a folder", f->path);
    struct text t = {buf_str(&tar)};
    return rc < 0 ? rc : docker_archive_put(f->w->docker, f->info.id, parent, text_source, &t, deadline_in(ENGINE_CALL), err);
}

/* --- The call ---- */

static int dispatch(struct file_call *f, Davit__Link__V1__FileEnd **ret, struct err *err)
{
    switch (f->m->action) {
    case DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_LIST: return files_do_list(f, ret, err);
    case DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_STAT: return files_stat(f->w, f->info.id, f->path, ret, err);
    case DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_READ: return do_read(f, err);
    case DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_GET: return send_archive(f, f->path, true, err);
    case DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_PUT: return do_put(f, err);
    case DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_WRITE: return files_do_write(f, err);
    case DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_REMOVE: return files_do_remove(f, err);
    case DAVIT__LINK__V1__FILE_CALL__ACTION__ACTION_MKDIR: return do_mkdir(f, err);
    default: return err_set(err, ERR_UNIMPLEMENTED, "this agent does not know what is to be done with the file");
    }
}

int call_file(struct call *c, Davit__Link__V1__CallEnd *end, const char **reason, struct err *err)
{
    const Davit__Link__V1__FileCall *m = call_open_message(c)->file;
    AUTO_BUF path = BUF_INIT(FILES_PATH_MAX + 1);
    struct file_call f = {.call = c, .w = call_work(c), .m = m};
    const struct policy_ask ask = {.exec = true};
    /* Who may write files may run what he likes, and who may read them needs no program. */
    int rc = policy_check(f.w->policy, &ask, reason, err);
    if (rc == 0)
        rc = files_clean(m->path, &path, err);
    if (rc == 0)
        rc = docker_container_inspect(f.w->docker, m->container_id, &f.info, deadline_in(ENGINE_CALL), err);
    if (rc < 0)
        return rc;
    f.path = buf_cstr(&path);
    if (files_is_ours(&f.info))
        rc = err_set(err, ERR_DENIED, "%s is a part of Davit: its files are nobody's business", f.info.name);
    else
        rc = dispatch(&f, &end->file, err);
    docker_container_release(&f.info);
    if (end->file)
        end->result_case = DAVIT__LINK__V1__CALL_END__RESULT_FILE;
    return rc;
}
