/* SPDX-License-Identifier: Apache-2.0 */
/* form — bodies of type application/x-www-form-urlencoded, strictly: each name once (RFC 6749, 3.2), values of printable ASCII, which is all that
 * the parameters of OAuth have.  Thread: any.  Input trust: peer.  Limits: FORM_FIELDS_MAX fields. */
#ifndef DAVIT_CONTROL_FORM_H
#define DAVIT_CONTROL_FORM_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

enum { FORM_FIELDS_MAX = 16 };

/* Release with form_release. */
struct form {
    char *bytes; /* names and values, decoded, each with a NUL behind it */
    size_t size, n;
    struct {
        const char *name, *value;
    } fields[FORM_FIELDS_MAX];
};

/* 0, or -ERR_INVALID with what is wrong. @ret needs form_release on 0 only. */
int form_parse(struct str body, struct form *ret, struct err *err) MUST_USE;
/* Wipes; harmless on a zeroed one. */
void form_release(struct form *form);
/* The value, or NULL where there is none or an empty one. Borrowed. */
const char *form_get(const struct form *form, const char *name);
/* Is this media type that of such bodies? */
bool form_type_ok(const char *content_type);

#endif
