/* SPDX-License-Identifier: Apache-2.0 */
/* plane_elf — what a program needs beside itself to be started: the loader that it names and the libraries that the loader finds for it.
 * Input trust: programs of this installation.  Thread: loop, on a fiber. */
#ifndef DAVIT_CLI_PLANE_ELF_H
#define DAVIT_CLI_PLANE_ELF_H

#include <stdbool.h>

#include "base/err.h"

struct loop;

/* An absolute path, once or more; negative ends it. */
typedef int plane_elf_fn(void *arg, const char *path);

/* Waits: calls @fn for the loader of @program and for each library that it is started with; for a static one never. -ERR_PRECONDITION: a library is
 * not there. */
int plane_elf_libraries(struct loop *loop, const char *program, plane_elf_fn *fn, void *arg, struct err *err) MUST_USE;
/* Does it name no loader? What cannot be read is not static. */
bool plane_elf_is_static(const char *program);

#endif
