/* SPDX-License-Identifier: Apache-2.0 */
/* files_names — see files.h: paths, what may not be touched, and listings in the making. */
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "host/work/files_internal.h"

/* --- Names ---- */

int files_clean(const char *path, struct buf *ret, struct err *err)
{
    struct str rest = str_from(path);
    if (rest.n == 0 || *rest.p != '/')
        return err_set(err, ERR_INVALID, "the path in the container must be absolute");
    if (rest.n > FILES_PATH_MAX)
        return err_set(err, ERR_INVALID, "the path has more than %d bytes", FILES_PATH_MAX);
    while (rest.n) {
        struct str part = str_cut(&rest, '/');
        if (part.n == 0 || str_eq(part, STR(".")))
            continue;
        if (str_eq(part, STR("..")) || part.n > FILES_NAME_MAX)
            return err_set(err, ERR_INVALID, "the path may have neither \"..\" nor a name of more than %d bytes", FILES_NAME_MAX);
        if (buf_append_byte(ret, '/') != 0 || buf_append_str(ret, part) != 0)
            return err_set(err, ERR_INVALID, "the path is too long");
    }
    return ret->len ? 0 : buf_append_byte(ret, '/');
}

/* The agent's container, where it is in one: the engine mounts a file of that container into it. */
static bool is_own(const char *id)
{
    AUTO_BUF mounts = BUF_INIT(1024 * 1024);
    AUTO_FREE char *mark = str_printf("/containers/%s/hostname", id);
    return *id && fd_read_file("/proc/self/mountinfo", &mounts, NULL) == 0 && strstr(buf_cstr(&mounts), mark);
}

bool files_is_ours(const struct docker_container *c)
{
    static const char *const names[] = {"davit-ingress", "davit-controlplane", "davit-agent"};
    const char *purpose = docker_map_get(&c->labels, "davit.purpose");
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(c->name, names[i]) == 0)
            return true;
    return (purpose && strcmp(purpose, "sandbox") != 0 && strcmp(purpose, "service") != 0) || is_own(c->id);
}

/* "/a/b" as "/a" and "b". */
void files_split(const char *path, struct str *ret_folder, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    *ret_folder = slash == path ? STR("/") : (struct str){path, (size_t)(slash - path)};
    *ret_name = slash + 1;
}

bool files_read_only(const struct docker_container *c, const char *path)
{
    bool ro = c->read_only;
    size_t best = 0;
    for (size_t i = 0; i < c->n_mounts; i++) {
        const struct docker_container_mount *m = &c->mounts[i];
        size_t n = strlen(m->target);
        if (n > best && str_starts(str_from(path), str_from(m->target)) && (path[n] == '/' || path[n] == '\0')) {
            best = n;
            ro = m->read_only;
        }
    }
    return ro;
}

void files_facts(const struct tar_entry *e, Davit__Common__V1__FileEntry *to)
{
    static const char *const kinds[] = {
        [TAR_FILE] = "file", [TAR_DIR] = "dir", [TAR_SYMLINK] = "symlink", [TAR_HARDLINK] = "file"};
    to->kind = (char *)(uintptr_t)((size_t)e->kind < ARRAY_LEN(kinds) ? kinds[e->kind] : "other");
    to->size = e->size;
    to->mode = e->mode;
    to->uid = e->uid;
    to->gid = e->gid;
    to->modified_us = e->mtime > 0 ? (uint64_t)e->mtime * USEC_SEC : 0;
}

/* --- Listings ---- */

struct files_list files_list_new(void)
{
    struct files_list l = {.end = NEW(Davit__Link__V1__FileEnd)};
    davit__link__v1__file_end__init(l.end);
    return l;
}

/* A name may have any bytes, a message has UTF-8. */
static char *as_utf8(struct str s)
{
    AUTO_BUF out = BUF_INIT(3 * (size_t)FILES_PATH_MAX + 3);
    while (s.n) {
        size_t n = *s.p ? str_utf8_len(s) : 0;
        if ((n ? buf_append(&out, s.p, n) : buf_append_cstr(&out, "\xef\xbf\xbd")) != 0)
            break;
        n = n ? n : 1;
        s = (struct str){s.p + n, s.n - n};
    }
    return str_dup(buf_str(&out));
}

int files_list_add(struct files_list *l, struct str name, const Davit__Common__V1__FileEntry *facts, struct str target)
{
    Davit__Link__V1__FileEnd *end = l->end;
    l->names += name.n + target.n;
    if (end->n_entries == FILES_LIST_MAX || l->names > FILES_NAMES_MAX) {
        end->truncated = true;
        return 1;
    }
    if (end->n_entries == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 16;
        end->entries = mem_resize(end->entries, l->cap, sizeof(*end->entries));
    }
    Davit__Common__V1__FileEntry *e = NEW(Davit__Common__V1__FileEntry);
    *e = *facts;
    e->name = as_utf8(name);
    e->kind = str_dup(str_from(facts->kind));
    e->target = as_utf8(target);
    end->entries[end->n_entries++] = e;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const Davit__Common__V1__FileEntry *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

void files_list_done(struct files_list *l)
{
    if (l->end->n_entries)
        qsort(l->end->entries, l->end->n_entries, sizeof(*l->end->entries), by_name);
}
