/* SPDX-License-Identifier: Apache-2.0 */
/* untar — see untar.h. */
#include "host/link/untar.h"

#include "base/mem.h"

static bool name_allowed(struct str name)
{
    if (str_eq(name, STR("MANIFEST")))
        return true;
    if (name.n == 0 || name.n >= UNTAR_NAME_SIZE || name.p[0] < 'a' || name.p[0] > 'z')
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (!((name.p[i] >= 'a' && name.p[i] <= 'z') || (name.p[i] >= '0' && name.p[i] <= '9') || name.p[i] == '-'))
            return false;
    return true;
}

static int begin_directory(struct untar *u, struct str name, struct err *err)
{
    struct str want = str_from(u->directory);
    if (name.n > 0 && name.p[name.n - 1] == '/')
        name.n--;
    if (u->begun || !str_eq(name, want))
        return err_set(err, ERR_INVALID, "the archive has another directory than %s", u->directory);
    u->begun = true;
    return 0;
}

static int begin_file(struct untar *u, struct str path, const struct tar_entry *e, struct err *err)
{
    struct str dir = str_from(u->directory);
    struct str name = {path.p + dir.n + 1, path.n > dir.n ? path.n - dir.n - 1 : 0};
    if (!u->begun || !str_starts(path, dir) || path.n <= dir.n || path.p[dir.n] != '/' || !name_allowed(name))
        return err_set(err, ERR_INVALID, "the archive has a name that it must not have");
    for (unsigned i = 0; i < u->n_names; i++)
        if (str_eq(name, str_from(u->names[i])))
            return err_set(err, ERR_INVALID, "the archive has %s twice", u->names[i]);
    if (u->n_names == UNTAR_FILES_MAX)
        return err_set(err, ERR_EXHAUSTED, "the archive has more than %d files", UNTAR_FILES_MAX);
    if (e->size > u->room)
        return err_set(err, ERR_EXHAUSTED, "the files of the archive are larger than it may be");
    (void)str_copy(u->names[u->n_names], UNTAR_NAME_SIZE, name);
    u->room -= e->size;
    u->in_file = true;
    return u->handler->on_file(u->arg, u->names[u->n_names++], e->size, (e->mode & 0111) != 0, err);
}

static int on_entry(void *arg, const struct tar_entry *e, struct err *err)
{
    struct untar *u = arg;
    if (e->kind == TAR_DIR)
        return begin_directory(u, str_from(e->name), err);
    if (e->kind == TAR_FILE)
        return begin_file(u, str_from(e->name), e, err);
    return err_set(err, ERR_INVALID, "the archive has something that is neither a file nor its directory");
}

static int on_bytes(void *arg, struct str bytes, struct err *err)
{
    struct untar *u = arg;
    return u->handler->on_bytes(u->arg, bytes, err);
}

static int on_end(void *arg, struct err *err)
{
    struct untar *u = arg;
    if (!u->in_file) /* it was the directory */
        return 0;
    u->in_file = false;
    return u->handler->on_end(u->arg, err);
}

static const struct tar_handler entries = {on_entry, on_bytes, on_end};

void untar_init(struct untar *u, const char *directory, uint64_t bytes_max, const struct untar_handler *handler, void *arg)
{
    *u = (struct untar){.handler = handler, .arg = arg, .directory = directory, .room = bytes_max};
    tar_reader_init(&u->tar, true, &entries, u);
}

int untar_feed(struct untar *u, struct str bytes, struct err *err)
{
    return tar_feed(&u->tar, bytes, err);
}

int untar_end(const struct untar *u, struct err *err)
{
    int rc = tar_reader_end(&u->tar, err);
    return rc == 0 && !u->begun ? err_set(err, ERR_INVALID, "the archive ends too early") : rc;
}
