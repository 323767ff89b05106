/* SPDX-License-Identifier: Apache-2.0 */
/* terminal — our own terminal while it is another's: raw, and as it was in any case.
 * Thread: main.  There is one per process. */
#ifndef DAVIT_CLI_TERMINAL_H
#define DAVIT_CLI_TERMINAL_H

#include <stdbool.h>

#include "base/err.h"

/* Bytes go through as they are from now on, until terminal_restore or the exit of the process. -ERR_PRECONDITION: stdin is no terminal. */
int terminal_raw(struct err *err) MUST_USE;
/* As it was before terminal_raw. Harmless without, and a second time. */
void terminal_restore(void);
/* Rows and columns of stdout; false: it is no terminal, or has no size. */
bool terminal_size(unsigned *ret_rows, unsigned *ret_columns);

#endif
