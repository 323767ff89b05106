/* SPDX-License-Identifier: Apache-2.0 */
/* An archive out of a container, unpacked: whatever it holds, all of it lands below one folder, without set-id bits and without links that lead out.
 * The first byte chooses how the folder of the archive is called here, and how many bytes come at once. */
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "cli/unpack.h"

enum { INPUT_MAX = 64 * 1024 };

static const char *into;

static int look(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    char real[PATH_MAX];
    (void)kind;
    BUG_ON(ftw->level > 0 && (st->st_mode & (S_ISUID | S_ISGID)) && !S_ISDIR(st->st_mode));
    BUG_ON(!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode) && !S_ISLNK(st->st_mode));
    if (S_ISLNK(st->st_mode) && realpath(path, real))
        BUG_ON(!str_starts(str_from(real), str_from(into)));
    return 0;
}

static void feed(struct unpack *u, struct str bytes, size_t piece)
{
    int rc = 0;
    while (rc == 0 && bytes.n) {
        size_t n = bytes.n < piece ? bytes.n : piece;
        rc = unpack_feed(u, (struct str){bytes.p, n}, NULL);
        bytes = (struct str){bytes.p + n, bytes.n - n};
    }
    if (rc == 0)
        (void)unpack_end(u, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char top[] = "/tmp/davit-fuzz-XXXXXX";
    struct stat st;
    if (size == 0 || size > INPUT_MAX)
        return 0;
    BUG_ON(!mkdtemp(top));
    AUTO_FREE char *in = str_printf("%s/in", top), *kept = str_printf("%s/kept", top);
    BUG_ON(mkdir(in, 0755) != 0 || fd_write_file(kept, "kept", 4, 0600, NULL) < 0);
    int folder = open(in, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_FREE struct unpack *u = NEW(struct unpack);
    unpack_init(u, folder, data[0] & 1 ? "x" : "", NULL, NULL);
    u->root = data[0] & 2;
    feed(u, (struct str){(const char *)data + 1, size - 1}, data[0] & 4 ? 7 : 4096);
    unpack_release(u);
    (void)close(folder);
    into = in;
    BUG_ON(nftw(in, look, 16, FTW_PHYS) != 0);
    BUG_ON(lstat(kept, &st) != 0 || st.st_size != 4 || st.st_nlink != 1 || (st.st_mode & 07777) != 0600);
    BUG_ON(stat(top, &st) != 0 || st.st_nlink != 3);
    BUG_ON(fd_remove_tree(top, NULL) < 0);
    return 0;
}
