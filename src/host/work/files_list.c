/* SPDX-License-Identifier: Apache-2.0 */
/* files_list — see files.h: what is in a folder. */
#include <string.h>

#include "host/work/files_internal.h"
#include "host/work/inside.h"
#include "rpc/rpc.h"

struct scan {
    struct files_list list;
    bool root; /* of the container: names have no folder before them */
    bool begun, full;
    bool one; /* is enough: whether there is any */
    uint64_t bytes;
    usec_t until;
    struct tar_reader tar;
    struct err err;
};

/* The name below the folder; empty: the folder itself. */
static struct str below(const struct scan *s, const char *name)
{
    struct str rest = str_from(name);
    while (rest.n && (*rest.p == '/' || str_starts(rest, STR("./"))))
        rest = (struct str){rest.p + 1, rest.n - 1};
    if (!s->root)
        (void)str_cut(&rest, '/');
    while (rest.n && rest.p[rest.n - 1] == '/')
        rest.n--;
    return rest;
}

static int scan_entry(void *arg, const struct tar_entry *e, struct err *err)
{
    struct scan *s = arg;
    Davit__Common__V1__FileEntry facts = DAVIT__COMMON__V1__FILE_ENTRY__INIT;
    struct str name = below(s, e->name);
    if (!s->begun && !s->root && e->kind != TAR_DIR)
        return err_set(err, ERR_INVALID, "it is no folder");
    s->begun = true;
    if (name.n == 0 || memchr(name.p, '/', name.n))
        return 0;
    files_facts(e, &facts);
    s->full = s->full || files_list_add(&s->list, name, &facts, str_from(e->kind == TAR_SYMLINK ? e->link : "")) == 1 || s->one;
    return 0;
}

static int scan_bytes(void *arg, struct str bytes, struct err *err)
{
    (void)arg;
    (void)bytes;
    (void)err;
    return 0;
}

static int scan_end(void *arg, struct err *err)
{
    (void)arg;
    (void)err;
    return 0;
}

static int scan_sink(void *arg, struct str bytes)
{
    struct scan *s = arg;
    int rc = tar_feed(&s->tar, bytes, &s->err);
    s->bytes += bytes.n;
    if (rc == 0 && (s->bytes > FILES_PASS_MAX || clock_mono() > s->until)) {
        s->full = true;
        s->list.end->truncated = true;
    }
    return rc < 0 ? rc : s->full ? DOCKER_STOPPED : 0;
}

static int scan_archive(struct file_call *f, bool one, Davit__Link__V1__FileEnd **ret, struct err *err)
{
    static const struct tar_handler handler = {scan_entry, scan_bytes, scan_end};
    AUTO_BUF path = BUF_INIT(2 * FILES_PATH_MAX);
    AUTO_FREE struct scan *s = NEW(struct scan);
    char kind;
    int rc = files_follow(f->w, f->info.id, f->path, &path, &kind, err);
    if (rc == 0 && kind != 'd')
        rc = err_set(err, ERR_INVALID, "%s is no folder", f->path);
    if (rc < 0)
        return rc;
    s->list = files_list_new();
    s->one = one;
    s->root = strcmp(buf_cstr(&path), "/") == 0;
    s->until = deadline_in(FILES_LIST_WAIT);
    tar_reader_init(&s->tar, false, &handler, s);
    rc = docker_archive_get(f->w->docker, f->info.id, buf_cstr(&path), scan_sink, s, deadline_in(FILES_LIST_WAIT + ENGINE_CALL),
                            err);
    if (rc < 0 && s->err.code && err)
        *err = s->err;
    tar_reader_release(&s->tar);
    files_list_done(&s->list);
    *ret = s->list.end;
    return rc;
}

int files_has_any(struct file_call *f, struct err *err)
{
    Davit__Link__V1__FileEnd *end = NULL;
    int rc = scan_archive(f, true, &end, err);
    if (rc == 0)
        rc = end->n_entries > 0 || end->truncated;
    (void)rpc_message_free(end);
    return rc;
}

int files_do_list(struct file_call *f, Davit__Link__V1__FileEnd **ret, struct err *err)
{
    struct inside *in = NULL;
    int rc = inside_open(f->w, &f->info, f->path, &in, NULL);
    if (rc == 1)
        return scan_archive(f, false, ret, err);
    if (rc == 0)
        rc = inside_list(in, ret, err);
    (void)inside_close(in);
    return rc;
}
