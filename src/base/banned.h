/* SPDX-License-Identifier: Apache-2.0 */
/* banned — functions that nobody here calls: unbounded copies, hidden state, silent number parsing, shells.
 * Comes in front of every source by `-include base/banned.h`. The headers of the C library that declare or mention these are
 * read first, since a poisoned name is an error wherever it appears afterwards.
 * Instead: str_copy, str_printf, str_cut, str_to_*, buf, clock_format, loop/child. */
#ifndef DAVIT_BASE_BANNED_H
#define DAVIT_BASE_BANNED_H

/* Nothing for assembly or for code made from the schema. */
#if !defined(__ASSEMBLER__) && !defined(DAVIT_GENERATED)

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <wchar.h>
/* A library whose header mentions one of them (its wrapper's build says which). */
#ifdef DAVIT_READ_FIRST
#include DAVIT_READ_FIRST
#endif

#pragma GCC poison sprintf vsprintf gets strcpy strcat strncpy strncat stpcpy strtok strtok_r
#pragma GCC poison gmtime localtime ctime asctime
#pragma GCC poison atoi atol atoll atof strtol strtoll strtoul strtoull
#pragma GCC poison popen tmpnam tempnam mktemp

/* These words are also ordinary names of fields, so only the call is refused. */
#ifdef __clang__
#define BANNED_CALL(why) __attribute__((unavailable(why)))
#else
#define BANNED_CALL(why) __attribute__((error(why)))
#endif
extern int system(const char *command) BANNED_CALL("system() runs a shell: use loop/child");

#endif
#endif
