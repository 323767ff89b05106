/* SPDX-License-Identifier: Apache-2.0 */
/* oracle_jansson — jansson as second opinion.  Thread: any. */
#ifndef DAVIT_TEST_ORACLE_JANSSON_H
#define DAVIT_TEST_ORACLE_JANSSON_H

#include <stdbool.h>
#include <stddef.h>

/* Is this one well-formed JSON text of any type? */
bool jansson_accepts(const char *text, size_t n);

#endif
