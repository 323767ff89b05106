/* SPDX-License-Identifier: Apache-2.0 */
/* A backup: any bytes are refused with a message or are records with names, rows and checks that fit. Since no input finds a check by chance, the
 * payload functions get the bytes directly as well. */
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "store/archive.h"
#include "store/engine.h"

static void whole(const uint8_t *data, size_t size)
{
    static struct archive_manifest m;
    struct err err = ERR_INIT;
    bool has_user = false;
    AUTO_FD int fd = memfd_create("archive", MFD_CLOEXEC);

    BUG_ON(fd < 0 || fd_write_all(fd, data, size, NULL) != 0 || lseek(fd, 0, SEEK_SET) != 0);
    if (archive_verify(fd, &m, &has_user, &err) < 0)
        BUG_ON(!err.msg[0]);
    else
        BUG_ON(m.format != ARCHIVE_FORMAT || !m.version[0]);
}

/* The same bytes as the payloads of well-made records: what a hand with a checker could make. */
static void wrapped(const uint8_t *data, size_t size)
{
    AUTO_FD int fd = memfd_create("archive", MFD_CLOEXEC);
    static struct archive_manifest m;
    struct archive_writer w;
    struct str rest = {(const char *)data, size};
    bool has_user = false;

    BUG_ON(fd < 0 || archive_begin(&w, fd, NULL) != 0);
    while (rest.n > 0) {
        static const char kinds[] = "MFTR";
        char kind = kinds[(uint8_t)rest.p[0] % 4];
        rest = (struct str){rest.p + 1, rest.n - 1};
        struct str payload = str_cut(&rest, '\n');
        BUG_ON(archive_put(&w, kind, &payload, 1, NULL) != 0);
    }
    BUG_ON(archive_end(&w, NULL) != 0 || lseek(fd, 0, SEEK_SET) != 0);
    archive_writer_release(&w);
    if (archive_verify(fd, &m, &has_user, NULL) == 0)
        BUG_ON(m.part[0] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str payload = {(const char *)data, size}, name, content;
    struct value values[3] = {{.letter = 'i'}, {.letter = 't'}, {.letter = 'b'}};

    whole(data, size);
    wrapped(data, size);
    if (archive_file(payload, &name, &content, NULL) == 0)
        BUG_ON(name.n == 0 || name.p[0] == '.' || memchr(name.p, '/', name.n) || content.n > ARCHIVE_FILE_MAX);
    if (archive_row(payload, values, 3, NULL) == 0)
        BUG_ON(values[1].s.n + values[2].s.n > size);
    return 0;
}
