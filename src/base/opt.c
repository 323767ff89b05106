/* SPDX-License-Identifier: Apache-2.0 */
/* opt — fills a struct from defaults, environment and command line after one table, see opt.h.
 * Help and man page are in opt_help.c. */
#include "base/opt.h"

#include <stdint.h>
#include <string.h>

#include "base/str.h"

enum { NAME_MAX_BYTES = 64, TABLE_MAX = 128 };

/* One run of the parser. */
struct parse {
    const struct opt *table;
    char *target;
    int argc;
    char **argv;
    int at; /* argument in hand */
    const char **operands;
    size_t n_operands, max_operands;
    size_t command; /* operand after which there are no options, 0: none */
    bool help;
    bool seen[TABLE_MAX]; /* given on the command line, by index in the table */
};

static void *field(const struct parse *p, const struct opt *o)
{
    return p->target + o->offset;
}

const char *opt_env_name(const struct opt *o, char dst[OPT_ENV_MAX])
{
    size_t n = (size_t)snprintf(dst, OPT_ENV_MAX, "DAVIT_%s", o->name);

    BUG_ON(n >= OPT_ENV_MAX);
    for (char *c = dst; *c != '\0'; c++) {
        if (*c == '-')
            *c = '_';
        else if (*c >= 'a' && *c <= 'z')
            *c = (char)(*c - ('a' - 'A'));
    }
    return dst;
}

static size_t field_size(enum opt_type type)
{
    switch (type) {
    case OPT_BOOL:
        return sizeof(bool);
    case OPT_STRING:
    case OPT_ENUM:
        return sizeof(const char *);
    case OPT_LIST:
        return sizeof(struct opt_list);
    case OPT_INT:
    case OPT_USEC:
    case OPT_BYTES:
    case OPT_MILLI:
        break;
    }
    return sizeof(uint64_t);
}

static int parse_bool(const char *text, bool *ret)
{
    static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no", "off", "0"};

    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *ret = strcmp(text, yes[i]) == 0;
            return 0;
        }
    }
    return -(int)ERR_INVALID;
}

static int parse_number(const struct opt *o, const char *text, void *dst)
{
    bool bounded = o->min != 0 || o->max != 0;
    uint64_t max = bounded ? (uint64_t)o->max : UINT64_MAX, v = 0;
    struct str s = str_from(text);
    int64_t i = 0;
    int rc;

    if (o->type == OPT_INT) {
        rc = str_to_i64(s, bounded ? o->min : INT64_MIN, bounded ? o->max : INT64_MAX, &i);
        if (rc == 0)
            *(int64_t *)dst = i;
        return rc;
    }
    if (o->type == OPT_USEC)
        rc = str_to_usec(s, max, &v);
    else if (o->type == OPT_BYTES)
        rc = str_to_bytes(s, max, &v);
    else
        rc = str_to_milli(s, max, &v);
    if (rc == 0 && bounded && v < (uint64_t)o->min)
        return -(int)ERR_RANGE;
    if (rc == 0)
        *(uint64_t *)dst = v;
    return rc;
}

static int parse_enum(const struct opt *o, const char *text, const char **dst)
{
    struct str all = str_from(o->choices), want = str_from(text);

    while (all.n > 0) {
        if (str_eq(str_cut(&all, '|'), want)) {
            *dst = text;
            return 0;
        }
    }
    return -(int)ERR_INVALID;
}

static int set_error(const struct opt *o, const char *text, const char *origin, int rc, struct err *err)
{
    char bounds[OPT_BOUNDS_MAX];

    opt_bounds(o, bounds);
    (void)err_set(err, ERR_INVALID, "%s: \"%s\" is %s", origin, text, rc == -(int)ERR_RANGE ? "out of range" : "not valid");
    if (o->type == OPT_ENUM)
        err_hint(err, "one of %s", o->choices);
    else if (bounds[0] != '\0')
        err_hint(err, "allowed: %s", bounds);
    else if (o->type == OPT_BOOL)
        err_hint(err, "true or false");
    return -(int)ERR_INVALID;
}

/* Sets the field of @o from @text; @origin names the source in messages. */
static int set(const struct parse *p, const struct opt *o, const char *text, const char *origin, struct err *err)
{
    struct opt_list *list;
    int rc = 0;

    switch (o->type) {
    case OPT_BOOL:
        rc = parse_bool(text, field(p, o));
        break;
    case OPT_STRING:
        *(const char **)field(p, o) = text;
        break;
    case OPT_LIST:
        list = field(p, o);
        if (list->n >= OPT_LIST_MAX)
            return err_set(err, ERR_INVALID, "%s may be given %d times at most", origin, (int)OPT_LIST_MAX);
        list->v[list->n++] = text;
        break;
    case OPT_ENUM:
        rc = parse_enum(o, text, field(p, o));
        break;
    case OPT_INT:
    case OPT_USEC:
    case OPT_BYTES:
    case OPT_MILLI:
        rc = parse_number(o, text, field(p, o));
        break;
    }
    return rc < 0 ? set_error(o, text, origin, rc, err) : 0;
}

/* Default or environment; an empty variable counts as unset. */
static int from_defaults(const struct parse *p, struct err *err)
{
    char name[OPT_ENV_MAX];

    for (const struct opt *o = p->table; o->name != NULL; o++) {
        memset(field(p, o), 0, field_size(o->type));
        const char *env = o->env ? getenv(opt_env_name(o, name)) : NULL;
        int rc = 0;
        if (env != NULL && env[0] != '\0')
            rc = set(p, o, env, name, err);
        else if (o->def != NULL)
            BUG_ON(set(p, o, o->def, o->name, err) < 0);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static bool named(const struct opt *o, struct str name)
{
    return str_eq(str_from(o->name), name) || (o->alias != NULL && str_eq(str_from(o->alias), name));
}

static const struct opt *find_long(const struct parse *p, struct str name)
{
    for (const struct opt *o = p->table; o->name != NULL; o++) {
        if (named(o, name))
            return o;
    }
    return NULL;
}

static const struct opt *find_letter(const struct parse *p, char letter)
{
    for (const struct opt *o = p->table; o->name != NULL; o++) {
        if (o->letter != 0 && o->letter == letter)
            return o;
    }
    return NULL;
}

/* Edits (insert, delete, replace, swap of neighbours) from @a to @b; both are cut at NAME_MAX_BYTES. */
static size_t distance(struct str a, struct str b)
{
    size_t rows[3][NAME_MAX_BYTES + 1];

    a.n = a.n < NAME_MAX_BYTES ? a.n : NAME_MAX_BYTES;
    b.n = b.n < NAME_MAX_BYTES ? b.n : NAME_MAX_BYTES;
    for (size_t k = 0; k <= b.n; k++)
        rows[0][k] = k;
    for (size_t i = 1; i <= a.n; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t k = 1; k <= b.n; k++) {
            size_t best = above[k - 1] + (a.p[i - 1] != b.p[k - 1]);
            if (above[k] + 1 < best)
                best = above[k] + 1;
            if (row[k - 1] + 1 < best)
                best = row[k - 1] + 1;
            if (i > 1 && k > 1 && a.p[i - 1] == b.p[k - 2] && a.p[i - 2] == b.p[k - 1] && above2[k - 2] + 1 < best)
                best = above2[k - 2] + 1;
            row[k] = best;
        }
    }
    return rows[a.n % 3][b.n];
}

static int unknown(const struct parse *p, struct str name, struct err *err)
{
    const char *best = NULL;
    size_t least = name.n / 3 < 1 ? 2 : name.n / 3 + 1; /* further away is no slip of the fingers */

    for (const struct opt *o = p->table; o->name != NULL; o++) {
        struct str known = str_from(o->name);
        size_t d = name.n >= 2 && str_starts(known, name) ? 1 : distance(name, known);
        if (d < least) {
            least = d;
            best = o->name;
        }
    }
    (void)err_set(err, ERR_INVALID, "unknown option --" STR_FMT, (int)(name.n < 100 ? name.n : 100), name.p);
    if (best != NULL)
        err_hint(err, "did you mean --%s?", best);
    else
        err_hint(err, "--help lists all options");
    return -(int)ERR_INVALID;
}

/* The argument after the one in hand, as value of option @name. */
static const char *next_value(struct parse *p, const char *name, struct err *err)
{
    if (p->at + 1 >= p->argc) {
        (void)err_set(err, ERR_INVALID, "%s needs a value", name);
        err_hint(err, "--help lists all options");
        return NULL;
    }
    return p->argv[++p->at];
}

/* A value from the command line. The first one of a list drops what default and environment put there. */
static int set_cli(struct parse *p, const struct opt *o, const char *text, const char *origin, struct err *err)
{
    size_t index = (size_t)(o - p->table);

    BUG_ON(index >= TABLE_MAX);
    if (o->type == OPT_LIST && !p->seen[index])
        ((struct opt_list *)field(p, o))->n = 0;
    if (o->operand && !p->seen[index] && p->command)
        p->command--;
    p->seen[index] = true;
    return set(p, o, text, origin, err);
}

static int parse_long(struct parse *p, const char *arg, struct err *err)
{
    struct str rest = str_from(arg + 2), name = str_cut(&rest, '=');
    const char *value = strchr(arg, '=') != NULL ? rest.p : NULL;
    char origin[NAME_MAX_BYTES + 8];
    const struct opt *o = find_long(p, name);
    bool negated = false;

    if (o == NULL && str_eq(name, STR("help")) && value == NULL) {
        p->help = true;
        return 0;
    }
    if (o == NULL && str_starts(name, STR("no-"))) {
        o = find_long(p, (struct str){name.p + 3, name.n - 3});
        negated = o != NULL && o->type == OPT_BOOL;
    }
    if (o == NULL || (negated && value != NULL) || (!negated && !named(o, name)))
        return unknown(p, name, err);
    (void)snprintf(origin, sizeof(origin), "--%s", o->name);
    if (o->type == OPT_BOOL && value == NULL) {
        *(bool *)field(p, o) = !negated;
        return 0;
    }
    if (value == NULL)
        value = next_value(p, origin, err);
    return value != NULL ? set_cli(p, o, value, origin, err) : -(int)ERR_INVALID;
}

/* "-v", "-abc" for switches, "-nVALUE", "-n VALUE". */
static int parse_short(struct parse *p, const char *arg, struct err *err)
{
    for (const char *c = arg + 1; *c != '\0'; c++) {
        const struct opt *o = find_letter(p, *c);
        const char origin[] = {'-', *c, '\0'};
        if (o == NULL && *c == 'h') {
            p->help = true;
            continue;
        }
        if (o == NULL) {
            (void)err_set(err, ERR_INVALID, "unknown option %s", origin);
            err_hint(err, "--help lists all options");
            return -(int)ERR_INVALID;
        }
        if (o->type == OPT_BOOL) {
            *(bool *)field(p, o) = true;
            continue;
        }
        const char *value = c[1] != '\0' ? c + 1 : next_value(p, origin, err);
        return value != NULL ? set_cli(p, o, value, origin, err) : -(int)ERR_INVALID;
    }
    return 0;
}

static int add_operand(struct parse *p, const char *arg, struct err *err)
{
    if (p->n_operands >= p->max_operands) {
        (void)err_set(err, ERR_INVALID, "unexpected argument \"%.100s\"", arg);
        err_hint(err, "--help shows the usage");
        return -(int)ERR_INVALID;
    }
    p->operands[p->n_operands++] = arg;
    return 0;
}

int opt_parse_command(const struct opt *table, int argc, char **argv, void *target, const char **operands, size_t *n_operands, size_t command,
                      struct err *err)
{
    struct parse p = {.table = table, .target = target, .argc = argc, .argv = argv, .operands = operands, .command = command};
    bool only_operands = false;
    int rc;

    p.max_operands = n_operands != NULL ? *n_operands : 0;
    rc = from_defaults(&p, err);
    for (p.at = 1; rc == 0 && p.at < argc; p.at++) {
        const char *arg = argv[p.at];
        if (only_operands || arg[0] != '-' || arg[1] == '\0') {
            rc = add_operand(&p, arg, err);
            only_operands = only_operands || (p.command && p.n_operands >= p.command);
        } else if (strcmp(arg, "--") == 0) {
            only_operands = true;
        } else {
            rc = arg[1] == '-' ? parse_long(&p, arg, err) : parse_short(&p, arg, err);
        }
        /* Help is given even if what follows makes no sense. */
        if (p.help)
            return 1;
    }
    if (n_operands != NULL)
        *n_operands = p.n_operands;
    return rc;
}

int opt_parse(const struct opt *table, int argc, char **argv, void *target, const char **operands, size_t *n_operands,
              struct err *err)
{
    return opt_parse_command(table, argc, argv, target, operands, n_operands, 0, err);
}
