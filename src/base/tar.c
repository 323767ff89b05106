/* SPDX-License-Identifier: Apache-2.0 */
/* tar — see tar.h. */
#include "base/tar.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Fields of a header block: offset and length. */
enum {
    NAME_AT = 0,
    NAME_N = 100,
    MODE_AT = 100,
    UID_AT = 108,
    GID_AT = 116,
    ID_N = 8,
    SIZE_AT = 124,
    SIZE_N = 12,
    MTIME_AT = 136,
    SUM_AT = 148,
    SUM_N = 8,
    TYPE_AT = 156,
    LINK_AT = 157,
    LINK_N = 100,
    MAGIC_AT = 257,
    MAJOR_AT = 329,
    MINOR_AT = 337,
    PREFIX_AT = 345,
    PREFIX_N = 155,
};

static const char posix[] = "ustar\0"
                            "00",
                  gnu[] = "ustar  ";

const char tar_zeros[TAR_END];

/* --- Reading ---- */

void tar_reader_init(struct tar_reader *r, bool plain_only, const struct tar_handler *handler, void *arg)
{
    *r = (struct tar_reader){.handler = handler, .arg = arg, .plain_only = plain_only};
    buf_init(&r->body, TAR_EXTENSION_MAX);
    buf_init(&r->name, TAR_NAME_MAX);
    buf_init(&r->link, TAR_NAME_MAX);
}

void tar_reader_release(struct tar_reader *r)
{
    buf_release(&r->body);
    buf_release(&r->name);
    buf_release(&r->link);
}

/* Octal digits, blanks before and NULs or blanks behind; none at all is 0. */
static int octal(const uint8_t *p, size_t n, uint64_t *ret)
{
    size_t i = 0;
    *ret = 0;
    while (i < n && p[i] == ' ')
        i++;
    while (i < n && p[i] >= '0' && p[i] <= '7')
        *ret = *ret << 3 | (uint64_t)(p[i++] - '0');
    for (; i < n; i++)
        if (p[i] != '\0' && p[i] != ' ')
            return -(int)ERR_INVALID;
    return 0;
}

/* The same, or as GNU writes what is too large for it; negative numbers are none. */
static int number(const uint8_t *p, size_t n, uint64_t *ret)
{
    if (p[0] != 0x80)
        return octal(p, n, ret);
    *ret = 0;
    for (size_t i = 1; i < n; i++) {
        if (*ret >> 55)
            return -(int)ERR_INVALID;
        *ret = *ret << 8 | p[i];
    }
    return 0;
}

static bool sum_holds(const uint8_t *block)
{
    uint64_t want = 0, sum = 0;
    for (size_t i = 0; i < TAR_BLOCK; i++)
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

/* A field of text: up to its NUL, if it has one. */
static struct str field(const uint8_t *b, size_t at, size_t n)
{
    return (struct str){(const char *)b + at, strnlen((const char *)b + at, n)};
}

static int broken(struct err *err)
{
    return err_set(err, ERR_INVALID, "a header of the archive cannot be read");
}

static int keep(struct buf *to, struct str s, struct err *err)
{
    buf_clear(to);
    if (s.n == 0 || memchr(s.p, '\0', s.n))
        return broken(err);
    return buf_append_str(to, s) == 0 ? 0
                                      : err_set(err, ERR_EXHAUSTED, "the archive has a name of more than %d bytes", TAR_NAME_MAX);
}

static int pax_record(struct tar_reader *r, struct str key, struct str value, struct err *err)
{
    uint64_t n = 0;
    struct str whole = value;
    if (str_eq(key, STR("path")))
        return keep(&r->name, value, err);
    if (str_eq(key, STR("linkpath")))
        return keep(&r->link, value, err);
    if (str_starts(key, STR("GNU.sparse")))
        return err_set(err, ERR_INVALID, "the archive has a sparse file");
    if (str_eq(key, STR("size")) || str_eq(key, STR("uid")) || str_eq(key, STR("gid"))) {
        bool is_size = *key.p == 's';
        if (str_to_u64(value, is_size ? INT64_MAX - TAR_BLOCK : UINT32_MAX, &n) < 0)
            return broken(err);
        *(is_size ? &r->has_size : *key.p == 'u' ? &r->has_uid : &r->has_gid) = true;
        if (is_size)
            r->size = n;
        else
            *(*key.p == 'u' ? &r->uid : &r->gid) = (uint32_t)n;
    } else if (str_eq(key, STR("mtime"))) {
        if (str_to_i64(str_cut(&whole, '.'), INT64_MIN / 2, INT64_MAX / 2, &r->mtime) < 0)
            return broken(err);
        r->has_mtime = true;
    }
    return 0;
}

/* Records "LENGTH KEY=VALUE\n". */
static int pax(struct tar_reader *r, struct str s, struct err *err)
{
    int rc = 0;
    while (rc == 0 && s.n) {
        struct str rest = s, digits = str_cut(&rest, ' ');
        uint64_t n = 0;
        if (str_to_u64(digits, s.n, &n) < 0 || n <= digits.n + 2 || s.p[n - 1] != '\n')
            return broken(err);
        struct str value = {s.p + digits.n + 1, (size_t)n - digits.n - 2};
        if (!memchr(value.p, '=', value.n))
            return broken(err);
        struct str key = str_cut(&value, '=');
        if (r->extension == 'x')
            rc = pax_record(r, key, value, err);
        else if (str_eq(key, STR("path")) || str_eq(key, STR("linkpath")) || str_eq(key, STR("size")))
            rc = err_set(err, ERR_INVALID, "the archive gives all its files one name");
        s = (struct str){s.p + n, s.n - (size_t)n};
    }
    return rc;
}

/* The body of an extended header is there. */
static int extension_end(struct tar_reader *r, struct err *err)
{
    struct str s = buf_str(&r->body);
    int rc;
    if (r->extension == 'x' || r->extension == 'g') {
        rc = pax(r, s, err);
    } else {
        while (s.n && s.p[s.n - 1] == '\0')
            s.n--;
        rc = keep(r->extension == 'L' ? &r->name : &r->link, s, err);
    }
    r->extended = r->extension != 'g' || r->extended;
    r->extension = 0;
    buf_clear(&r->body);
    return rc;
}

static void forget(struct tar_reader *r)
{
    buf_clear(&r->name);
    buf_clear(&r->link);
    r->extended = r->has_size = r->has_uid = r->has_gid = r->has_mtime = false;
}

static bool kind_of(uint8_t type, enum tar_kind *ret)
{
    static const char types[] = "0\0"
                                "7512346";
    static const enum tar_kind kinds[] = {TAR_FILE,    TAR_FILE, TAR_FILE,   TAR_DIR, TAR_HARDLINK,
                                          TAR_SYMLINK, TAR_CHAR, TAR_DEVICE, TAR_FIFO};
    const char *at = memchr(types, type, sizeof(types) - 1);
    *ret = at ? kinds[at - types] : TAR_FILE;
    return at != NULL;
}

static int numbers(const struct tar_reader *r, struct tar_entry *e, struct err *err)
{
    const uint8_t *b = r->block;
    uint64_t mode = 0, uid = 0, gid = 0, mtime = 0, size = 0, major = 0, minor = 0;
    bool device = e->kind == TAR_CHAR || e->kind == TAR_DEVICE;
    if (octal(b + MODE_AT, ID_N, &mode) < 0 || number(b + UID_AT, ID_N, &uid) < 0 || number(b + GID_AT, ID_N, &gid) < 0 ||
        number(b + SIZE_AT, SIZE_N, &size) < 0 || size > INT64_MAX - TAR_BLOCK)
        return broken(err);
    if (device && (octal(b + MAJOR_AT, ID_N, &major) < 0 || octal(b + MINOR_AT, ID_N, &minor) < 0))
        return broken(err);
    if (number(b + MTIME_AT, SIZE_N, &mtime) < 0 || mtime > INT64_MAX / 2) /* before 1970, say: it matters to nobody */
        mtime = 0;
    e->mode = (uint32_t)mode & 07777;
    e->uid = r->has_uid ? r->uid : (uint32_t)uid;
    e->gid = r->has_gid ? r->gid : (uint32_t)gid;
    e->size = r->has_size ? r->size : size;
    e->mtime = r->has_mtime ? r->mtime : (int64_t)mtime;
    e->major = (uint32_t)major;
    e->minor = (uint32_t)minor;
    return 0;
}

/* The name in two parts, as ustar has it. */
static void own_names(struct tar_reader *r, bool is_posix)
{
    struct str name = field(r->block, NAME_AT, NAME_N), prefix = field(r->block, PREFIX_AT, PREFIX_N),
               link = field(r->block, LINK_AT, LINK_N);
    (void)snprintf(r->own_name, sizeof(r->own_name), STR_FMT "%s" STR_FMT, STR_ARG(is_posix ? prefix : STR("")),
                   is_posix && prefix.n ? "/" : "", STR_ARG(name));
    (void)snprintf(r->own_link, sizeof(r->own_link), STR_FMT, STR_ARG(link));
}

static int entry(struct tar_reader *r, bool is_posix, struct err *err)
{
    const uint8_t *b = r->block;
    struct tar_entry e = {.link = ""};
    if (!kind_of(b[TYPE_AT], &e.kind))
        return err_set(err, ERR_INVALID, "the archive has something that is no file");
    int rc = numbers(r, &e, err);
    if (rc < 0)
        return rc;
    own_names(r, is_posix);
    e.name = r->name.len ? buf_cstr(&r->name) : r->own_name;
    if (e.kind == TAR_SYMLINK || e.kind == TAR_HARDLINK)
        e.link = r->link.len ? buf_cstr(&r->link) : r->own_link;
    e.plain = is_posix && !r->extended && all_zero(b + PREFIX_AT, PREFIX_N) && all_zero(b + LINK_AT, LINK_N) &&
              b[SIZE_AT] != 0x80 && b[NAME_N - 1] == 0 && b[TYPE_AT] != 0 && b[TYPE_AT] != '7' && b[MODE_AT] >= '0' &&
              b[SIZE_AT] >= '0' && (e.kind == TAR_FILE || e.size == 0);
    if (!*e.name || (r->plain_only && !e.plain))
        return broken(err);
    if (e.kind != TAR_FILE)
        e.size = 0; /* whatever it says: of the file that a link means, say. Nothing follows */
    r->left = e.size;
    r->pad = tar_pad(e.size);
    r->in_entry = true;
    rc = r->handler->on_entry(r->arg, &e, err);
    forget(r);
    return rc;
}

static int header(struct tar_reader *r, struct err *err)
{
    const uint8_t *b = r->block;
    uint64_t size = 0;
    if (all_zero(b, TAR_BLOCK)) {
        if (r->extended)
            return broken(err);
        r->zeros++;
        return 0;
    }
    if (r->zeros)
        return err_set(err, ERR_INVALID, "the archive goes on behind its end");
    bool is_posix = memcmp(b + MAGIC_AT, posix, 8) == 0;
    if (!sum_holds(b) || (!is_posix && memcmp(b + MAGIC_AT, gnu, 8) != 0))
        return err_set(err, ERR_INVALID, "it is no tar archive");
    if (!memchr("xgLK", b[TYPE_AT], 4))
        return entry(r, is_posix, err);
    if (r->plain_only || number(b + SIZE_AT, SIZE_N, &size) < 0 || size == 0)
        return broken(err);
    if (size > TAR_EXTENSION_MAX)
        return err_set(err, ERR_EXHAUSTED, "a header of the archive has more than %d bytes", TAR_EXTENSION_MAX);
    r->extension = (char)b[TYPE_AT];
    r->left = size;
    r->pad = tar_pad(size);
    return 0;
}

/* Bytes of the present entry and what fills up its last block. */
static int content(struct tar_reader *r, struct str *in, struct err *err)
{
    struct str take = {in->p, r->left < in->n ? (size_t)r->left : in->n};
    int rc = 0;
    if (take.n && r->extension)
        rc = buf_append_str(&r->body, take);
    else if (take.n)
        rc = r->handler->on_bytes(r->arg, take, err);
    if (rc < 0)
        return rc;
    r->left -= take.n;
    *in = (struct str){in->p + take.n, in->n - take.n};
    if (r->left > 0)
        return 0;
    size_t pad = r->pad < in->n ? (size_t)r->pad : in->n;
    r->pad -= pad;
    *in = (struct str){in->p + pad, in->n - pad};
    if (r->pad > 0)
        return 0;
    if (r->extension)
        return extension_end(r, err);
    r->in_entry = false;
    return r->handler->on_end(r->arg, err);
}

int tar_feed(struct tar_reader *r, struct str in, struct err *err)
{
    int rc = 0;
    while (rc == 0 && (in.n > 0 || ((r->in_entry || r->extension) && r->left == 0 && r->pad == 0))) {
        if (r->in_entry || r->extension) {
            rc = content(r, &in, err);
            continue;
        }
        size_t n = TAR_BLOCK - r->have < in.n ? TAR_BLOCK - r->have : in.n;
        memcpy(r->block + r->have, in.p, n);
        r->have += n;
        in = (struct str){in.p + n, in.n - n};
        if (r->have == TAR_BLOCK) {
            r->have = 0;
            rc = header(r, err);
        }
    }
    return rc;
}

int tar_reader_end(const struct tar_reader *r, struct err *err)
{
    if (r->in_entry || r->extension || r->extended || r->have || r->zeros < 2)
        return err_set(err, ERR_INVALID, "the archive ends too early");
    return 0;
}

/* --- Writing ---- */

size_t tar_pad(uint64_t size)
{
    return (size_t)((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

static void put_octal(char *b, size_t at, size_t n, uint64_t value)
{
    char text[32];
    (void)snprintf(text, sizeof(text), "%0*" PRIo64, (int)n - 1, value);
    memcpy(b + at, text, n - 1);
}

static bool octal_fits(uint64_t value, size_t n)
{
    return value >> (3 * (n - 1)) == 0;
}

static int put_block(struct buf *out, char type, const struct tar_entry *e)
{
    char b[TAR_BLOCK] = {0};
    size_t name = strlen(e->name), link = strlen(e->link);
    memcpy(b + NAME_AT, e->name, name < NAME_N ? name : NAME_N);
    memcpy(b + LINK_AT, e->link, link < LINK_N ? link : LINK_N);
    put_octal(b, MODE_AT, ID_N, e->mode & 07777);
    put_octal(b, UID_AT, ID_N, octal_fits(e->uid, ID_N) ? e->uid : 0);
    put_octal(b, GID_AT, ID_N, octal_fits(e->gid, ID_N) ? e->gid : 0);
    put_octal(b, SIZE_AT, SIZE_N, octal_fits(e->size, SIZE_N) ? e->size : 0);
    put_octal(b, MTIME_AT, SIZE_N, e->mtime > 0 && octal_fits((uint64_t)e->mtime, SIZE_N) ? (uint64_t)e->mtime : 0);
    put_octal(b, MAJOR_AT, ID_N, e->major & 07777777);
    put_octal(b, MINOR_AT, ID_N, e->minor & 07777777);
    b[TYPE_AT] = type;
    memcpy(b + MAGIC_AT, posix, 8);
    memset(b + SUM_AT, ' ', SUM_N);
    uint64_t sum = 0;
    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += (uint8_t)b[i];
    put_octal(b, SUM_AT, SUM_N - 1, sum);
    b[SUM_AT + SUM_N - 2] = '\0';
    return buf_append(out, b, sizeof(b));
}

/* "LENGTH KEY=VALUE\n", the length with its own digits in it. */
static int put_record(struct buf *pax, const char *key, const char *value)
{
    size_t rest = strlen(key) + strlen(value) + 3, n = rest + 1, digits = 1;
    for (size_t next = 10; n >= next; next *= 10) {
        digits++;
        n = rest + digits;
    }
    return buf_printf(pax, "%zu %s=%s\n", rest + digits, key, value);
}

static int put_number(struct buf *pax, const char *key, uint64_t value, size_t n)
{
    char text[24];
    if (octal_fits(value, n))
        return 0;
    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    return put_record(pax, key, text);
}

static int put_extension(struct buf *out, const struct tar_entry *e)
{
    AUTO_BUF pax = BUF_INIT(4 * TAR_NAME_MAX);
    int rc = strlen(e->name) > NAME_N ? put_record(&pax, "path", e->name) : 0;
    if (rc == 0 && strlen(e->link) > LINK_N)
        rc = put_record(&pax, "linkpath", e->link);
    if (rc == 0)
        rc = put_number(&pax, "size", e->size, SIZE_N);
    if (rc == 0)
        rc = put_number(&pax, "uid", e->uid, ID_N);
    if (rc == 0)
        rc = put_number(&pax, "gid", e->gid, ID_N);
    if (rc != 0 || pax.len == 0)
        return rc;
    const struct tar_entry head = {.name = "pax", .link = "", .size = pax.len, .mode = 0600};
    rc = put_block(out, 'x', &head);
    if (rc == 0)
        rc = buf_append_str(out, buf_str(&pax));
    return rc == 0 ? buf_append(out, tar_zeros, tar_pad(pax.len)) : rc;
}

int tar_put(struct buf *out, const struct tar_entry *e)
{
    static const char types[] = {[TAR_FILE] = '0', [TAR_DIR] = '5',    [TAR_SYMLINK] = '2', [TAR_HARDLINK] = '1',
                                 [TAR_CHAR] = '3', [TAR_DEVICE] = '4', [TAR_FIFO] = '6'};
    size_t name = strlen(e->name), link = strlen(e->link);
    if (name == 0 || name > TAR_NAME_MAX || link > TAR_NAME_MAX)
        return -(int)ERR_INVALID;
    int rc = put_extension(out, e);
    return rc == 0 ? put_block(out, types[e->kind], e) : rc;
}

int tar_put_file(struct buf *out, const char *name, struct str content, uint32_t mode, int64_t mtime)
{
    const struct tar_entry e = {.kind = TAR_FILE, .name = name, .link = "", .size = content.n, .mode = mode, .mtime = mtime};
    int rc = tar_put(out, &e);
    if (rc == 0)
        rc = buf_append_str(out, content);
    return rc == 0 ? buf_append(out, tar_zeros, tar_pad(content.n)) : rc;
}
