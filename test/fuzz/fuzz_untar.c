/* SPDX-License-Identifier: Apache-2.0 */
/* The archive of a release, in pieces whose size the first byte tells: names that come through are plain, sizes and limits are kept. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "host/link/untar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROOM = 16 * 1024 };

struct seen {
    uint64_t want, got, all;
    unsigned files;
};

static int on_file(void *arg, const char *name, uint64_t size, bool program, struct err *err)
{
    struct seen *s = arg;
    (void)program;
    (void)err;
    BUG_ON(!*name || strlen(name) >= UNTAR_NAME_SIZE || strchr(name, '/') || strchr(name, '.'));
    s->want = size;
    s->got = 0;
    s->all += size;
    BUG_ON(s->all > ROOM || ++s->files > UNTAR_FILES_MAX);
    return 0;
}

static int on_bytes(void *arg, struct str bytes, struct err *err)
{
    struct seen *s = arg;
    (void)err;
    s->got += bytes.n;
    BUG_ON(s->got > s->want);
    return 0;
}

static int on_end(void *arg, struct err *err)
{
    const struct seen *s = arg;
    (void)err;
    BUG_ON(s->got != s->want);
    return 0;
}

static const struct untar_handler handler = {on_file, on_bytes, on_end};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen s = {0};
    if (size == 0)
        return 0;
    size_t piece = (size_t)data[0] * 5 + 1;
    struct str rest = {(const char *)data + 1, size - 1};
    AUTO_FREE struct untar *u = NEW(struct untar);
    int rc = 0;
    untar_init(u, "davit-0.2.0-linux-amd64", ROOM, &handler, &s);
    while (rc == 0 && rest.n > 0) {
        struct str part = {rest.p, rest.n < piece ? rest.n : piece};
        rc = untar_feed(u, part, NULL);
        rest = (struct str){rest.p + part.n, rest.n - part.n};
    }
    if (rc == 0)
        (void)untar_end(u, NULL);
    return 0;
}
