/* SPDX-License-Identifier: Apache-2.0 */
/* slots — see slots.h. */
#include "host/link/slots.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

#define PROGRAM "davit-agent"
#define PENDING "pending"
#define COUNTER "counter"
enum { SMALL_FILE_MAX = 256 };

static const char *const links[] = {[SLOTS_CURRENT] = "current", [SLOTS_PREVIOUS] = "previous"};

/* --- Names ---- */

bool slot_name_valid(struct str name)
{
    bool dash = false;
    if (name.n == 0 || name.n >= SLOT_NAME_SIZE || name.p[0] < '0' || name.p[0] > '9')
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        dash = dash || c == '-';
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-'))
            return false;
    }
    return dash;
}

int slot_name(const char *version, uint64_t number, char ret[SLOT_NAME_SIZE], struct err *err)
{
    int n = snprintf(ret, SLOT_NAME_SIZE, "%s-%llu", version, (unsigned long long)number);
    if (n < 0 || n >= SLOT_NAME_SIZE || !slot_name_valid(str_from(ret)))
        return err_set(err, ERR_INVALID, "\"%.64s\" cannot be the name of a slot", version);
    return 0;
}

char *slots_path(const struct slots *s, const char *slot, const char *program)
{
    return str_printf("%s/slots/%s%s%s", s->prefix, slot, program ? "/" : "", program ? program : "");
}

/* --- Opening ---- */

/* Takes the last part off @path, which must have one. */
static struct str last_part(char *path)
{
    char *slash = strrchr(path, '/');
    if (!slash)
        return STR("");
    *slash = '\0';
    return str_from(slash + 1);
}

static int open_dir(int at, const char *name, int *ret, struct err *err)
{
    struct stat st;
    AUTO_FD int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, errno, "%s", name);
    if ((st.st_uid != 0 && st.st_uid != geteuid()) || (st.st_mode & (S_IWGRP | S_IWOTH))) {
        (void)err_set(err, ERR_DENIED, "%s may be written to by others", name);
        err_hint(err, "chown it to root or to the agent's account, and chmod go-w");
        return -(int)ERR_DENIED;
    }
    *ret = TAKE_FD(fd);
    return 0;
}

int slots_open(const char *exe, struct slots *ret, struct err *err)
{
    char path[SLOTS_PATH_SIZE];
    struct slots s = {.prefix_fd = -1, .dir_fd = -1};
    *ret = s;
    if (exe) {
        if (str_copy(path, sizeof(path), str_from(exe)) != 0)
            return 1;
    } else {
        ssize_t n = readlink("/proc/self/exe", path, sizeof(path));
        if (n <= 0 || (size_t)n >= sizeof(path))
            return 1;
        path[n] = '\0';
    }
    if (path[0] != '/' || !str_eq(last_part(path), STR(PROGRAM)))
        return 1;
    struct str slot = last_part(path);
    if (!slot_name_valid(slot) || str_copy(s.running, sizeof(s.running), slot) != 0 || !str_eq(last_part(path), STR("slots")) || !*path)
        return 1;
    (void)str_copy(s.prefix, sizeof(s.prefix), str_from(path));
    int rc = open_dir(AT_FDCWD, s.prefix, &s.prefix_fd, err);
    if (rc == 0)
        rc = open_dir(s.prefix_fd, "slots", &s.dir_fd, err);
    if (rc < 0)
        slots_close(&s);
    *ret = s;
    return rc;
}

void slots_close(struct slots *s)
{
    if (s->prefix_fd > 0)
        (void)close(s->prefix_fd);
    if (s->dir_fd > 0)
        (void)close(s->dir_fd);
    s->prefix_fd = s->dir_fd = -1;
}

/* --- The two names ---- */

bool slots_has(const struct slots *s, const char *slot)
{
    struct stat st;
    AUTO_FD int fd = slot_name_valid(str_from(slot)) ? openat(s->dir_fd, slot, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    return fd >= 0 && fstatat(fd, PROGRAM, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

int slots_read(const struct slots *s, enum slots_link link, char ret[SLOT_NAME_SIZE], struct err *err)
{
    char target[SLOT_NAME_SIZE + 8];
    ret[0] = '\0';
    ssize_t n = readlinkat(s->prefix_fd, links[link], target, sizeof(target));
    if (n < 0 && errno == ENOENT)
        return 1;
    if (n < 0 && errno != EINVAL)
        return err_sys(err, errno, "%s/%s", s->prefix, links[link]);
    struct str t = {target, n > 0 ? (size_t)n : 0}, dir = STR("slots/");
    struct str name = str_starts(t, dir) ? (struct str){t.p + dir.n, t.n - dir.n} : STR("");
    if (n < 0 || (size_t)n == sizeof(target) || !slot_name_valid(name))
        return err_set(err, ERR_PRECONDITION, "%s/%s does not lead to a slot", s->prefix, links[link]);
    (void)str_copy(ret, SLOT_NAME_SIZE, name);
    return 0;
}

static int sync_dir(int fd, const char *what, struct err *err)
{
    return fsync(fd) == 0 ? 0 : err_sys(err, errno, "cannot flush %s", what);
}

int slots_point(const struct slots *s, enum slots_link link, const char *slot, struct err *err)
{
    AUTO_FREE char *target = str_printf("slots/%s", slot);
    AUTO_FREE char *fresh = str_printf(".%s.new", links[link]);
    if (!slots_has(s, slot))
        return err_set(err, ERR_PRECONDITION, "%s/slots has no slot %s", s->prefix, slot);
    if (unlinkat(s->prefix_fd, fresh, 0) < 0 && errno != ENOENT)
        return err_sys(err, errno, "cannot remove %s/%s", s->prefix, fresh);
    if (symlinkat(target, s->prefix_fd, fresh) < 0)
        return err_sys(err, errno, "cannot make %s/%s", s->prefix, fresh);
    if (renameat(s->prefix_fd, fresh, s->prefix_fd, links[link]) < 0) {
        int e = errno;
        (void)unlinkat(s->prefix_fd, fresh, 0);
        return err_sys(err, e, "cannot replace %s/%s", s->prefix, links[link]);
    }
    return sync_dir(s->prefix_fd, s->prefix, err);
}

/* --- Room and rubbish ---- */

int slots_room(const struct slots *s, uint64_t *ret, struct err *err)
{
    struct statvfs v;
    if (fstatvfs(s->dir_fd, &v) < 0)
        return err_sys(err, errno, "%s", s->prefix);
    *ret = (uint64_t)v.f_bavail * v.f_frsize;
    return 0;
}

struct keep {
    char current[SLOT_NAME_SIZE], previous[SLOT_NAME_SIZE];
};

static bool is_rubbish(const struct slots *s, struct str n, const struct keep *keep)
{
    if (!keep)
        return fd_is_unfinished(n, STR(COUNTER)) || fd_is_unfinished(n, STR(PENDING));
    if (str_starts(n, STR(".fetch-")) || str_starts(n, STR(".new-")))
        return true;
    return slot_name_valid(n) && !str_eq(n, str_from(keep->current)) && !str_eq(n, str_from(keep->previous)) && !str_eq(n, str_from(s->running));
}

/* @keep NULL: of the small files only. */
static int remove_rubbish(const struct slots *s, const struct keep *keep, struct err *err)
{
    int rc = 0, fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        int e = errno;
        if (fd >= 0)
            (void)close(fd);
        return err_sys(err, e, "%s/slots", s->prefix);
    }
    for (const struct dirent *e; rc == 0 && (e = readdir(dir)) != NULL;) {
        if (!is_rubbish(s, str_from(e->d_name), keep))
            continue;
        AUTO_FREE char *path = slots_path(s, e->d_name, NULL);
        rc = fd_remove_tree(path, err);
    }
    (void)closedir(dir);
    return rc;
}

int slots_collect(const struct slots *s, struct err *err)
{
    struct keep keep;
    int rc = slots_read(s, SLOTS_CURRENT, keep.current, err);
    if (rc == 0)
        rc = slots_read(s, SLOTS_PREVIOUS, keep.previous, err);
    if (rc != 0)
        return rc < 0 ? rc : 0; /* better too much than too little */
    return remove_rubbish(s, &keep, err);
}

int slots_tidy(const struct slots *s, struct err *err)
{
    return remove_rubbish(s, NULL, err);
}

/* --- Small files ---- */

static int read_small(const struct slots *s, const char *name, struct buf *out, struct err *err)
{
    AUTO_FREE char *path = slots_path(s, name, NULL);
    int rc = fd_read_file(path, out, err);
    if (rc == -(int)ERR_NOT_FOUND && err)
        *err = ERR_INIT;
    return rc == -(int)ERR_NOT_FOUND ? 1 : rc;
}

int slots_counter(const struct slots *s, uint64_t *ret, struct err *err)
{
    AUTO_BUF text = BUF_INIT(SMALL_FILE_MAX);
    *ret = 0;
    int rc = read_small(s, COUNTER, &text, err);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    struct str rest = buf_str(&text);
    if (str_to_u64(str_cut(&rest, '\n'), INT64_MAX, ret) != 0)
        return err_set(err, ERR_DATA_LOSS, "%s/slots/" COUNTER " is not a number", s->prefix);
    return 0;
}

int slots_counter_set(const struct slots *s, uint64_t counter, struct err *err)
{
    AUTO_FREE char *path = slots_path(s, COUNTER, NULL);
    AUTO_FREE char *text = str_printf("%llu\n", (unsigned long long)counter);
    return fd_write_file(path, text, strlen(text), 0644, err);
}

static int read_pending(const struct slots *s, char ret[SLOT_NAME_SIZE], bool *ret_stopped, struct err *err)
{
    AUTO_BUF text = BUF_INIT(SMALL_FILE_MAX);
    ret[0] = '\0';
    *ret_stopped = false;
    int rc = read_small(s, PENDING, &text, err);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    struct str rest = buf_str(&text), name = str_cut(&rest, '\n');
    if (!slot_name_valid(name))
        return err_set(err, ERR_DATA_LOSS, "%s/slots/" PENDING " names no slot", s->prefix);
    (void)str_copy(ret, SLOT_NAME_SIZE, name);
    *ret_stopped = str_eq(str_cut(&rest, '\n'), STR("stopped"));
    return 0;
}

int slots_pending(const struct slots *s, char ret[SLOT_NAME_SIZE], struct err *err)
{
    bool stopped;
    return read_pending(s, ret, &stopped, err);
}

int slots_pending_set(const struct slots *s, const char *slot, bool stopped, struct err *err)
{
    AUTO_FREE char *path = slots_path(s, PENDING, NULL);
    if (!slot) {
        if (unlink(path) < 0 && errno != ENOENT)
            return err_sys(err, errno, "cannot remove %s", path);
        return sync_dir(s->dir_fd, s->prefix, err);
    }
    AUTO_FREE char *text = str_printf("%s\n%s\n", slot, stopped ? "stopped" : "trial");
    return fd_write_file(path, text, strlen(text), 0644, err);
}

int slots_pending_drop(const struct slots *s, const char *slot, struct err *err)
{
    char pending[SLOT_NAME_SIZE];
    int rc = slots_pending(s, pending, err);
    return rc == 0 && str_eq(str_from(pending), str_from(slot)) ? slots_pending_set(s, NULL, false, err) : rc;
}

/* --- Start of the program ---- */

static int restore(const struct slots *s, char **ret_path, struct err *err)
{
    char previous[SLOT_NAME_SIZE];
    int rc = slots_read(s, SLOTS_PREVIOUS, previous, err);
    if (rc == 1 || (rc == 0 && (str_eq(str_from(previous), str_from(s->running)) || !slots_has(s, previous))))
        rc = err_set(err, ERR_PRECONDITION, "there is no slot to go back to");
    if (rc == 0)
        rc = slots_point(s, SLOTS_CURRENT, previous, err);
    if (rc < 0)
        return rc;
    *ret_path = slots_path(s, previous, PROGRAM);
    return 1;
}

int slots_boot(const char *exe, char **ret_path, struct err *err)
{
    struct slots s;
    char pending[SLOT_NAME_SIZE];
    bool stopped = false;
    int rc = slots_open(exe, &s, err);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    rc = read_pending(&s, pending, &stopped, err);
    if (rc == 0 && str_eq(str_from(pending), str_from(s.running)))
        rc = stopped ? slots_pending_set(&s, s.running, false, err) : restore(&s, ret_path, err);
    slots_close(&s);
    return rc;
}
