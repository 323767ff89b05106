/* SPDX-License-Identifier: Apache-2.0 */
/* inside — see inside.h: the ways in. */
#include "host/work/inside_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"

#define HOLD_MAX   USEC_HOUR
#define MOUNT_WAIT (10 * USEC_SEC)
#define MOUNT_POLL (10 * USEC_MSEC)
#define LET_GO     (30 * USEC_SEC)

/* --- The engine keeps the files of a container that does not run mounted while an archive comes in ---- */

struct inside_hold {
    unsigned refs; /* the handle's and the fiber's */
    struct work *w;
    char *id;
    struct event release, over;
    struct worker *worker;
    bool released, sent, ended;
    struct err err;
};

static void hold_unref(struct inside_hold *h)
{
    if (--h->refs)
        return;
    event_release(&h->release);
    event_release(&h->over);
    free(h->id);
    free(h);
}

/* An archive of nothing, whose end comes when the files are needed no more. */
static int hold_source(void *arg, void *dst, size_t size, size_t *ret_n)
{
    struct inside_hold *h = arg;
    int rc = h->sent ? 0 : event_wait(&h->release, deadline_in(HOLD_MAX));
    *ret_n = h->sent || rc < 0 || size < TAR_END ? 0 : TAR_END;
    memcpy(dst, tar_zeros, *ret_n);
    h->sent = true;
    return rc;
}

static void hold_main(void *arg)
{
    struct inside_hold *h = arg;
    (void)docker_archive_put(h->w->docker, h->id, "/", hold_source, h, deadline_in(HOLD_MAX), &h->err);
    h->ended = true;
    event_signal(&h->over);
    hold_unref(h);
}

static int hold_start(struct inside *in, struct work *w, const char *id, struct err *err)
{
    struct inside_hold *h = NEW(struct inside_hold);
    h->refs = 2;
    h->w = w;
    h->id = str_dup(str_from(id));
    event_init(&h->release, w->loop);
    event_init(&h->over, w->loop);
    h->worker = work_spawn(w, "files-hold", hold_main, h);
    if (!h->worker) {
        h->refs = 1;
        hold_unref(h);
        return err_set(err, ERR_EXHAUSTED, "too much runs at once on this server");
    }
    in->hold = h;
    return 0;
}

static void hold_end(struct inside_hold *h)
{
    event_signal(&h->release);
    if (!h->ended && event_wait(&h->over, deadline_in(LET_GO)) < 0 && !h->ended)
        fiber_cancel(h->worker->fiber);
    hold_unref(h);
}

/* --- Roots; these run on the lane ---- */

/* Does the engine's process of this container map users to others? */
static bool maps_users(const struct inside *in)
{
    AUTO_FREE char *path = str_printf("/proc/%d/uid_map", in->pid);
    AUTO_BUF text = BUF_INIT(4096);
    if (fd_read_file(path, &text, NULL) < 0)
        return true;
    struct str rest = buf_str(&text), line = str_cut(&rest, '\n');
    struct str from = str_word(&line), to = str_word(&line);
    return !str_eq(from, STR("0")) || !str_eq(to, STR("0"));
}

/* Is the process still one of the container? */
static bool is_of_container(const struct inside *in)
{
    AUTO_FREE char *path = str_printf("/proc/%d/cgroup", in->pid);
    AUTO_BUF text = BUF_INIT(64 * 1024);
    return fd_read_file(path, &text, NULL) == 0 && strstr(buf_cstr(&text), in->id);
}

static int open_running(void *arg)
{
    struct inside *in = arg;
    AUTO_FREE char *path = str_printf("/proc/%d/root", in->pid);
    if (maps_users(in))
        return err_set(&in->err, ERR_PRECONDITION, "the engine maps the users of this container to others");
    in->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (in->root < 0)
        return err_sys(&in->err, errno, "the files of the container cannot be reached");
    return is_of_container(in) ? 0 : err_set(&in->err, ERR_UNAVAILABLE, "the container has just ended");
}

/* The process of the engine, whose view of the machine's folders is what counts. */
static int engine_pid(const char *addr, struct err *err)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    struct ucred peer = {0};
    socklen_t size = sizeof(peer);
    if (!str_starts(str_from(addr), STR("unix:")) || str_copy(sun.sun_path, sizeof(sun.sun_path), str_from(addr + 5)) != 0)
        return err_set(err, ERR_PRECONDITION, "the engine is not one of this machine");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.pid <= 0)
        peer.pid = 0;
    if (fd >= 0)
        (void)close(fd);
    return peer.pid > 0 ? peer.pid : err_set(err, ERR_PRECONDITION, "the process of the engine is not one that is seen here");
}

static int open_folder(struct inside *in)
{
    int pid = engine_pid(in->engine, &in->err);
    if (pid < 0)
        return pid;
    AUTO_FREE char *path = str_printf("/proc/%d/root%s", pid, in->folder);
    in->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return in->root >= 0 ? 0 : err_sys(&in->err, errno, "the files of the container cannot be reached");
}

static int open_stopped(void *arg)
{
    return open_folder(arg);
}

/* 1: not yet. */
static int open_mounted(void *arg)
{
    struct inside *in = arg;
    struct statfs st;
    if (open_folder(in) < 0)
        return in->err.code == ERR_NOT_FOUND ? 1 : -(int)in->err.code;
    if (fstatfs(in->root, &st) == 0 && (unsigned long)st.f_type == OVERLAYFS_SUPER_MAGIC)
        return 0;
    (void)close(in->root);
    in->root = -1;
    return 1;
}

/* --- Which way ---- */

static struct inside *inside_new(struct loop *loop, const char *path)
{
    struct lane *lane = lane_try_new(loop, "files", 1, 1);
    if (!lane)
        return NULL;
    struct inside *in = NEW(struct inside);
    in->lane = lane;
    in->root = -1;
    in->path = str_dup(str_from(path));
    in->whole = str_dup(str_from(path));
    return in;
}

struct inside *inside_close(struct inside *in)
{
    if (!in)
        return NULL;
    if (in->root >= 0)
        (void)close(in->root);
    in->lane = lane_free(in->lane);
    if (in->hold)
        hold_end(in->hold);
    for (size_t i = 0; i < in->n_mounts; i++)
        free(in->mounts[i]);
    free(in->mounts);
    free(in->engine);
    free(in->folder);
    free(in->id);
    free(in->path);
    free(in->whole);
    free(in);
    return NULL;
}

bool inside_below(const char *folder, const char *path)
{
    struct str f = str_from(folder), p = str_from(path);
    return str_starts(p, f) && (p.n == f.n || p.p[f.n] == '/' || f.n == 1);
}

static const struct docker_container_mount *mount_of(const struct docker_container *c, const char *path)
{
    const struct docker_container_mount *best = NULL;
    for (size_t i = 0; i < c->n_mounts; i++) {
        const struct docker_container_mount *m = &c->mounts[i];
        if (m->target && *m->target == '/' && inside_below(m->target, path) &&
            (!best || strlen(m->target) > strlen(best->target)))
            best = m;
    }
    return best && best->source && *best->source == '/' ? best : NULL;
}

/* With users mapped the engine keeps its data in a folder UID.GID of its own. */
static bool folder_maps_users(const char *folder)
{
    struct str rest = str_from(folder);
    while (rest.n) {
        struct str part = str_cut(&rest, '/'), uid = str_cut(&part, '.');
        uint64_t n;
        if (str_to_u64(uid, UINT32_MAX, &n) == 0 && str_to_u64(part, UINT32_MAX, &n) == 0)
            return true;
    }
    return false;
}

static int wait_mounted(struct inside *in)
{
    usec_t until = deadline_in(MOUNT_WAIT);
    for (;;) {
        in->err = ERR_INIT;
        int rc = lane_call(in->lane, open_mounted, in, until);
        if (rc <= 0)
            return rc;
        if (in->hold->ended) {
            in->err = in->hold->err;
            return in->err.code ? -(int)in->err.code
                                : err_set(&in->err, ERR_PRECONDITION, "the engine does not keep the container's files mounted");
        }
        if (clock_mono() >= until)
            return err_set(&in->err, ERR_PRECONDITION, "where the engine mounts the container's files is not known");
        if ((rc = fiber_sleep(MOUNT_POLL)) < 0)
            return rc;
    }
}

static int open_merged(struct inside *in, struct work *w, const struct docker_container *c)
{
    if (!*c->merged_dir || folder_maps_users(c->merged_dir))
        return err_set(&in->err, ERR_PRECONDITION, "the engine keeps the files of this container where only it can see them");
    if (c->read_only)
        return err_set(&in->err, ERR_PRECONDITION, "the root of this container is read-only");
    in->folder = str_dup(str_from(c->merged_dir));
    in->mounts = mem_zalloc(c->n_mounts + 1, sizeof(*in->mounts));
    for (size_t i = 0; i < c->n_mounts; i++)
        in->mounts[in->n_mounts++] = str_dup(str_from(c->mounts[i].target));
    int rc = hold_start(in, w, c->id, &in->err);
    return rc < 0 ? rc : wait_mounted(in);
}

static int find_root(struct inside *in, struct work *w, const struct docker_container *c)
{
    const struct docker_container_mount *m = mount_of(c, in->whole);
    in->id = str_dup(str_from(c->id));
    in->engine = str_dup(str_from(docker_addr(w->docker)));
    in->pid = c->pid;
    if (geteuid() != 0)
        return err_set(&in->err, ERR_PRECONDITION, "the agent of this server does not run as root");
    if (c->pid > 0)
        return lane_call(in->lane, open_running, in, deadline_in(ENGINE_CALL));
    if (!m)
        return open_merged(in, w, c);
    if (folder_maps_users(c->merged_dir))
        return err_set(&in->err, ERR_PRECONDITION, "the engine maps the users of this container to others");
    in->read_only = m->read_only;
    in->part = true;
    in->folder = str_dup(str_from(m->source));
    free(in->path);
    in->path = str_printf("/%s", in->whole + strlen(m->target) + (in->whole[strlen(m->target)] == '/'));
    return lane_call(in->lane, open_stopped, in, deadline_in(ENGINE_CALL));
}

int inside_open(struct work *w, const struct docker_container *c, const char *path, struct inside **ret, struct err *err)
{
    *ret = NULL;
    struct inside *in = inside_new(w->loop, path);
    if (!in)
        return err_set(err, ERR_EXHAUSTED, "too much runs at once on this server");
    int rc = find_root(in, w, c);
    if (rc == 0) {
        *ret = in;
        return 0;
    }
    if (err && in->err.code)
        *err = in->err;
    (void)inside_close(in);
    return rc == -(int)ERR_CANCELLED ? rc : 1;
}

int inside_open_at(struct loop *loop, const char *folder, const char *path, struct inside **ret, struct err *err)
{
    struct inside *in = inside_new(loop, path);
    if (!in)
        return err_set(err, ERR_EXHAUSTED, "no thread");
    in->root = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    *ret = in;
    return 0;
}

void inside_be_part(struct inside *in)
{
    in->part = true;
}
