/* SPDX-License-Identifier: Apache-2.0 */
/* protoc-gen-davit-text — see protoc-gen-davit.h. */
#include "protoc-gen-davit.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { ERRORS_MAX = 20 };

static char errors[8192];
static unsigned n_errors;

void complain(const char *fmt, ...)
{
    if (n_errors++ >= ERRORS_MAX)
        return;
    size_t at = strlen(errors);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(errors + at, sizeof(errors) - at, fmt, ap);
    va_end(ap);
    if (n > 0 && (size_t)n + 1 < sizeof(errors) - at) {
        errors[at + (size_t)n] = '\n';
        errors[at + (size_t)n + 1] = 0;
    }
}

char *complaints(void)
{
    if (n_errors == 0)
        return NULL;
    errors[strlen(errors) - 1] = 0;
    return errors;
}

void die(const char *what)
{
    (void)fprintf(stderr, "protoc-gen-davit: %s\n", what);
    exit(1);
}

void *grow(void *p, size_t count, size_t size)
{
    void *q = reallocarray(p, count, size);
    if (!q)
        die("out of memory");
    return q;
}

char *text(const char *fmt, ...)
{
    char *s = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    if (n < 0)
        die("out of memory");
    return s;
}

char *snake(const char *full, const char *dot)
{
    char *out = grow(NULL, strlen(full) * 2 + 1, 1), *w = out;
    bool was_upper = true;
    for (const char *p = full; *p; p++) {
        if (*p == '.') {
            for (const char *d = dot; *d; d++)
                *w++ = *d;
            was_upper = true;
            continue;
        }
        bool upper = isupper((unsigned char)*p) != 0;
        if (upper && !was_upper)
            *w++ = '_';
        *w++ = (char)tolower((unsigned char)*p);
        was_upper = upper;
    }
    *w = 0;
    return out;
}

uint8_t *read_all(FILE *f, size_t *ret_n)
{
    uint8_t *p = NULL;
    size_t n = 0, cap = 0;
    for (;;) {
        if (n == cap) {
            cap = cap ? cap * 2 : 65536;
            if (cap > INPUT_MAX)
                die("too much input");
            p = grow(p, cap, 1);
        }
        size_t got = fread(p + n, 1, cap - n, f);
        if (got == 0)
            break;
        n += got;
    }
    if (ferror(f))
        die("cannot read");
    *ret_n = n;
    return p;
}
