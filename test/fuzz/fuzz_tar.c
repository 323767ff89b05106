/* SPDX-License-Identifier: Apache-2.0 */
/* A foreign archive, in pieces whose size the first byte tells: as many bytes as each entry says, names within their limit; and what is read can be
 * written and is the same when it is read again. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "base/tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BYTES_MAX = 4 * 1024 * 1024 };

struct seen {
    uint64_t want, got;
    bool open, again;
    struct buf copy, names; /* what was read, as it is written; and in words */
};

static int on_entry(void *arg, const struct tar_entry *e, struct err *err)
{
    struct seen *s = arg;
    BUG_ON(s->open || !*e->name || strlen(e->name) > TAR_NAME_MAX || strlen(e->link) > TAR_NAME_MAX || e->mode > 07777);
    BUG_ON(e->size && e->kind != TAR_FILE);
    s->open = true;
    s->want = e->size;
    s->got = 0;
    if (buf_printf(&s->names, "%d %s %s %llu %o %u %u;", (int)e->kind, e->name, e->link, (unsigned long long)e->size, e->mode,
                   e->uid, e->gid) < 0)
        return err_set(err, ERR_EXHAUSTED, "enough");
    return s->again || tar_put(&s->copy, e) == 0 ? 0 : err_set(err, ERR_EXHAUSTED, "enough");
}

static int on_bytes(void *arg, struct str bytes, struct err *err)
{
    struct seen *s = arg;
    s->got += bytes.n;
    BUG_ON(!s->open || s->got > s->want);
    return s->again || buf_append_str(&s->copy, bytes) == 0 ? 0 : err_set(err, ERR_EXHAUSTED, "enough");
}

static int on_end(void *arg, struct err *err)
{
    struct seen *s = arg;
    BUG_ON(!s->open || s->got != s->want);
    s->open = false;
    return s->again || buf_append(&s->copy, tar_zeros, tar_pad(s->want)) == 0 ? 0 : err_set(err, ERR_EXHAUSTED, "enough");
}

static const struct tar_handler handler = {on_entry, on_bytes, on_end};

static int read_all(struct str in, size_t piece, struct seen *s)
{
    AUTO_FREE struct tar_reader *r = NEW(struct tar_reader);
    int rc = 0;
    tar_reader_init(r, false, &handler, s);
    while (rc == 0 && in.n > 0) {
        struct str part = {in.p, in.n < piece ? in.n : piece};
        rc = tar_feed(r, part, NULL);
        in = (struct str){in.p + part.n, in.n - part.n};
    }
    if (rc == 0)
        rc = tar_reader_end(r, NULL);
    tar_reader_release(r);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen s = {.copy = BUF_INIT(BYTES_MAX), .names = BUF_INIT(BYTES_MAX)},
                t = {.again = true, .names = BUF_INIT(BYTES_MAX)};
    if (size == 0)
        return 0;
    if (read_all((struct str){(const char *)data + 1, size - 1}, (size_t)data[0] * 5 + 1, &s) == 0 &&
        buf_append(&s.copy, tar_zeros, TAR_END) == 0) {
        BUG_ON(read_all(buf_str(&s.copy), 4096, &t) != 0);
        BUG_ON(!str_eq(buf_str(&s.names), buf_str(&t.names)));
    }
    buf_release(&s.copy);
    buf_release(&s.names);
    buf_release(&t.names);
    return 0;
}
