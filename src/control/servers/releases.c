/* SPDX-License-Identifier: Apache-2.0 */
/* releases — see releases.h. */
#include "control/servers/releases.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/mem.h"
#include "ident/digest.h"

enum { READERS_MAX = 16, CHUNK = 256 * 1024 };

/* Longer than hashing RELEASES_MAX archives takes. */
#define SCAN_WAIT (120 * USEC_SEC)

struct release_list {
    size_t n;
    struct release_entry *at[RELEASES_MAX];
    uint64_t stamp; /* changes when a release comes, goes or is signed again */
};

struct releases {
    char *dir;
    struct lane *lane;
    struct release_list list;
};

/* --- Entries ------------------------------------------------------------------------------------------------------------------ */

struct release_entry *release_entry_ref(struct release_entry *e)
{
    e->refs++;
    return e;
}

struct release_entry *release_entry_unref(struct release_entry *e)
{
    if (!e || --e->refs)
        return NULL;
    buf_release(&e->metadata);
    buf_release(&e->signatures);
    free(e);
    return NULL;
}

static void list_release(struct release_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        (void)release_entry_unref(l->at[i]);
    *l = (struct release_list){0};
}

/* --- Reading, on the lane ------------------------------------------------------------------------------------------------------ */

struct scan_job {
    const char *dir;
    uint64_t stamp; /* of the list that is there */
    struct release_list list;
    struct err err;
};

static int hash_file(const char *path, const struct release_file *file, struct err *err)
{
    char hex[DIGEST_HEX_SIZE];
    struct stat st;
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0)
        return err_sys(err, errno, "%s", file->name);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != file->size)
        return err_set(err, ERR_INVALID, "%s is not the file of this release: its size differs", file->name);
    AUTO_DIGEST digest = digest_new();
    AUTO_FREE char *chunk = mem_alloc(CHUNK);
    ssize_t n;
    while ((n = read(fd, chunk, CHUNK)) > 0)
        digest_add(digest, chunk, (size_t)n);
    if (n < 0)
        return err_sys(err, errno, "%s", file->name);
    digest_hex(digest, hex);
    return str_eq(str_from(hex), str_from(file->sha256))
               ? 0
               : err_set(err, ERR_INVALID, "%s is not the file of this release: its checksum differs", file->name);
}

static int read_entry(const char *path, struct release_entry *e, struct err *err)
{
    AUTO_FREE char *json = str_printf("%s/release.json", path);
    AUTO_FREE char *sig = str_printf("%s/release.sig", path);
    int rc = fd_read_file(json, &e->metadata, err);
    if (rc == 0)
        rc = fd_read_file(sig, &e->signatures, err);
    if (rc == -(int)ERR_NOT_FOUND)
        return err_set(err, ERR_UNAUTHENTICATED, "it is not signed: there is no release.sig");
    if (rc < 0)
        return rc;
    /* Shown also when it does not hold: which one it is that has the problem. */
    if (release_parse(buf_str(&e->metadata), &e->release, NULL) < 0)
        e->release = (struct release){0};
    struct release verified;
    rc = release_open(buf_str(&e->metadata), buf_str(&e->signatures), release_keys_builtin(), clock_real(), &verified, err);
    for (size_t i = 0; rc == 0 && i < verified.n_files; i++) {
        AUTO_FREE char *file = str_printf("%s/%s", path, verified.files[i].name);
        rc = hash_file(file, &verified.files[i], err);
    }
    return rc;
}

static void add_entry(struct release_list *l, const char *dir, const char *name)
{
    struct err err = ERR_INIT;
    AUTO_FREE char *path = str_printf("%s%s%s", dir, *name ? "/" : "", name);
    struct release_entry *e = NEW(struct release_entry);
    e->refs = 1;
    e->metadata = BUF_INIT(RELEASE_METADATA_MAX);
    e->signatures = BUF_INIT(RELEASE_SIGNATURES_MAX);
    (void)str_copy(e->directory, sizeof(e->directory), str_from(name));
    if (read_entry(path, e, &err) < 0)
        (void)str_copy(e->problem, sizeof(e->problem), str_from(err.msg));
    l->at[l->n++] = e;
}

static void stamp_add(uint64_t *stamp, uint64_t v)
{
    *stamp = (*stamp ^ v) * 0x100000001b3ULL;
}

/* Is @dir/@name a release? Its place and times go into the stamp. */
static bool stamp_of(const char *dir, const char *name, uint64_t *stamp)
{
    static const char *const FILES[] = {"release.json", "release.sig", ""};
    for (size_t i = 0; i < ARRAY_LEN(FILES); i++) {
        AUTO_FREE char *path = str_printf("%s/%s/%s", dir, name, FILES[i]);
        struct stat st;
        bool there = stat(path, &st) == 0;
        if (!there && i == 0)
            return false;
        stamp_add(stamp, there ? (uint64_t)st.st_ino : 0);
        stamp_add(stamp, there ? (uint64_t)st.st_size : 0);
        stamp_add(stamp, there ? (uint64_t)st.st_mtim.tv_sec * 1000000000U + (uint64_t)st.st_mtim.tv_nsec : 0);
    }
    return true;
}

static int by_age(const void *a, const void *b)
{
    const struct release_entry *x = *(struct release_entry *const *)a, *y = *(struct release_entry *const *)b;
    int order = release_version_compare(str_from(y->release.version), str_from(x->release.version));
    if (order == 0)
        order = (x->release.counter < y->release.counter) - (x->release.counter > y->release.counter);
    return order != 0 ? order : strcmp(x->directory, y->directory);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* The names of what are releases, "" first. */
static int find(const char *dir, char names[RELEASES_MAX][RELEASE_DIRECTORY_SIZE], size_t *n, uint64_t *stamp, struct err *err)
{
    DIR *d = opendir(dir);
    const struct dirent *e;
    if (!d)
        return err_sys(err, errno, "cannot read the directory of releases %s", dir);
    *n = 0;
    names[(*n)++][0] = '\0';
    while (*n < RELEASES_MAX && (e = readdir(d)) != NULL)
        if (e->d_name[0] != '.' && strlen(e->d_name) < RELEASE_DIRECTORY_SIZE && (e->d_type == DT_DIR || e->d_type == DT_UNKNOWN))
            (void)str_copy(names[(*n)++], RELEASE_DIRECTORY_SIZE, str_from(e->d_name));
    (void)closedir(d);
    qsort(names, *n, RELEASE_DIRECTORY_SIZE, by_name);
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++)
        if (stamp_of(dir, names[i], stamp))
            memmove(names[kept++], names[i], RELEASE_DIRECTORY_SIZE);
    *n = kept;
    return 0;
}

/* 1: nothing changed. */
static int scan(void *arg)
{
    struct scan_job *j = arg;
    char(*names)[RELEASE_DIRECTORY_SIZE] = mem_zalloc(RELEASES_MAX, RELEASE_DIRECTORY_SIZE);
    size_t n = 0;
    j->list.stamp = 0xcbf29ce484222325ULL;
    int rc = find(j->dir, names, &n, &j->list.stamp, &j->err);
    if (rc == 0 && j->list.stamp == j->stamp)
        rc = 1;
    for (size_t i = 0; rc == 0 && i < n; i++)
        add_entry(&j->list, j->dir, names[i]);
    qsort(j->list.at, j->list.n, sizeof(j->list.at[0]), by_age);
    free(names);
    return rc;
}

/* --- On the loop --------------------------------------------------------------------------------------------------------------- */

struct releases *releases_new(struct loop *loop, const char *dir)
{
    struct releases *rs = NEW(struct releases);
    if (dir && *dir) {
        rs->dir = str_dup(str_from(dir));
        rs->lane = lane_new(loop, "releases", 1, READERS_MAX);
    }
    return rs;
}

struct releases *releases_free(struct releases *rs)
{
    if (!rs)
        return NULL;
    rs->lane = lane_free(rs->lane);
    list_release(&rs->list);
    free(rs->dir);
    free(rs);
    return NULL;
}

int releases_refresh(struct releases *rs, struct err *err)
{
    if (!rs->dir) {
        int rc = err_set(err, ERR_PRECONDITION, "this control plane has no directory of releases");
        err_hint(err, "start davitd with --release-dir DIR (davit up --release-dir DIR); tools/release makes releases");
        return rc;
    }
    struct scan_job *j = NEW(struct scan_job);
    j->dir = rs->dir;
    j->stamp = rs->list.stamp;
    int rc = lane_call(rs->lane, scan, j, deadline_in(SCAN_WAIT));
    if (rc == 0) {
        list_release(&rs->list);
        rs->list = j->list;
    } else {
        list_release(&j->list);
    }
    if (rc < 0 && err && j->err.code != ERR_OK)
        *err = j->err;
    free(j);
    return rc < 0 ? err_ensure(err, rc) : 0;
}

size_t releases_count(const struct releases *rs)
{
    return rs->list.n;
}

struct release_entry *releases_at(const struct releases *rs, size_t i)
{
    return i < rs->list.n ? rs->list.at[i] : NULL;
}

struct release_entry *releases_newest(const struct releases *rs)
{
    struct release_entry *other = NULL;
    for (size_t i = 0; i < rs->list.n; i++) {
        struct release_entry *e = rs->list.at[i];
        if (e->problem[0] == '\0' && str_eq(str_from(e->release.channel), STR("stable")))
            return e;
        if (e->problem[0] == '\0' && !other)
            other = e;
    }
    return other;
}

struct release_entry *releases_find(const struct releases *rs, struct str version)
{
    for (size_t i = 0; i < rs->list.n; i++)
        if (rs->list.at[i]->problem[0] == '\0' && str_eq(str_from(rs->list.at[i]->release.version), version))
            return rs->list.at[i];
    return NULL;
}
