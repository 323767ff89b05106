/* SPDX-License-Identifier: Apache-2.0 */
/* protoc-gen-davit-messages — what messages may look like, and their side tables (src/rpc/schema.h). */
#include "protoc-gen-davit.h"

#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 28, FIELDS_MAX = 256 };

#define TYPE_MESSAGE   GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_MESSAGE
#define WELL_KNOWN     ".google.protobuf."
#define is_optional(f) ((f)->has_proto3_optional && (f)->proto3_optional)

struct entry {
    char *name;
    const message_t *message;
};
static struct entry *entries;
static size_t n_entries;

void collect(const char *prefix, message_t *const *messages, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        entries = grow(entries, n_entries + 1, sizeof(*entries));
        char *name = text("%s.%s", prefix, messages[i]->name);
        entries[n_entries++] = (struct entry){name, messages[i]};
        collect(name, messages[i]->nested_type, messages[i]->n_nested_type);
    }
}

const message_t *find(const char *name)
{
    for (size_t i = 0; i < n_entries; i++)
        if (strcmp(entries[i].name, name) == 0)
            return entries[i].message;
    return NULL;
}

/* Follows the fields of @name down; @path holds the names above it. Google's Struct contains itself and is bounded when it is read. */
static bool is_recursive(const char *name, const char **path, unsigned depth)
{
    for (unsigned i = 0; i < depth; i++)
        if (strcmp(path[i], name) == 0)
            return true;
    const message_t *m = find(name);
    if (!m || strncmp(name, WELL_KNOWN, strlen(WELL_KNOWN)) == 0)
        return false;
    if (depth == DEPTH_MAX)
        return true;
    path[depth] = name;
    for (size_t i = 0; i < m->n_field; i++)
        if (m->field[i]->type == TYPE_MESSAGE && is_recursive(m->field[i]->type_name, path, depth + 1))
            return true;
    return false;
}

/* ---- names ---- */

struct name {
    const char *name;
    size_t field;
};

static int by_number(const void *a, const void *b)
{
    const field_t *const *x = a, *const *y = b;
    return ((*x)->number > (*y)->number) - ((*x)->number < (*y)->number);
}

static int by_name(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* The fields of @m as protobuf-c has them. */
static const field_t **sorted_fields(const message_t *m)
{
    const field_t **fields = grow(NULL, m->n_field + 1, sizeof(*fields));
    for (size_t i = 0; i < m->n_field; i++)
        fields[i] = m->field[i];
    qsort(fields, m->n_field, sizeof(*fields), by_number);
    return fields;
}

/* Both spellings of each field, sorted. */
static struct name *sorted_names(const field_t *const *fields, size_t n, size_t *ret_n)
{
    struct name *names = grow(NULL, 2 * n + 1, sizeof(*names));
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        names[k++] = (struct name){fields[i]->name, i};
        if (fields[i]->json_name && strcmp(fields[i]->json_name, fields[i]->name) != 0)
            names[k++] = (struct name){fields[i]->json_name, i};
    }
    qsort(names, k, sizeof(*names), by_name);
    *ret_n = k;
    return names;
}

/* A text as a C literal. */
static void put_literal(FILE *c, const char *s)
{
    (void)fputc('"', c);
    for (; *s; s++)
        (void)fprintf(c, (unsigned char)*s < ' ' || *s == '"' || *s == '\\' || *s == '?' ? "\\%03o" : "%c", (unsigned char)*s);
    (void)fputc('"', c);
}

/* ---- checks ---- */

void check_message(const char *full, const message_t *m)
{
    const char *path[DEPTH_MAX];
    if (is_recursive(full, path, 0))
        complain("%s: recursive (or nested deeper than %d)", full + 1, DEPTH_MAX);
    if (m->n_field > FIELDS_MAX)
        complain("%s: more than %d fields", full + 1, FIELDS_MAX);
    const field_t **fields = sorted_fields(m);
    size_t n;
    struct name *names = sorted_names(fields, m->n_field, &n);
    for (size_t i = 1; i < n; i++)
        if (strcmp(names[i - 1].name, names[i].name) == 0)
            complain("%s: two fields are called %s in JSON", full + 1, names[i].name);
    for (size_t i = 0; i < m->n_field; i++)
        if (fields[i]->type == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_GROUP)
            complain("%s.%s: groups are not supported", full + 1, fields[i]->name);
    free(fields);
    free(names);
    for (size_t i = 0; i < m->n_nested_type; i++)
        check_message(text("%s.%s", full, m->nested_type[i]->name), m->nested_type[i]);
}

/* ---- tables ---- */

static const char *kind_of(const char *full, const message_t *m)
{
    static const struct {
        const char *name, *kind;
    } known[] = {{"Any", "ANY"},
                 {"Timestamp", "TIMESTAMP"},
                 {"Duration", "DURATION"},
                 {"FieldMask", "FIELD_MASK"},
                 {"Struct", "STRUCT"},
                 {"Value", "VALUE"},
                 {"ListValue", "LIST_VALUE"},
                 {"DoubleValue", "WRAPPER"},
                 {"FloatValue", "WRAPPER"},
                 {"Int64Value", "WRAPPER"},
                 {"UInt64Value", "WRAPPER"},
                 {"Int32Value", "WRAPPER"},
                 {"UInt32Value", "WRAPPER"},
                 {"BoolValue", "WRAPPER"},
                 {"StringValue", "WRAPPER"},
                 {"BytesValue", "WRAPPER"}};
    if (m->options && m->options->map_entry)
        return "MAP_ENTRY";
    if (strncmp(full, WELL_KNOWN, strlen(WELL_KNOWN)) == 0)
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            if (strcmp(full + strlen(WELL_KNOWN), known[i].name) == 0)
                return known[i].kind;
    return "PLAIN";
}

static bool is_map(const field_t *f)
{
    const message_t *m = f->type == TYPE_MESSAGE ? find(f->type_name) : NULL;
    return m && m->options && m->options->map_entry;
}

static void emit_field(FILE *c, const message_t *m, const field_t *f)
{
    bool oneof = f->has_oneof_index && !is_optional(f) && (size_t)f->oneof_index < m->n_oneof_decl;
    (void)fputs("    {", c);
    put_literal(c, f->json_name ? f->json_name : f->name);
    (void)fputs(", ", c);
    if (oneof)
        put_literal(c, m->oneof_decl[f->oneof_index]->name);
    else
        (void)fputs("0", c);
    (void)fprintf(c, ", %s},\n", is_optional(f) ? "RPC_FIELD_OPTIONAL" : is_map(f) ? "RPC_FIELD_MAP" : "0");
}

void emit_message(FILE *c, const char *full, const message_t *m)
{
    char *symbol = snake(full + 1, "__");
    const field_t **fields = sorted_fields(m);
    size_t n;
    struct name *names = sorted_names(fields, m->n_field, &n);
    if (n) {
        (void)fprintf(c, "static const struct rpc_field_meta %s__fields[] = {\n", symbol);
        for (size_t i = 0; i < m->n_field; i++)
            emit_field(c, m, fields[i]);
        (void)fprintf(c, "};\nstatic const struct rpc_field_name %s__names[] = {\n", symbol);
        for (size_t i = 0; i < n; i++) {
            (void)fputs("    {", c);
            put_literal(c, names[i].name);
            (void)fprintf(c, ", %zu},\n", names[i].field);
        }
        (void)fprintf(c, "};\n");
    }
    (void)fprintf(c, "extern const struct rpc_message_meta %s__meta;\n", symbol);
    (void)fprintf(c, "const struct rpc_message_meta %s__meta = {RPC_KIND_%s, %zu, %zu, ", symbol, kind_of(full, m), m->n_field,
                  n);
    if (n)
        (void)fprintf(c, "%s__fields, %s__names};\n\n", symbol, symbol);
    else
        (void)fputs("0, 0};\n\n", c);
    free(fields);
    free(names);
    free(symbol);
    for (size_t i = 0; i < m->n_nested_type; i++)
        emit_message(c, text("%s.%s", full, m->nested_type[i]->name), m->nested_type[i]);
}
