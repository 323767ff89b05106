/* SPDX-License-Identifier: Apache-2.0 */
/* env_text — variables as people paste them: lines NAME=VALUE.
 *   - blank lines and lines that begin with "#" are passed over; "export " in front of a name too
 *   - a value without quotes ends at the line's end or before a blank with "#" behind it, and has no blanks at its ends
 *   - in '...' everything stands for itself, in "..." \n \r \t \" \\ and \$ are escapes; both may go over several lines
 *   - nothing is expanded: "$" is a character like others
 * Names are judged by spec_is_env_name, values by their length; a name may be there once.
 * Thread: any; pure.  Limits: SPEC_ENV_MAX variables, SPEC_ENV_VALUE_MAX a value; ENV_TEXT_ERRORS_MAX complaints.
 * Input trust: peer, UTF-8 or not. */
#ifndef DAVIT_SPEC_ENV_TEXT_H
#define DAVIT_SPEC_ENV_TEXT_H

#include "base/err.h"
#include "base/str.h"

enum { ENV_TEXT_ERRORS_MAX = 20 };

struct env_text_sink {
    /* @name and @value are borrowed for the call; @value is followed by a NUL and wiped afterwards. Negative ends the parse. */
    int (*take)(void *arg, struct str name, struct str value);
    /* "line 3: ..." without any part of a value; may be NULL. */
    void (*complain)(void *arg, const char *what);
    void *arg;
};

/* 0; 1: at least one line was wrong (others may have been taken; after ENV_TEXT_ERRORS_MAX it stops); what take returned, when negative. */
int env_text_parse(struct str text, const struct env_text_sink *sink) MUST_USE;

#endif
