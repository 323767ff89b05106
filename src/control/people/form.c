/* SPDX-License-Identifier: Apache-2.0 */
/* form — see form.h. */
#include "control/people/form.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* The next character of @s, which moves behind it; -1: it is none that may be there. */
static int next_char(struct str *s)
{
    int ch = (unsigned char)*s->p;
    size_t n = 1;
    if (ch == '+') {
        ch = ' ';
    } else if (ch == '%') {
        int high = s->n >= 3 ? str_hex_digit(s->p[1]) : -1, low = s->n >= 3 ? str_hex_digit(s->p[2]) : -1;
        if (high < 0 || low < 0)
            return -1;
        ch = high * 16 + low;
        n = 3;
    }
    *s = (struct str){s->p + n, s->n - n};
    return ch < 0x20 || ch > 0x7e ? -1 : ch;
}

/* Decodes @s to *@at, which moves behind its NUL. */
static bool decode(struct str s, char **at)
{
    while (s.n) {
        int ch = next_char(&s);
        if (ch < 0)
            return false;
        *(*at)++ = (char)ch;
    }
    *(*at)++ = '\0';
    return true;
}

static const char *find(const struct form *form, const char *name)
{
    for (size_t i = 0; i < form->n; i++)
        if (strcmp(form->fields[i].name, name) == 0)
            return form->fields[i].value;
    return NULL;
}

static const char *parse(struct str rest, struct form *form)
{
    char *at = form->bytes;
    while (rest.n) {
        struct str value = str_cut(&rest, '&'), name = str_cut(&value, '=');
        if (form->n == FORM_FIELDS_MAX)
            return "too many parameters";
        const char *n = at;
        if (name.n == 0 || !decode(name, &at))
            return "the name of a parameter is malformed";
        if (find(form, n))
            return "a parameter stands there twice";
        form->fields[form->n].name = n;
        form->fields[form->n].value = at;
        if (!decode(value, &at))
            return "a parameter is malformed";
        form->n++;
    }
    return NULL;
}

int form_parse(struct str body, struct form *ret, struct err *err)
{
    /* Decoded nothing grows; each name and value gets a NUL, of which there are no more than fields. */
    size_t size = body.n + 2 * (size_t)FORM_FIELDS_MAX + 1;
    *ret = (struct form){.bytes = mem_zalloc(1, size), .size = size};
    const char *why = parse(body, ret);
    if (why)
        form_release(ret);
    return why ? err_set(err, ERR_INVALID, "%s", why) : 0;
}

void form_release(struct form *form)
{
    if (form->bytes)
        explicit_bzero(form->bytes, form->size);
    free(form->bytes);
    *form = (struct form){0};
}

const char *form_get(const struct form *form, const char *name)
{
    const char *value = find(form, name);
    return value && *value ? value : NULL;
}

bool form_type_ok(const char *content_type)
{
    struct str rest = str_from(content_type), type = str_trim(str_cut(&rest, ';'));
    return str_eq_ci(type, STR("application/x-www-form-urlencoded"));
}
