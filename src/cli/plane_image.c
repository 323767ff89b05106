/* SPDX-License-Identifier: Apache-2.0 */
/* plane_image — see plane_image.h. */
#include "cli/plane_image.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/tar.h"
#include "cli/plane_elf.h"

/* --- What is in it ---- */

struct entry {
    char *name;   /* in the image, without the first '/' */
    char *source; /* NULL: a directory */
    uint32_t mode;
    uint64_t size;
};

struct content {
    struct entry entries[PLANE_FILES_MAX];
    size_t n;
    struct buf libraries;
};

static void content_free(struct content **c)
{
    for (size_t i = 0; *c && i < (*c)->n; i++) {
        free((*c)->entries[i].name);
        free((*c)->entries[i].source);
    }
    if (*c)
        buf_release(&(*c)->libraries);
    free(*c);
}

static bool has(const struct content *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->entries[i].name, name) == 0)
            return true;
    return false;
}

static int add_dir(struct content *c, const char *name, uint32_t mode, struct err *err)
{
    if (has(c, name))
        return 0;
    if (c->n == PLANE_FILES_MAX)
        return err_set(err, ERR_EXHAUSTED, "the programs name more than %d libraries", PLANE_FILES_MAX);
    c->entries[c->n++] = (struct entry){.name = str_dup(str_from(name)), .mode = mode};
    return 0;
}

/* @name: absolute. With the folders that it is in. */
static int add_file(struct content *c, const char *name, const char *source, struct err *err)
{
    struct stat st;
    int rc = 0;

    if (has(c, name + 1))
        return 0;
    for (const char *slash = strchr(name + 1, '/'); rc == 0 && slash; slash = strchr(slash + 1, '/')) {
        AUTO_FREE char *dir = str_dup((struct str){name + 1, (size_t)(slash - name - 1)});
        rc = add_dir(c, dir, 0755, err);
    }
    if (rc == 0 && stat(source, &st) < 0) {
        rc = err_sys(err, errno, "%s", source);
        err_hint(err, "it belongs to Davit and should be where davit is");
    }
    if (rc == 0 && (c->n == PLANE_FILES_MAX || !S_ISREG(st.st_mode)))
        rc = err_set(err, ERR_PRECONDITION, "%s is no program, or the programs name more than %d libraries", source, PLANE_FILES_MAX);
    if (rc == 0)
        c->entries[c->n++] = (struct entry){str_dup(str_from(name + 1)), str_dup(str_from(source)), 0755, (uint64_t)st.st_size};
    return rc;
}

struct adding {
    struct content *c;
    struct err *err;
};

static int add_library(void *arg, const char *path)
{
    struct adding *a = arg;
    const char *slash = strrchr(path, '/');
    struct str dir = {path, (size_t)(slash - path)}, known = buf_str(&a->c->libraries);

    for (bool found = false; !found;) {
        struct str one = str_cut(&known, ':');
        found = str_eq(one, dir);
        if (found || one.n)
            continue;
        if (buf_printf(&a->c->libraries, "%s" STR_FMT, a->c->libraries.len ? ":" : "", STR_ARG(dir)) < 0)
            return err_set(a->err, ERR_EXHAUSTED, "the libraries of the programs are in too many folders");
        break;
    }
    return add_file(a->c, path, path, a->err);
}

static int add_program(struct cli *cli, struct content *c, const char *folder, const char *name, struct err *err)
{
    AUTO_FREE char *source = str_printf("%s/%s", folder, name), *path = str_printf(PLANE_PROGRAMS "/%s", name);
    struct adding a = {c, err};
    int rc = add_file(c, path, source, err);

    return rc < 0 ? rc : plane_elf_libraries(cli->loop, source, add_library, &a, err);
}

/* As the agent looks for them. */
static const char *runtime_dir(const struct cli *cli)
{
    const char *set = getenv("DAVIT_RUNTIME_DIR");

    return set && *set ? set : cli->paths.bin;
}

static int collect(struct cli *cli, struct content *c, struct err *err)
{
    static const struct {
        const char *name;
        uint32_t mode;
    } dirs[] = {{"dev", 0755}, {"etc", 0755}, {"proc", 0755}, {"sys", 0755}, {"run", 01777}, {"tmp", 01777}, {"releases", 0755}, {"log", 0755},
                {PLANE_STATE + 1, 0755}, {PLANE_PRIVATE + 1, 0700}};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(dirs); i++)
        rc = add_dir(c, dirs[i].name, dirs[i].mode, err);
    if (rc == 0)
        rc = add_program(cli, c, cli->paths.bin, "davitd", err);
    if (rc == 0)
        rc = add_program(cli, c, cli->paths.bin, "davit-agent", err);
    if (rc == 0)
        rc = add_program(cli, c, runtime_dir(cli), "davit-init", err);
    return rc < 0 ? rc : add_program(cli, c, runtime_dir(cli), "davit-session", err);
}

/* --- As a tar ---- */

struct packer {
    const struct content *c;
    size_t at;      /* entry whose header comes next */
    struct buf head;
    int fd;
    uint64_t left;  /* of the file */
    size_t zeros;   /* behind it, or at the end */
    bool ended;
    struct err *err;
};

static int next_entry(struct packer *p)
{
    struct tar_entry e = {.link = "", .kind = TAR_DIR};

    if (p->at == p->c->n) {
        p->ended = true;
        p->zeros = TAR_END;
        return 0;
    }
    const struct entry *from = &p->c->entries[p->at++];
    /* No owner and no time of this machine: the same programs are the same image. */
    e.name = from->name;
    e.mode = from->mode;
    if (from->source) {
        e.kind = TAR_FILE;
        e.size = p->left = from->size;
        p->zeros = tar_pad(from->size);
        p->fd = open(from->source, O_RDONLY | O_CLOEXEC);
        if (p->fd < 0)
            return err_sys(p->err, errno, "%s", from->source);
    }
    buf_clear(&p->head);
    return tar_put(&p->head, &e);
}

static int read_file(struct packer *p, void *dst, size_t size, size_t *ret_n)
{
    ssize_t n = read(p->fd, dst, p->left < size ? (size_t)p->left : size);

    if (n <= 0)
        return n < 0 ? err_sys(p->err, errno, "%s", p->c->entries[p->at - 1].source)
                     : err_set(p->err, ERR_UNAVAILABLE, "%s became shorter while it was read", p->c->entries[p->at - 1].source);
    p->left -= (uint64_t)n;
    if (p->left == 0) {
        (void)close(p->fd);
        p->fd = -1;
    }
    *ret_n = (size_t)n;
    return 0;
}

static int pack(void *arg, void *dst, size_t size, size_t *ret_n)
{
    struct packer *p = arg;

    *ret_n = 0;
    if (!p->head.len && !p->left && !p->zeros && !p->ended) {
        int rc = next_entry(p);
        if (rc < 0)
            return rc;
    }
    if (p->head.len) {
        *ret_n = p->head.len < size ? p->head.len : size;
        memcpy(dst, p->head.data, *ret_n);
        buf_consume(&p->head, *ret_n);
        return 0;
    }
    if (p->left)
        return read_file(p, dst, size, ret_n);
    *ret_n = p->zeros < size ? p->zeros : size;
    memset(dst, 0, *ret_n);
    p->zeros -= *ret_n;
    return 0;
}

/* A file that is empty leaves its descriptor open. */
static void packer_release(struct packer *p)
{
    if (p->fd >= 0)
        (void)close(p->fd);
    buf_release(&p->head);
}

static struct packer packer_of(const struct content *c, struct err *err)
{
    return (struct packer){.c = c, .fd = -1, .head = BUF_INIT(TAR_EXTENSION_MAX), .err = err};
}

static int measure(const struct content *c, char ret[DIGEST_HEX_SIZE], struct err *err)
{
    enum { PIECE = 256 * 1024 };
    AUTO_DIGEST digest = digest_new();
    AUTO_FREE char *piece = mem_zalloc(1, PIECE);
    struct packer p = packer_of(c, err);
    size_t n = 0;
    int rc;

    while ((rc = pack(&p, piece, PIECE, &n)) == 0 && n > 0)
        digest_add(digest, piece, n);
    packer_release(&p);
    if (rc == 0)
        digest_hex(digest, ret);
    return rc < 0 ? err_ensure(err, rc) : 0;
}

/* --- In the engine ---- */

static int make(struct docker *d, const struct content *c, const char *tag, usec_t deadline, struct err *err)
{
    struct err why = ERR_INIT;
    struct packer p = packer_of(c, &why);
    int rc = docker_image_import(d, PLANE_REPOSITORY, tag, pack, &p, deadline, err);

    packer_release(&p);
    if (rc < 0 && why.code != ERR_OK)
        *err = why;
    return rc < 0 ? err_wrap(err, "the image of the control plane cannot be made") : 0;
}

int plane_image_provide(struct cli *cli, struct docker *d, struct plane_image *ret, usec_t deadline, struct err *err)
{
    CLEANUP(content_free) struct content *c = NEW(struct content);
    struct docker_image there = {0};

    *ret = (struct plane_image){0};
    c->libraries = BUF_INIT(PATH_MAX);
    int rc = collect(cli, c, err);
    if (rc == 0)
        rc = measure(c, ret->content, err);
    if (rc < 0)
        return rc;
    AUTO_FREE char *tag = str_printf("bin-%.16s", ret->content);
    ret->ref = str_printf(PLANE_REPOSITORY ":%s", tag);
    ret->libraries = str_dup(buf_str(&c->libraries));
    rc = docker_image_inspect(d, ret->ref, &there, deadline, err);
    docker_image_release(&there);
    if (rc != -ERR_NOT_FOUND)
        return rc;
    ret->made = true;
    *err = ERR_INIT;
    return make(d, c, tag, deadline, err);
}

void plane_image_release(struct plane_image *i)
{
    free(i->ref);
    free(i->libraries);
    *i = (struct plane_image){0};
}

void plane_image_prune(struct docker *d, const char *keep, usec_t deadline)
{
    struct docker_images l = {0};
    int rc = docker_image_list(d, &l, deadline, NULL);

    for (size_t i = 0; rc == 0 && i < l.n; i++)
        for (size_t k = 0; k < l.items[i].n_repo_tags; k++) {
            const char *tag = l.items[i].repo_tags[k];
            if (str_starts(str_from(tag), STR(PLANE_REPOSITORY ":bin-")) && (!keep || strcmp(tag, keep) != 0))
                (void)docker_image_remove(d, tag, false, deadline, NULL);
        }
    docker_images_release(&l);
}

bool plane_image_possible(const struct cli *cli)
{
    static const char *const names[] = {"davitd", "davit-agent", "davit-init", "davit-session"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO_FREE char *path = str_printf("%s/%s", i < 2 ? cli->paths.bin : runtime_dir(cli), names[i]);
        if (access(path, X_OK) < 0 || !plane_elf_is_static(path))
            return false;
    }
    return true;
}
