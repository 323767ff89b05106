/* SPDX-License-Identifier: Apache-2.0 */
/* cp — files between this machine and a container, either way, as `docker cp` does: a folder goes into a folder that is there, or becomes one;
 * FOLDER/. is what is in it; "-" is an archive on standard input or output. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/inner.h"
#include "cli/pack.h"
#include "cli/unpack.h"

enum { PIECE = 64 * 1024 };

struct cp_options {
    struct cli_common common;
    struct inner_options which;
};

static const struct opt cp_opts[] = {
    INNER_OPTS(struct cp_options, which),
    CLI_COMMON_OPTS,
    {.name = NULL},
};

/* One copy; @in is the container's side. */
struct copy {
    struct cli *cli;
    struct inner in;
    const char *local;
    uint64_t bytes;
    struct inner_progress progress;
    struct unpack *unpack;
    int fd; /* of a file that is written here, or standard output */
    struct inner_writer writer;
};

static void notice(void *arg, const char *name, const char *why)
{
    const struct copy *c = arg;
    AUTO_FREE char *clean = out_clean(str_from(name));
    out_note(c->cli, "davit: left out: %s (%s)", clean, why);
}

/* Without slashes behind it ("/" stays), so that a link behind the last slash is not followed by accident. */
static bool ends_in_slash(const char *path)
{
    size_t n = strlen(path);
    return n > 0 && path[n - 1] == '/';
}

/* --- From the container --- */

static int to_file(void *arg, struct str bytes, struct err *err)
{
    struct copy *c = arg;
    c->bytes += bytes.n;
    inner_progress_add(&c->progress, bytes.n);
    return fd_write_all(c->fd, bytes.p, bytes.n, err);
}

static int to_folder(void *arg, struct str bytes, struct err *err)
{
    struct copy *c = arg;
    c->bytes += bytes.n;
    inner_progress_add(&c->progress, bytes.n);
    return unpack_feed(c->unpack, bytes, err);
}

/* Whole or not at all: under another name until it is. */
static int get_file(struct copy *c, const char *target, const Davit__Common__V1__FileEntry *e, struct err *err)
{
    AUTO_FREE char *name = str_printf("%s.davit-XXXXXX", target);
    struct stat st;
    if (stat(target, &st) == 0 && !S_ISREG(st.st_mode)) { /* a pipe or /dev/null is written to as it is */
        c->fd = open(target, O_WRONLY | O_CLOEXEC);
        *name = '\0';
    } else {
        c->fd = mkostemp(name, O_CLOEXEC);
    }
    if (c->fd < 0)
        return err_sys(err, errno, "%s", target);
    int rc = inner_read(c->cli, &c->in, c->in.path, false, to_file, c, err);
    mode_t mode = strcmp(e->kind, "file") == 0 ? e->mode & 0777 : 0644;
    if (rc == 0 && *name && (fchmod(c->fd, mode) != 0 || rename(name, target) != 0))
        rc = err_sys(err, errno, "%s", target);
    if (close(c->fd) != 0 && rc == 0)
        rc = err_sys(err, errno, "%s", target);
    if (rc < 0 && *name)
        (void)unlink(name);
    return rc;
}

static int get_folder(struct copy *c, const char *folder, const char *name, struct err *err)
{
    struct unpack u;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "%s", folder);
    unpack_init(&u, fd, name, notice, c);
    u.root = strspn(c->in.path, "/.") == strlen(c->in.path);
    c->unpack = &u;
    int rc = inner_read(c->cli, &c->in, c->in.path, true, to_folder, c, err);
    if (rc == 0)
        rc = unpack_end(&u, err);
    if (u.skipped > UNPACK_NOTICES_MAX)
        out_note(c->cli, "davit: %llu entries were left out in all", (unsigned long long)u.skipped);
    unpack_release(&u);
    (void)close(fd);
    return rc;
}

static int from_folder(struct copy *c, bool there, bool is_dir, struct err *err)
{
    struct str base = inner_base(c->in.path);
    AUTO_FREE char *name = str_dup(base);
    if (there && !is_dir)
        return err_set(err, ERR_INVALID, "%s is a file, and %s a folder", c->local, c->in.path);
    if (!there && mkdir(c->local, 0755) != 0)
        return err_sys(err, errno, "%s", c->local);
    return get_folder(c, c->local, there ? name : "", err);
}

static int copy_out(struct copy *c, struct err *err)
{
    Davit__Control__V1__StatFileResponse *a = NULL;
    struct stat st;
    int rc = inner_stat(c->cli, &c->in, c->in.path, &a, err);
    if (rc < 0)
        return rc;
    bool there = stat(c->local, &st) == 0, is_dir = there && S_ISDIR(st.st_mode), folder = strcmp(a->entry->kind, "dir") == 0;
    inner_progress_begin(&c->progress, c->cli, folder ? 0 : a->entry->size);
    c->fd = STDOUT_FILENO;
    if (strcmp(c->local, "-") == 0) {
        rc = inner_read(c->cli, &c->in, c->in.path, true, to_file, c, err);
    } else if (folder) {
        rc = from_folder(c, there, is_dir, err);
    } else if (!there && ends_in_slash(c->local)) {
        rc = err_set(err, ERR_NOT_FOUND, "there is no folder %s", c->local);
    } else {
        AUTO_FREE char *target = is_dir ? inner_join(c->local, inner_base(c->in.path)) : str_dup(str_from(c->local));
        rc = get_file(c, target, a->entry, err);
    }
    inner_progress_end(&c->progress);
    (void)rpc_message_free(a);
    return rc;
}

/* --- To the container --- */

static int pass(void *arg, struct str bytes, struct err *err)
{
    struct copy *c = arg;
    return inner_write(&c->writer, bytes, err);
}

static int begin(struct copy *c, Davit__Control__V1__WriteFileStart *start, uint64_t total, struct err *err)
{
    inner_progress_begin(&c->progress, c->cli, total);
    c->writer.progress = &c->progress;
    return inner_write_begin(c->cli, &c->in, start, &c->writer, err);
}

static int finish(struct copy *c, int rc, struct err *err)
{
    if (rc == 0)
        rc = inner_write_end(&c->writer, err);
    inner_progress_end(&c->progress);
    c->bytes = c->writer.bytes;
    inner_write_drop(&c->writer);
    return rc;
}

static int pass_fd(struct copy *c, int fd, uint64_t size, struct err *err)
{
    AUTO_FREE char *piece = mem_alloc(PIECE);
    int rc = 0;
    for (uint64_t left = size; rc == 0 && left;) {
        ssize_t n = read(fd, piece, left < PIECE ? (size_t)left : PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0                ? err_sys(err, errno, "reading")
                   : size == UINT64_MAX ? 0
                                        : err_set(err, ERR_DATA_LOSS, "the file became shorter while it was read");
        left -= size == UINT64_MAX ? 0 : (uint64_t)n;
        rc = pass(c, (struct str){piece, (size_t)n}, err);
    }
    return rc;
}

static int put_file(struct copy *c, const char *target, struct err *err)
{
    Davit__Control__V1__WriteFileStart start = DAVIT__CONTROL__V1__WRITE_FILE_START__INIT;
    struct stat st;
    int fd = open(c->local, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        int rc = fd < 0 ? err_sys(err, errno, "%s", c->local)
                        : err_set(err, ERR_INVALID, "%s is neither a file nor a folder", c->local);
        if (fd >= 0)
            (void)close(fd);
        return rc;
    }
    start.path = (char *)(uintptr_t)target;
    start.size = (uint64_t)st.st_size;
    start.mode = st.st_mode & 0777 ? st.st_mode & 0777 : 0600;
    int rc = begin(c, &start, start.size, err);
    if (rc == 0)
        rc = pass_fd(c, fd, start.size, err);
    (void)close(fd);
    return finish(c, rc, err);
}

static int put_archive(struct copy *c, const char *folder, const char *name, struct err *err)
{
    Davit__Control__V1__WriteFileStart start = DAVIT__CONTROL__V1__WRITE_FILE_START__INIT;
    struct pack p = {.put = pass, .notice = notice, .arg = c};
    start.path = (char *)(uintptr_t)folder;
    start.archive = true;
    int rc = begin(c, &start, 0, err);
    if (rc == 0)
        rc = strcmp(c->local, "-") == 0 ? pass_fd(c, STDIN_FILENO, UINT64_MAX, err) : pack_folder(&p, c->local, name, err);
    return finish(c, rc, err);
}

/* "/a/b/" as "/a" and "b". */
static void split(const char *path, char **ret_folder, char **ret_name)
{
    struct str base = inner_base(path);
    *ret_name = str_dup(base);
    *ret_folder = str_dup((struct str){path, base.n ? (size_t)(base.p - path) : strlen(path)});
}

static int into_folder(struct copy *c, bool there, bool is_dir, struct err *err)
{
    struct str base = inner_base(c->local);
    AUTO_FREE char *name = NULL, *parent = NULL;
    if (there && !is_dir)
        return err_set(err, ERR_INVALID, "%s is a file, and %s a folder", c->in.path, c->local);
    if (there) {
        name = str_dup(base);
        return put_archive(c, c->in.path, name, err);
    }
    split(c->in.path, &parent, &name);
    return put_archive(c, parent, name, err);
}

static int copy_in(struct copy *c, struct err *err)
{
    Davit__Control__V1__StatFileResponse *a = NULL;
    struct err missing = ERR_INIT;
    struct stat st = {0};
    bool archive = strcmp(c->local, "-") == 0;
    if (!archive && stat(c->local, &st) != 0)
        return err_sys(err, errno, "%s", c->local);
    int rc = inner_stat(c->cli, &c->in, c->in.path, &a, &missing);
    if (rc < 0 && rc != -(int)ERR_NOT_FOUND) {
        *err = missing;
        return rc;
    }
    bool there = rc == 0, is_dir = there && strcmp(a->entry->kind, "dir") == 0,
         is_link = there && strcmp(a->entry->kind, "symlink") == 0;
    (void)rpc_message_free(a);
    if (is_link) { /* to a folder? */
        AUTO_FREE char *inside = inner_join(c->in.path, STR("."));
        Davit__Control__V1__ListFilesRequest q = DAVIT__CONTROL__V1__LIST_FILES_REQUEST__INIT;
        ProtobufCMessage *m = NULL;
        q.target = &c->in.ref;
        q.path = inside;
        is_dir = cli_call(c->cli, &davit_control_v1_file_service, "ListFiles", &q.base, USEC_MINUTE, &m, NULL) == 0;
        (void)rpc_message_free(m);
    }
    if (archive && !is_dir)
        return err_set(err, ERR_NOT_FOUND, "there is no folder %s in the container", c->in.path);
    if (archive)
        return put_archive(c, c->in.path, "", err);
    if (S_ISDIR(st.st_mode))
        return into_folder(c, there, is_dir, err);
    if (!there && ends_in_slash(c->in.path))
        return err_set(err, ERR_NOT_FOUND, "there is no folder %s in the container", c->in.path);
    AUTO_FREE char *target = is_dir ? inner_join(c->in.path, inner_base(c->local)) : str_dup(str_from(c->in.path));
    return put_file(c, target, err);
}

/* --- The verb --- */

static int print_result(const struct copy *c, const char *from, const char *to, struct err *err)
{
    AUTO_BUF text = BUF_INIT(64 * 1024);
    struct jsonw w;
    if (!c->cli->json || strcmp(to, "-") == 0)
        return 0;
    jsonw_init(&w, &text);
    jsonw_object(&w);
    jsonw_key(&w, "source");
    jsonw_string(&w, from);
    jsonw_key(&w, "destination");
    jsonw_string(&w, to);
    jsonw_key(&w, "bytes");
    jsonw_u64(&w, c->bytes);
    jsonw_object_end(&w);
    if (jsonw_end(&w) < 0)
        return err_set(err, ERR_EXHAUSTED, "the paths are too long for JSON output");
    puts(buf_cstr(&text));
    return 0;
}

static int run_cp(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct cp_options *o = options;
    struct copy c = {.cli = cli, .fd = -1};
    bool out = inner_is(operands[0]), in = inner_is(operands[1]);
    (void)n;
    if (out == in) {
        (void)err_set(err, ERR_INVALID,
                      out ? "between two containers nothing is copied" : "one of the two must be in a container");
        err_hint(err, "davit cp SERVICE:/PATH PATH, or davit cp PATH SERVICE:/PATH; a local name with a colon is written ./NAME");
        return -ERR_INVALID;
    }
    c.local = operands[out ? 1 : 0];
    int rc = inner_parse(operands[out ? 0 : 1], &o->which, &c.in, err);
    if (rc == 0)
        rc = out ? copy_out(&c, err) : copy_in(&c, err);
    return rc < 0 ? rc : print_result(&c, operands[0], operands[1], err);
}

const struct verb verb_cp = {
    .name = "cp",
    .group = "Services",
    .usage = "[OPTIONS] SRC DST",
    .about = "copy files out of a container or into one; - is an archive",
    .example = "davit cp web:/etc/nginx/nginx.conf .\ndavit cp ./site shop/web:/srv\ndavit cp web:/var/log - | tar t",
    .opts = cp_opts,
    .opts_size = sizeof(struct cp_options),
    .min_operands = 2,
    .max_operands = 2,
    .run = run_cp,
};
