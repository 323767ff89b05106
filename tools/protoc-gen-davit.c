/* SPDX-License-Identifier: Apache-2.0 */
/* protoc-gen-davit — protoc plugin: for each schema file writes X.davit.h and X.davit.c with the method tables of src/rpc/rpc.h, and refuses
 * what the message code cannot carry: a method without scope, one that changes something without object, recursive messages, proto3
 * optional, maps, well-known types, own JSON names.
 * Reads a CodeGeneratorRequest on stdin and writes a CodeGeneratorResponse on stdout.  Build-time tool: one pass, memory freed by exit. */
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif
#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "google/protobuf/compiler/plugin.pb-c.h"

typedef Google__Protobuf__Compiler__CodeGeneratorRequest request_t;
typedef Google__Protobuf__Compiler__CodeGeneratorResponse response_t;
typedef Google__Protobuf__Compiler__CodeGeneratorResponse__File out_file_t;
typedef Google__Protobuf__FileDescriptorProto file_t;
typedef Google__Protobuf__DescriptorProto message_t;
typedef Google__Protobuf__FieldDescriptorProto field_t;
typedef Google__Protobuf__MethodDescriptorProto method_t;
typedef Google__Protobuf__ServiceDescriptorProto service_t;

enum { SCOPE_FIELD = 50001, OBJECT_FIELD = 50002, INPUT_MAX = 64 * 1024 * 1024, DEPTH_MAX = 28, ERRORS_MAX = 20 };

static const char *const scopes[] = {"public", "enroll", "link", "read", "write", "admin"};

/* Every message of the request under its full name (".pkg.Outer.Inner"). */
struct entry {
    char *name;
    const message_t *message;
};
static struct entry *entries;
static size_t n_entries;

static char errors[8192];
static unsigned n_errors;

static void __attribute__((format(printf, 1, 2))) complain(const char *fmt, ...)
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

static void die(const char *what)
{
    (void)fprintf(stderr, "protoc-gen-davit: %s\n", what);
    exit(1);
}

static void *grow(void *p, size_t count, size_t size)
{
    void *q = reallocarray(p, count, size);
    if (!q)
        die("out of memory");
    return q;
}

static char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *text(const char *fmt, ...)
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

/* "davit.link.v1.LinkService" with "__" -> "davit__link__v1__link_service", as protobuf-c names things. */
static char *snake(const char *full, const char *dot)
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

static void collect(const char *prefix, message_t *const *messages, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        entries = grow(entries, n_entries + 1, sizeof(*entries));
        char *name = text("%s.%s", prefix, messages[i]->name);
        entries[n_entries++] = (struct entry){name, messages[i]};
        collect(name, messages[i]->nested_type, messages[i]->n_nested_type);
    }
}

static const message_t *find(const char *name)
{
    for (size_t i = 0; i < n_entries; i++)
        if (strcmp(entries[i].name, name) == 0)
            return entries[i].message;
    return NULL;
}

/* Follows the fields of @name down; @path holds the names above it. */
static bool is_recursive(const char *name, const char **path, unsigned depth)
{
    for (unsigned i = 0; i < depth; i++)
        if (strcmp(path[i], name) == 0)
            return true;
    const message_t *m = find(name);
    if (!m)
        return false;
    if (depth == DEPTH_MAX)
        return true;
    path[depth] = name;
    for (size_t i = 0; i < m->n_field; i++)
        if (m->field[i]->type == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_MESSAGE &&
            is_recursive(m->field[i]->type_name, path, depth + 1))
            return true;
    return false;
}

/* The JSON name that protoc derives: underscores dropped, the letter behind each in upper case. */
static bool json_name_is_own(const field_t *f)
{
    if (!f->json_name)
        return false;
    const char *j = f->json_name;
    bool up = false;
    for (const char *p = f->name; *p; p++) {
        if (*p == '_') {
            up = true;
            continue;
        }
        if (*j++ != (up ? (char)toupper((unsigned char)*p) : *p))
            return true;
        up = false;
    }
    return *j != 0;
}

static void check_message(const char *full, const message_t *m)
{
    const char *path[DEPTH_MAX];
    if (m->options && m->options->map_entry)
        complain("%s: maps are not supported; use a repeated message", full + 1);
    if (is_recursive(full, path, 0))
        complain("%s: recursive (or nested deeper than %d)", full + 1, DEPTH_MAX);
    for (size_t i = 0; i < m->n_field; i++) {
        const field_t *f = m->field[i];
        if (f->has_proto3_optional && f->proto3_optional)
            complain("%s.%s: proto3 optional is not supported; use a oneof or a zero value", full + 1, f->name);
        if (f->type_name && strncmp(f->type_name, ".google.protobuf.", 17) == 0)
            complain("%s.%s: well-known types are not supported", full + 1, f->name);
        if (json_name_is_own(f))
            complain("%s.%s: json_name is not supported", full + 1, f->name);
    }
    for (size_t i = 0; i < m->n_nested_type; i++) {
        char *name = text("%s.%s", full, m->nested_type[i]->name);
        check_message(name, m->nested_type[i]);
        free(name);
    }
}

/* A string option of ours: an extension, so it lies among the unknown fields, length prefix included. NULL if there is none. */
static char *option_of(const method_t *m, unsigned tag)
{
    if (!m->options)
        return NULL;
    const ProtobufCMessage *o = &m->options->base;
    for (unsigned i = 0; i < o->n_unknown_fields; i++) {
        const ProtobufCMessageUnknownField *u = &o->unknown_fields[i];
        if (u->tag != tag || u->wire_type != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED)
            continue;
        size_t at = 0;
        while (at < u->len && (u->data[at] & 0x80))
            at++;
        if (at >= u->len)
            return NULL;
        at++;
        return text("%.*s", (int)(u->len - at), (const char *)u->data + at);
    }
    return NULL;
}

static bool known_scope(const char *scope)
{
    for (size_t i = 0; i < sizeof(scopes) / sizeof(scopes[0]); i++)
        if (strcmp(scopes[i], scope) == 0)
            return true;
    return false;
}

/* Does @path ("spec.project") lead from @m to one string? */
static bool is_string_at(const message_t *m, const char *path, size_t len)
{
    while (m) {
        const char *dot = memchr(path, '.', len);
        size_t n = dot ? (size_t)(dot - path) : len, i = 0;
        while (i < m->n_field && (strlen(m->field[i]->name) != n || memcmp(m->field[i]->name, path, n) != 0))
            i++;
        if (i == m->n_field || m->field[i]->label == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_REPEATED)
            return false;
        if (!dot)
            return m->field[i]->type == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_STRING;
        m = m->field[i]->type == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_MESSAGE ? find(m->field[i]->type_name) : NULL;
        path = dot + 1;
        len -= n + 1;
    }
    return false;
}

/* What the audit log calls the object of a call: see options.proto. */
static void check_object(const char *full, const method_t *m, const char *scope, const char *object)
{
    bool changes = strcmp(scope, "public") != 0 && strcmp(scope, "read") != 0;
    if (!object || !*object) {
        if (changes || object)
            complain("%s.%s: option (davit.options.v1.object) is missing; \"-\" if nothing has a name", full, m->name);
        return;
    }
    if (strcmp(object, "-") == 0)
        return;
    if (m->client_streaming)
        complain("%s.%s: object must be \"-\" where the caller streams", full, m->name);
    for (const char *p = object, *end; p; p = *end ? end + 1 : NULL) {
        end = strchrnul(p, '/');
        if (!is_string_at(find(m->input_type), p, (size_t)(end - p)))
            complain("%s.%s: object \"%.*s\" is no string field of %s", full, m->name, (int)(end - p), p, m->input_type + 1);
    }
}

static void emit_service(FILE *c, FILE *h, const char *package, const service_t *s)
{
    char *full = text("%s%s%s", package, *package ? "." : "", s->name);
    char *symbol = snake(full, "_");
    (void)fprintf(h, "/* %s; methods in the order of the schema. */\nextern const struct rpc_service %s;\n", full, symbol);
    (void)fprintf(h, "enum { %s_METHODS = %zu };\n\n", symbol, s->n_method);
    (void)fprintf(c, "static const struct rpc_method %s_methods[] = {\n", symbol);
    for (size_t i = 0; i < s->n_method; i++) {
        const method_t *m = s->method[i];
        char *scope = option_of(m, SCOPE_FIELD), *object = option_of(m, OBJECT_FIELD);
        if (!scope)
            complain("%s.%s: option (davit.options.v1.scope) is missing", full, m->name);
        else if (!known_scope(scope))
            complain("%s.%s: scope \"%s\" is none of public, enroll, link, read, write, admin", full, m->name, scope);
        else
            check_object(full, m, scope, object);
        char *in = snake(m->input_type + 1, "__"), *out = snake(m->output_type + 1, "__");
        (void)fprintf(c, "    {\"%s\", &%s__descriptor, &%s__descriptor, %s, %s, \"%s\", \"%s\"},\n", m->name, in, out,
                      m->client_streaming ? "true" : "false", m->server_streaming ? "true" : "false", scope ? scope : "",
                      object ? object : "-");
        free(in);
        free(out);
        free(scope);
        free(object);
    }
    (void)fprintf(c, "};\nconst struct rpc_service %s = {\"%s\", %s_methods, %zu};\n\n", symbol, full, symbol, s->n_method);
    if (s->n_method == 0)
        complain("%s: a service without methods", full);
    free(symbol);
    free(full);
}

static void add_file(response_t *r, char *name, char *content)
{
    out_file_t *f = grow(NULL, 1, sizeof(*f));
    google__protobuf__compiler__code_generator_response__file__init(f);
    f->name = name;
    f->content = content;
    r->file = grow(r->file, r->n_file + 1, sizeof(*r->file));
    r->file[r->n_file++] = f;
}

static void generate(response_t *r, const file_t *f)
{
    const char *package = f->package ? f->package : "";
    if (!f->syntax || strcmp(f->syntax, "proto3") != 0)
        complain("%s: syntax must be proto3", f->name);
    for (size_t i = 0; i < f->n_message_type; i++) {
        char *name = text("%s%s.%s", *package ? "." : "", package, f->message_type[i]->name);
        check_message(name, f->message_type[i]);
        free(name);
    }
    size_t stem = strlen(f->name);
    if (stem > 6 && strcmp(f->name + stem - 6, ".proto") == 0)
        stem -= 6;
    char *base = text("%.*s", (int)stem, f->name), *guard = snake(base, "_");
    for (char *p = guard; *p; p++)
        if (!isalnum((unsigned char)*p))
            *p = '_';
    char *c_text = NULL, *h_text = NULL;
    size_t c_size = 0, h_size = 0;
    FILE *c = open_memstream(&c_text, &c_size), *h = open_memstream(&h_text, &h_size);
    if (!c || !h)
        die("out of memory");
    (void)fprintf(h, "/* Generated by protoc-gen-davit from %s. */\n#ifndef %s_davit_h\n#define %s_davit_h\n\n", f->name, guard,
                  guard);
    (void)fprintf(h, "#include \"rpc/rpc.h\"\n#include \"%s.pb-c.h\"\n\n", base);
    (void)fprintf(c, "/* Generated by protoc-gen-davit from %s. */\n#include \"%s.davit.h\"\n\n", f->name, base);
    for (size_t i = 0; i < f->n_service; i++)
        emit_service(c, h, package, f->service[i]);
    (void)fprintf(h, "#endif\n");
    if (fclose(c) != 0 || fclose(h) != 0)
        die("out of memory");
    add_file(r, text("%s.davit.h", base), h_text);
    add_file(r, text("%s.davit.c", base), c_text);
    free(base);
    free(guard);
}

static uint8_t *read_input(size_t *ret_n)
{
    uint8_t *p = NULL;
    size_t n = 0, cap = 0;
    for (;;) {
        if (n == cap) {
            cap = cap ? cap * 2 : 65536;
            if (cap > INPUT_MAX)
                die("request too large");
            p = grow(p, cap, 1);
        }
        size_t got = fread(p + n, 1, cap - n, stdin);
        if (got == 0)
            break;
        n += got;
    }
    if (ferror(stdin))
        die("cannot read the request");
    *ret_n = n;
    return p;
}

int main(void)
{
    size_t n;
    uint8_t *input = read_input(&n);
    request_t *q = google__protobuf__compiler__code_generator_request__unpack(NULL, n, input);
    if (!q)
        die("the request does not parse");
    free(input);
    for (size_t i = 0; i < q->n_proto_file; i++) {
        const file_t *f = q->proto_file[i];
        char *prefix = text("%s%s", f->package && *f->package ? "." : "", f->package ? f->package : "");
        collect(prefix, f->message_type, f->n_message_type);
        free(prefix);
    }
    response_t r = GOOGLE__PROTOBUF__COMPILER__CODE_GENERATOR_RESPONSE__INIT;
    /* FEATURE_PROTO3_OPTIONAL: so that protoc hands such a file to us and the complaint is ours. */
    r.has_supported_features = true;
    r.supported_features = 1;
    for (size_t i = 0; i < q->n_file_to_generate; i++)
        for (size_t k = 0; k < q->n_proto_file; k++)
            if (strcmp(q->proto_file[k]->name, q->file_to_generate[i]) == 0)
                generate(&r, q->proto_file[k]);
    if (n_errors) {
        r.n_file = 0;
        errors[strlen(errors) - 1] = 0;
        r.error = errors;
    }
    size_t size = google__protobuf__compiler__code_generator_response__get_packed_size(&r);
    uint8_t *out = grow(NULL, size + 1, 1);
    google__protobuf__compiler__code_generator_response__pack(&r, out);
    if (fwrite(out, 1, size, stdout) != size || fflush(stdout) != 0)
        die("cannot write the response");
    return 0;
}
