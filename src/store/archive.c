/* SPDX-License-Identifier: Apache-2.0 */
/* archive — see archive.h: records, and what is in them. */
#include "store/archive.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/hmap.h"
#include "store/engine.h"

enum { HEAD = 5, CHECK = 8, CHUNK = 64 * 1024 };
static const char mark[16] = "davit backup 1\n"; /* the NUL counts */

static void put_u32(char *p, uint32_t v)
{
    v = htobe32(v);
    memcpy(p, &v, sizeof(v));
}

static void put_u64(char *p, uint64_t v)
{
    v = htobe64(v);
    memcpy(p, &v, sizeof(v));
}

static uint32_t get_u32(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return be32toh(v);
}

static uint64_t get_u64(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return be64toh(v);
}

static uint64_t check_of(uint64_t before, uint64_t number, const char *p, size_t n)
{
    const uint64_t key[2] = {before, number};
    return hash_siphash(key, p, n);
}

/* --- Writing ---------------------------------------------------------------------------------------------------------------------- */

static int flush(struct archive_writer *w, struct err *err)
{
    int rc = fd_write_all(w->fd, w->out.data, w->out.len, err);
    buf_clear(&w->out);
    return rc;
}

int archive_begin(struct archive_writer *w, int fd, struct err *err)
{
    *w = (struct archive_writer){.fd = fd, .out = BUF_INIT((size_t)ARCHIVE_RECORD_MAX + 2 * CHUNK)};
    return buf_append(&w->out, mark, sizeof(mark)) == 0 ? 0 : err_set(err, ERR_EXHAUSTED, "a backup cannot be begun");
}

int archive_put(struct archive_writer *w, char kind, const struct str *parts, size_t n, struct err *err)
{
    char head[HEAD] = {kind}, check[CHECK];
    size_t size = 0, at = w->out.len;
    for (size_t i = 0; i < n; i++)
        size += parts[i].n;
    if (size > ARCHIVE_RECORD_MAX)
        return err_set(err, ERR_EXHAUSTED, "a record of %zu bytes is too large for a backup", size);
    put_u32(head + 1, (uint32_t)size);
    int rc = buf_append(&w->out, head, HEAD);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = buf_append_str(&w->out, parts[i]);
    if (rc == 0) {
        w->check = check_of(w->check, w->records++, w->out.data + at, HEAD + size);
        put_u64(check, w->check);
        rc = buf_append(&w->out, check, CHECK);
    }
    BUG_ON(rc < 0); /* the buffer is as large as the limit */
    return w->out.len < CHUNK ? 0 : flush(w, err);
}

int archive_put_file(struct archive_writer *w, const char *name, struct str content, struct err *err)
{
    char length = (char)strlen(name);
    BUG_ON(strlen(name) > ARCHIVE_NAME_MAX);
    if (content.n > ARCHIVE_FILE_MAX)
        return err_set(err, ERR_EXHAUSTED, "%s is too large for a backup", name);
    const struct str parts[] = {{&length, 1}, str_from(name), content};
    return archive_put(w, 'F', parts, ARRAY_LEN(parts), err);
}

int archive_put_row(struct archive_writer *w, const struct value *values, size_t n, struct err *err)
{
    char heads[VALUES_MAX][9];
    struct str parts[2 * VALUES_MAX];
    BUG_ON(n > VALUES_MAX);
    for (size_t i = 0; i < n; i++) {
        const struct value *v = &values[i];
        heads[i][0] = v->null ? '0' : v->letter;
        parts[2 * i] = (struct str){heads[i], v->null ? 1 : v->letter == 'i' ? 9 : 5};
        parts[2 * i + 1] = v->null || v->letter == 'i' ? STR("") : v->s;
        if (v->letter == 'i')
            put_u64(heads[i] + 1, (uint64_t)v->i);
        else
            put_u32(heads[i] + 1, (uint32_t)v->s.n);
    }
    return archive_put(w, 'R', parts, 2 * n, err);
}

int archive_end(struct archive_writer *w, struct err *err)
{
    char count[8];
    put_u64(count, w->records);
    const struct str part = {count, sizeof(count)};
    int rc = archive_put(w, 'E', &part, 1, err);
    return rc < 0 ? rc : flush(w, err);
}

void archive_writer_release(struct archive_writer *w)
{
    if (w->out.data)
        explicit_bzero(w->out.data, w->out.cap);
    buf_release(&w->out);
}

/* --- Reading ---------------------------------------------------------------------------------------------------------------------- */

static int damaged(struct err *err, const char *why)
{
    return err_set(err, ERR_DATA_LOSS, "the backup is damaged: %s", why);
}

/* Sees to @n bytes from pos on. Memory grows with what is there, not with what a length claims. 0; 1: the file ends before. */
static int need(struct archive_reader *r, size_t n, struct err *err)
{
    while (r->in.len - r->pos < n) {
        if (r->pos >= CHUNK || r->pos == r->in.len) {
            buf_consume(&r->in, r->pos);
            r->pos = 0;
        }
        void *p = buf_reserve(&r->in, CHUNK);
        if (p == NULL)
            return damaged(err, "a record is too large");
        ssize_t got = read(r->fd, p, CHUNK);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_sys(err, errno, "cannot read the backup");
        if (got == 0)
            return 1;
        buf_commit(&r->in, (size_t)got);
    }
    return 0;
}

static int read_mark(struct archive_reader *r, struct err *err)
{
    r->check = r->records = 0;
    r->ended = false;
    int rc = need(r, sizeof(mark), err);
    if (rc < 0)
        return rc;
    if (rc == 1 || memcmp(r->in.data + r->pos, mark, sizeof(mark)) != 0)
        return err_set(err, ERR_INVALID, "this file is no backup of Davit");
    r->pos += sizeof(mark);
    return 0;
}

int archive_open(struct archive_reader *r, int fd, struct err *err)
{
    *r = (struct archive_reader){.fd = fd, .in = BUF_INIT((size_t)ARCHIVE_RECORD_MAX + 4 * CHUNK)};
    return read_mark(r, err);
}

int archive_next_part(struct archive_reader *r, struct err *err)
{
    BUG_ON(!r->ended);
    int rc = need(r, 1, err);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    rc = read_mark(r, NULL);
    return rc < 0 ? damaged(err, "something follows its end") : 1;
}

static int at_end(struct archive_reader *r, struct str payload, struct err *err)
{
    if (payload.n != 8 || get_u64(payload.p) != r->records - 1)
        return damaged(err, "records are missing");
    r->ended = true;
    return 0;
}

int archive_next(struct archive_reader *r, char *ret_kind, struct str *ret, struct err *err)
{
    BUG_ON(r->ended);
    int rc = need(r, HEAD, err);
    size_t n = rc == 0 ? get_u32(r->in.data + r->pos + 1) : 0;
    if (rc == 0 && n > ARCHIVE_RECORD_MAX)
        return damaged(err, "a record is too large");
    if (rc == 0)
        rc = need(r, HEAD + n + CHECK, err);
    if (rc != 0)
        return rc < 0 ? rc : damaged(err, "it is cut off");
    const char *p = r->in.data + r->pos;
    r->check = check_of(r->check, r->records++, p, HEAD + n);
    if (r->check != get_u64(p + HEAD + n))
        return damaged(err, "a check does not fit");
    r->pos += HEAD + n + CHECK;
    *ret_kind = *p;
    *ret = (struct str){p + HEAD, n};
    if (*p == 'E')
        return at_end(r, *ret, err);
    return strchr("MFTR", *p) && *p ? 1 : damaged(err, "a record of unknown kind");
}

void archive_reader_release(struct archive_reader *r)
{
    if (r->in.data)
        explicit_bzero(r->in.data, r->in.cap);
    buf_release(&r->in);
}

/* --- Payloads --------------------------------------------------------------------------------------------------------------------- */

static int cut(struct str *s, size_t n, struct str *ret)
{
    if (s->n < n)
        return -ERR_DATA_LOSS;
    *ret = (struct str){s->p, n};
    s->p += n;
    s->n -= n;
    return 0;
}

int archive_name(struct str *payload, struct str *ret, struct err *err)
{
    struct str length;
    bool ok = cut(payload, 1, &length) == 0 && (uint8_t)*length.p > 0 && (uint8_t)*length.p <= ARCHIVE_NAME_MAX &&
              cut(payload, (uint8_t)*length.p, ret) == 0 && ret->p[0] != '.';
    for (size_t i = 0; ok && i < ret->n; i++) {
        char c = ret->p[i];
        ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    }
    return ok ? 0 : damaged(err, "a name that is none");
}

int archive_file(struct str payload, struct str *ret_name, struct str *ret_content, struct err *err)
{
    int rc = archive_name(&payload, ret_name, err);
    if (rc == 0 && payload.n > ARCHIVE_FILE_MAX)
        return damaged(err, "a file is too large");
    *ret_content = payload;
    return rc;
}

int archive_table(struct str *payload, size_t *ret_n, struct str *ret_name, struct err *err)
{
    struct str count;
    size_t n = cut(payload, 1, &count) == 0 ? (uint8_t)*count.p : 0;
    if (n == 0 || n > VALUES_MAX)
        return damaged(err, "a table without columns");
    *ret_n = n;
    return archive_name(payload, ret_name, err);
}

int archive_column(struct str *payload, char *ret_letter, struct str *ret_name, struct err *err)
{
    struct str letter;
    if (cut(payload, 1, &letter) < 0 || (*letter.p != 'i' && *letter.p != 't' && *letter.p != 'b'))
        return damaged(err, "a column of no type");
    *ret_letter = *letter.p;
    return archive_name(payload, ret_name, err);
}

static int take_value(struct str *payload, struct value *v)
{
    struct str bytes, length;
    char declared = v->letter;
    if (cut(payload, 1, &bytes) < 0)
        return -ERR_DATA_LOSS;
    char found = *bytes.p;
    *v = (struct value){.letter = declared, .null = found == '0', .s = STR("")};
    if (v->null)
        return 0;
    if (found != declared)
        return -ERR_DATA_LOSS;
    if (found == 'i') {
        int rc = cut(payload, 8, &bytes);
        v->i = rc == 0 ? (int64_t)get_u64(bytes.p) : 0;
        return rc;
    }
    return cut(payload, 4, &length) < 0 ? -ERR_DATA_LOSS : cut(payload, get_u32(length.p), &v->s);
}

int archive_row(struct str payload, struct value *values, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++)
        if (take_value(&payload, &values[i]) < 0 || values[i].s.n > STORE_VALUE_MAX)
            return damaged(err, "a row does not fit its table");
    return payload.n == 0 ? 0 : damaged(err, "a row does not fit its table");
}
