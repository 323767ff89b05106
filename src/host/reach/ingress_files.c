/* SPDX-License-Identifier: Apache-2.0 */
/* ingress_files — the folder of the ingress: config/ is read by HAProxy, run/ is where it makes its sockets. Nothing else of the server is seen by
 * it; nothing that it writes is read as a file. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "host/reach/ingress_internal.h"
#include "loop/lane.h"

/* One thing to be done with the disk, off the loop. */
struct files_job {
    struct ingress *in;
    int (*fn)(struct files_job *j);
    const char *generation;
    struct str config, map;
    struct buf *out;
    struct err err;
};

static char *path_of(const struct ingress *in, const char *name)
{
    return str_printf("%s/config/%s", in->folder, name);
}

static int run_job(void *arg)
{
    struct files_job *j = arg;
    return j->fn(j);
}

static int do_job(struct files_job *j, usec_t deadline, struct err *err)
{
    struct lane *lane = lane_try_new(j->in->loop, "ingress", 1, 1);
    if (!lane)
        return err_set(err, ERR_EXHAUSTED, "the system has no thread to give");
    int rc = lane_call(lane, run_job, j, deadline);
    (void)lane_free(lane);
    if (rc < 0 && err && j->err.code != ERR_OK)
        *err = j->err;
    return rc < 0 ? err_ensure(err, rc) : rc;
}

/* HAProxy is another account where the agent is root: then its files are open to all, below a folder that is open to none. */
static bool is_other(const struct ingress *in)
{
    return in->uid != geteuid();
}

static mode_t file_mode(const struct ingress *in)
{
    return is_other(in) ? 0644 : 0600;
}

/* --- The folders ---- */

static int make_dir(const char *path, mode_t mode, int *ret_fd, struct err *err)
{
    AUTO_FD int fd = -1;
    int rc = fd_mkdir_p(path, 0700, err);
    if (rc < 0)
        return rc;
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fchmod(fd, mode) < 0)
        return err_sys(err, errno, "cannot use %s", path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int prepare_job(struct files_job *j)
{
    const struct ingress *in = j->in;
    AUTO_FREE char *config = str_printf("%s/config", in->folder), *run = str_printf("%s/run", in->folder);
    AUTO_FD int config_fd = -1;
    AUTO_FD int run_fd = -1;
    int rc = fd_mkdir_p(in->folder, 0700, &j->err);
    if (rc == 0)
        rc = make_dir(config, is_other(in) ? 0755 : 0700, &config_fd, &j->err);
    if (rc == 0)
        rc = make_dir(run, 0700, &run_fd, &j->err);
    if (rc == 0 && is_other(in) && fchown(run_fd, in->uid, in->gid) < 0)
        rc = err_sys(&j->err, errno, "cannot give %s to the account of HAProxy", run);
    if (rc == 0)
        j->in->run_fd = TAKE_FD(run_fd);
    return rc;
}

int ingress_files_prepare(struct ingress *in, usec_t deadline, struct err *err)
{
    struct files_job j = {.in = in, .fn = prepare_job, .err = ERR_INIT};
    return in->run_fd >= 0 ? 0 : do_job(&j, deadline, err);
}

/* --- Their files ---- */

static int read_job(struct files_job *j)
{
    AUTO_FREE char *path = path_of(j->in, "haproxy.cfg");
    int rc = fd_read_file(path, j->out, &j->err);
    return rc == -(int)ERR_NOT_FOUND ? 0 : rc;
}

int ingress_files_read(struct ingress *in, struct buf *out, usec_t deadline, struct err *err)
{
    struct files_job j = {.in = in, .fn = read_job, .out = out, .err = ERR_INIT};
    return do_job(&j, deadline, err);
}

static int write_job(struct files_job *j)
{
    AUTO_FREE char *path = path_of(j->in, "haproxy.cfg");
    return fd_write_file(path, j->config.p, j->config.n, file_mode(j->in), &j->err);
}

int ingress_files_write(struct ingress *in, struct str config, usec_t deadline, struct err *err)
{
    struct files_job j = {.in = in, .fn = write_job, .config = config, .err = ERR_INIT};
    return do_job(&j, deadline, err);
}

static int propose_job(struct files_job *j)
{
    AUTO_FREE char *name = str_printf("hosts-%s.map", j->generation), *map = path_of(j->in, name), *config = path_of(j->in, "haproxy.cfg.new");
    int rc = fd_write_file(map, j->map.p, j->map.n, file_mode(j->in), &j->err);
    return rc < 0 ? rc : fd_write_file(config, j->config.p, j->config.n, file_mode(j->in), &j->err);
}

int ingress_files_propose(struct ingress *in, const char *generation, struct str config, struct str map, usec_t deadline, struct err *err)
{
    struct files_job j = {.in = in, .fn = propose_job, .generation = generation, .config = config, .map = map, .err = ERR_INIT};
    return do_job(&j, deadline, err);
}

static int accept_job(struct files_job *j)
{
    AUTO_FREE char *from = path_of(j->in, "haproxy.cfg.new"), *to = path_of(j->in, "haproxy.cfg");
    if (rename(from, to) < 0)
        return err_sys(&j->err, errno, "cannot replace %s", to);
    return fd_sync_parent(to, &j->err);
}

int ingress_files_accept(struct ingress *in, usec_t deadline, struct err *err)
{
    struct files_job j = {.in = in, .fn = accept_job, .err = ERR_INIT};
    return do_job(&j, deadline, err);
}

static int tidy_job(struct files_job *j)
{
    AUTO_FREE char *dir = str_printf("%s/config", j->in->folder), *kept = j->generation ? str_printf("hosts-%s.map", j->generation) : NULL;
    DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT ? 0 : err_sys(&j->err, errno, "cannot read %s", dir);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        struct str name = str_from(e->d_name);
        bool keep = kept && (str_eq(name, str_from(kept)) || str_eq(name, STR("haproxy.cfg")));
        if (!keep && name.n > 0 && name.p[0] != '.')
            (void)unlinkat(dirfd(d), e->d_name, 0);
    }
    (void)closedir(d);
    return 0;
}

int ingress_files_tidy(struct ingress *in, const char *generation, usec_t deadline, struct err *err)
{
    struct files_job j = {.in = in, .fn = tidy_job, .generation = generation, .err = ERR_INIT};
    return do_job(&j, deadline, err);
}
