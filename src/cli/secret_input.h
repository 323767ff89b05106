/* SPDX-License-Identifier: Apache-2.0 */
/* secret_input — passwords and values that shall not stand on a command line: from standard input, from a file, or asked for without echo.
 * Thread: any; blocks.  Limits: the caller's. */
#ifndef DAVIT_CLI_SECRET_INPUT_H
#define DAVIT_CLI_SECRET_INPUT_H

#include "base/err.h"
#include "base/secret.h"

/* @path NULL: asks with @prompt when standard input is a terminal, else reads it; "-": standard input; else that file. One newline at the end does
 * not count. -ERR_EXHAUSTED beyond @max bytes, -ERR_INVALID for what is not text, -ERR_CANCELLED when the user gave up. */
int secret_input(const char *path, const char *prompt, size_t max, struct secret **ret, struct err *err) MUST_USE;
/* All that the file @path holds ("-": standard input), to the last byte; otherwise as secret_input. */
int secret_input_whole(const char *path, size_t max, struct secret **ret, struct err *err) MUST_USE;

#endif
