/* SPDX-License-Identifier: Apache-2.0 */
/* files_mounts — see files_internal.h: file systems of this machine below a folder that a container has of it. The engine hands such a folder on with
 * all that is mounted in it, and would empty that too. What this agent sees of the machine need not be what the engine sees (a container, a service
 * that systemd shuts off from /home): the folder is compared first, and where it is not the same, nothing is believed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "host/work/files_internal.h"
#include "host/work/inside_internal.h"
#include "host/work/mountinfo.h"

#define LOOK_WAIT (10 * USEC_SEC)
enum { MOUNTINFO_MAX = 4 * 1024 * 1024, LOOKS = 3 };

int files_mounted_below(struct str mountinfo, const char *at, struct buf *ret_place)
{
    size_t best = 0;
    struct mount_entry m;
    int rc;
    while ((rc = mountinfo_next(&mountinfo, &m)) == 0) {
        AUTO_BUF path = BUF_INIT(2 * FILES_PATH_MAX);
        if (mountinfo_unescape(m.place, &path) < 0)
            return -(int)ERR_INVALID;
        bool below = inside_below(at, buf_cstr(&path));
        if (!below && (path.len <= best || !inside_below(buf_cstr(&path), at)))
            continue;
        best = path.len;
        buf_clear(ret_place);
        if (buf_append_str(ret_place, buf_str(&path)) != 0)
            return -(int)ERR_INVALID;
        if (below)
            return 1;
    }
    return rc == 1 && best ? 0 : -(int)ERR_INVALID;
}

struct look {
    const char *source, *rest; /* of the mount, and below it */
    struct buf place, text;
    char *real;     /* @source without links; where that can be seen from here */
    char *at;       /* what has to be the same for the engine */
    struct stat st; /* of @at */
    struct err err;
};

/* Runs on the lane. 1: something is mounted there; 2: it cannot be seen from here. */
static int look(void *arg)
{
    struct look *l = arg;
    buf_clear(&l->place);
    buf_clear(&l->text);
    free(l->real);
    free(l->at);
    l->at = NULL;
    l->real = realpath(l->source, NULL);
    const char *source = l->real ? l->real : l->source;
    AUTO_FREE char *folder = str_printf("%s%s", strcmp(source, "/") == 0 ? "" : source, l->rest);
    if (fd_read_file("/proc/self/mountinfo", &l->text, &l->err) < 0)
        return -(int)l->err.code;
    int rc = files_mounted_below(buf_str(&l->text), folder, &l->place);
    if (rc < 0)
        return err_set(&l->err, ERR_UNKNOWN, "what is mounted on this server cannot be read");
    if (rc == 1 || !l->real)
        return rc == 1 ? 1 : 2;
    /* Between the folder and the mount that it is on nothing can be hidden. */
    l->at = str_dup(l->place.len > strlen(l->real) ? buf_str(&l->place) : str_from(l->real));
    return stat(l->at, &l->st) == 0 ? 0 : 2;
}

/* Is what we see the folder that the engine has at @path of the container? 0 yes, 2 no. */
static int compare(struct file_call *f, const char *path, const struct look *l, struct err *err)
{
    struct docker_path_stat st = {0};
    uint64_t modified = 0;
    usec_t rough;
    int rc = docker_archive_stat(f->w->docker, f->info.id, path, &st, deadline_in(ENGINE_CALL), err);
    if (rc == 0 && (st.kind != 'd' || !S_ISDIR(l->st.st_mode) || st.mode != (l->st.st_mode & 07777) ||
                    clock_parse(str_from(st.modified), &rough, &modified) != 0 ||
                    modified != (uint64_t)l->st.st_mtim.tv_sec * 1000000000 + (uint64_t)l->st.st_mtim.tv_nsec))
        rc = 2;
    docker_path_stat_release(&st);
    return rc;
}

static int look_and_compare(struct file_call *f, struct str top, bool volume, struct lane *lane, struct look *l, struct err *err)
{
    int rc = 2;
    for (int i = 0; rc == 2 && i < LOOKS; i++) { /* something may just have come or gone in it */
        rc = lane_call(lane, look, l, deadline_in(LOOK_WAIT));
        if (rc < 0)
            return l->err.code ? err_set(err, l->err.code, "%s", l->err.msg) : rc;
        if (volume && rc == 2) /* the engine's own folder, which it alone enters and nobody hides */
            return 0;
        if (rc != 0 || volume)
            continue;
        const char *rest = l->at + strlen(l->real);
        AUTO_FREE char *path = str_printf(STR_FMT "%s%s", STR_ARG(top), *rest && *rest != '/' ? "/" : "", rest);
        rc = compare(f, path, l, err);
    }
    return rc;
}

int files_judge_host(struct file_call *f, const char *real, struct str top, const struct docker_container_mount *m, struct err *err)
{
    struct look l = {.source = m->source, .rest = real + top.n, .place = BUF_INIT(2 * FILES_PATH_MAX), .text = BUF_INIT(MOUNTINFO_MAX)};
    struct lane *lane = lane_try_new(f->w->loop, "mounts", 1, 1);
    if (!lane)
        return err_set(err, ERR_EXHAUSTED, "too much runs at once on this server");
    int rc = look_and_compare(f, top, strcmp(m->type, "volume") == 0, lane, &l, err);
    (void)lane_free(lane);
    if (rc == 1) {
        rc = err_set(err, ERR_PRECONDITION, "%s is not removed: on the server something is mounted there, at %s", f->path, buf_cstr(&l.place));
    } else if (rc == 2) {
        (void)err_set(err, ERR_PRECONDITION, "%s is not removed: it is a folder of the server (%s), and the agent cannot see what is mounted there",
                      f->path, m->source);
        err_hint(err, "remove it on the server");
        rc = -(int)ERR_PRECONDITION;
    }
    free(l.real);
    free(l.at);
    buf_release(&l.place);
    buf_release(&l.text);
    return rc;
}
