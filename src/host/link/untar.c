/* SPDX-License-Identifier: Apache-2.0 */
/* untar — see untar.h. */
#include "host/link/untar.h"

#include <string.h>

#include "base/mem.h"

/* Fields of a header block: offset and length. */
enum {
    NAME_AT = 0, NAME_N = 100, MODE_AT = 100, SIZE_AT = 124, SIZE_N = 12, SUM_AT = 148, SUM_N = 8, TYPE_AT = 156, LINK_AT = 157, LINK_N = 100,
    MAGIC_AT = 257, PREFIX_AT = 345, PREFIX_N = 155,
};

void untar_init(struct untar *u, const char *directory, uint64_t bytes_max, const struct untar_handler *handler, void *arg)
{
    *u = (struct untar){.handler = handler, .arg = arg, .directory = directory, .room = bytes_max};
}

/* Octal digits up to a NUL or blank, at least one. */
static int octal(const uint8_t *p, size_t n, uint64_t *ret)
{
    size_t i = 0;
    *ret = 0;
    while (i < n && p[i] >= '0' && p[i] <= '7')
        *ret = *ret << 3 | (uint64_t)(p[i++] - '0');
    if (i == 0)
        return -(int)ERR_INVALID;
    for (; i < n; i++)
        if (p[i] != '\0' && p[i] != ' ')
            return -(int)ERR_INVALID;
    return 0;
}

static bool sum_holds(const uint8_t *block)
{
    uint64_t want = 0, sum = 0;
    for (size_t i = 0; i < UNTAR_BLOCK; i++)
        sum += i >= SUM_AT && i < SUM_AT + SUM_N ? ' ' : block[i];
    return octal(block + SUM_AT, SUM_N, &want) == 0 && want == sum;
}

static bool all_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

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

static int begin_directory(struct untar *u, struct str name, uint64_t size, struct err *err)
{
    struct str want = str_from(u->directory);
    if (name.n > 0 && name.p[name.n - 1] == '/')
        name.n--;
    if (u->begun || size != 0 || !str_eq(name, want))
        return err_set(err, ERR_INVALID, "the archive has another directory than %s", u->directory);
    u->begun = true;
    return 0;
}

static int begin_file(struct untar *u, struct str path, uint64_t size, uint64_t mode, struct err *err)
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
    if (size > u->room)
        return err_set(err, ERR_EXHAUSTED, "the files of the archive are larger than it may be");
    (void)str_copy(u->names[u->n_names], UNTAR_NAME_SIZE, name);
    u->room -= size;
    u->left = size;
    u->pad = (UNTAR_BLOCK - size % UNTAR_BLOCK) % UNTAR_BLOCK;
    u->in_file = true;
    return u->handler->on_file(u->arg, u->names[u->n_names++], size, (mode & 0111) != 0, err);
}

static int header(struct untar *u, struct err *err)
{
    const uint8_t *b = u->block;
    uint64_t size = 0, mode = 0;
    if (all_zero(b, UNTAR_BLOCK)) {
        u->zeros++;
        return 0;
    }
    if (u->zeros)
        return err_set(err, ERR_INVALID, "the archive goes on behind its end");
    if (!sum_holds(b) || memcmp(b + MAGIC_AT, "ustar\0" "00", 8) != 0)
        return err_set(err, ERR_INVALID, "it is no ustar archive");
    if (octal(b + SIZE_AT, SIZE_N, &size) < 0 || octal(b + MODE_AT, 8, &mode) < 0 || !all_zero(b + PREFIX_AT, PREFIX_N) || b[NAME_AT + NAME_N - 1])
        return err_set(err, ERR_INVALID, "a header of the archive cannot be read");
    if (!all_zero(b + LINK_AT, LINK_N) || (b[TYPE_AT] != '0' && b[TYPE_AT] != '5'))
        return err_set(err, ERR_INVALID, "the archive has something that is neither a file nor its directory");
    struct str name = str_from((const char *)b + NAME_AT);
    return b[TYPE_AT] == '5' ? begin_directory(u, name, size, err) : begin_file(u, name, size, mode, err);
}

/* Bytes of the present file and what fills up its last block. */
static int file_bytes(struct untar *u, struct str *in, struct err *err)
{
    struct str take = {in->p, u->left < in->n ? (size_t)u->left : in->n};
    int rc = take.n ? u->handler->on_bytes(u->arg, take, err) : 0;
    if (rc < 0)
        return rc;
    u->left -= take.n;
    in->p += take.n;
    in->n -= take.n;
    if (u->left > 0)
        return 0;
    size_t pad = u->pad < in->n ? (size_t)u->pad : in->n;
    u->pad -= pad;
    in->p += pad;
    in->n -= pad;
    if (u->pad > 0)
        return 0;
    u->in_file = false;
    return u->handler->on_end(u->arg, err);
}

int untar_feed(struct untar *u, struct str bytes, struct err *err)
{
    int rc = 0;
    while (rc == 0 && (bytes.n > 0 || (u->in_file && u->left == 0 && u->pad == 0))) {
        if (u->in_file) {
            rc = file_bytes(u, &bytes, err);
            continue;
        }
        size_t n = UNTAR_BLOCK - u->have < bytes.n ? UNTAR_BLOCK - u->have : bytes.n;
        memcpy(u->block + u->have, bytes.p, n);
        u->have += n;
        bytes.p += n;
        bytes.n -= n;
        if (u->have == UNTAR_BLOCK) {
            u->have = 0;
            rc = header(u, err);
        }
    }
    return rc;
}

int untar_end(const struct untar *u, struct err *err)
{
    if (!u->begun || u->in_file || u->have || u->zeros < 2)
        return err_set(err, ERR_INVALID, "the archive ends too early");
    return 0;
}
