/* SPDX-License-Identifier: Apache-2.0 */
/* Envelopes of foreign bytes under a known key, and key files. An input that begins with "davit-" or '#' is a key file; else the bytes are opened
 * as they are, sealed and opened again, and sealed and opened with one byte of theirs changed. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "ident/seal.h"

#define KEY "davit-master-key-1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"

static char path[64];

static void load(struct str text, struct seal **ret)
{
    if (!*path)
        (void)snprintf(path, sizeof(path), "/tmp/dv.fuzz.%d", (int)getpid());
    if (fd_write_file(path, text.p, text.n, 0600, NULL) == 0)
        (void)!seal_load(path, ret, NULL);
    (void)unlink(path);
}

static void open_as_it_is(const struct seal *seal, struct str bytes)
{
    AUTO_SECRET content = NULL;
    (void)seal_is_current(seal, bytes);
    if (seal_open(seal, "fuzz/1", bytes, &content, NULL) == 0)
        BUG_ON(secret_len(content) + SEAL_OVERHEAD != bytes.n);
}

static void there_and_back(const struct seal *seal, struct str bytes)
{
    AUTO_SECRET content = NULL;
    AUTO_SECRET none = NULL;
    AUTO_BUF out = BUF_INIT(2 * 1024 * 1024);
    if (bytes.n > 1024 * 1024)
        return;
    BUG_ON(seal_close(seal, "fuzz/1", bytes, &out, NULL) != 0);
    BUG_ON(seal_open(seal, "fuzz/1", buf_str(&out), &content, NULL) != 0 || !str_eq(secret_reveal(content), bytes));
    size_t at = bytes.n ? (uint8_t)bytes.p[0] % out.len : 0;
    out.data[at] = (char)(out.data[at] ^ (bytes.n > 1 && bytes.p[1] ? bytes.p[1] : 1));
    BUG_ON(seal_open(seal, "fuzz/1", buf_str(&out), &none, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct seal *seal;
    struct str bytes = {(const char *)data, size};
    if (!seal)
        load(STR(KEY), &seal);
    BUG_ON(!seal);
    if (str_starts(bytes, STR("davit-")) || str_starts(bytes, STR("#"))) {
        AUTO_SEAL other = NULL;
        char id[SEAL_ID_SIZE];
        load(bytes, &other);
        if (other) {
            seal_id(other, id);
            BUG_ON(!seal_has(other, str_from(id)));
        }
        return 0;
    }
    open_as_it_is(seal, bytes);
    there_and_back(seal, bytes);
    return 0;
}
