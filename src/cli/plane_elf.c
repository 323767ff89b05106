/* SPDX-License-Identifier: Apache-2.0 */
/* plane_elf — see plane_elf.h. The loader is asked itself (ld.so --list): how it searches is its business. */
#include "cli/plane_elf.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "loop/child.h"

enum { HEADERS_MAX = 64, LIST_MAX = 64 * 1024 };
static const usec_t LIST_WAIT = 20 * USEC_SEC;

/* The path in PT_INTERP, "" where there is none. */
static int read_loader(const char *program, char ret[PATH_MAX], struct err *err)
{
    AUTO_FD int fd = open(program, O_RDONLY | O_CLOEXEC);
    Elf64_Ehdr head;
    Elf64_Phdr p[HEADERS_MAX];

    ret[0] = '\0';
    if (fd < 0)
        return err_sys(err, errno, "%s", program);
    if (pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
        head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_phentsize != sizeof(p[0]) || head.e_phnum > HEADERS_MAX)
        return err_set(err, ERR_PRECONDITION, "%s is no program of this machine", program);
    size_t n = head.e_phnum * sizeof(p[0]);
    if (pread(fd, p, n, (off_t)head.e_phoff) != (ssize_t)n)
        return err_set(err, ERR_PRECONDITION, "%s is cut short", program);
    for (size_t i = 0; i < head.e_phnum; i++) {
        size_t size = p[i].p_filesz;
        if (p[i].p_type != PT_INTERP)
            continue;
        if (size < 2 || size > PATH_MAX || pread(fd, ret, size, (off_t)p[i].p_offset) != (ssize_t)size || ret[size - 1] || ret[0] != '/')
            return err_set(err, ERR_PRECONDITION, "%s names no loader that could be found", program);
    }
    return 0;
}

bool plane_elf_is_static(const char *program)
{
    char loader[PATH_MAX];

    return read_loader(program, loader, NULL) == 0 && !*loader;
}

/* "libz.so.1 => /lib/libz.so.1 (0x...)", "/lib64/ld.so (0x...)", "linux-vdso.so.1 (0x...)", "libq.so => not found". */
static int read_line(struct str line, const char *program, plane_elf_fn *fn, void *arg, struct err *err)
{
    const char *arrow = memmem(line.p, line.n, " => ", 4);
    struct str path = str_trim(arrow ? (struct str){arrow + 4, line.n - (size_t)(arrow + 4 - line.p)} : line);

    if (str_starts(path, STR("not found"))) {
        (void)err_set(err, ERR_PRECONDITION, "%s needs a library that is not here: " STR_FMT, program, STR_ARG(str_trim(line)));
        return -ERR_PRECONDITION;
    }
    if (path.n == 0 || path.p[0] != '/')
        return 0;
    AUTO_FREE char *found = str_dup(str_cut(&path, ' '));
    return fn(arg, found);
}

int plane_elf_libraries(struct loop *loop, const char *program, plane_elf_fn *fn, void *arg, struct err *err)
{
    char loader[PATH_MAX];
    struct child_result result;
    int rc = read_loader(program, loader, err);

    if (rc < 0 || !*loader || (rc = fn(arg, loader)) < 0)
        return rc;
    const char *const argv[] = {loader, "--list", program, NULL};
    const struct child_spec spec = {.argv = argv, .output_max = LIST_MAX};
    rc = child_run(loop, &spec, deadline_in(LIST_WAIT), &result, err);
    if (rc < 0)
        return rc;
    if (result.exit_status != 0 || result.truncated)
        rc = err_set(err, ERR_PRECONDITION, "%s --list %s: %.200s", loader, program, buf_cstr(&result.err));
    for (struct str rest = buf_str(&result.out); rc == 0 && rest.n > 0;)
        rc = read_line(str_cut(&rest, '\n'), program, fn, arg, err);
    child_result_release(&result);
    return rc;
}
