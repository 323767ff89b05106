/* SPDX-License-Identifier: Apache-2.0 */
/* protoc-gen-davit — protoc plugin: for each schema file writes X.davit.h and X.davit.c with the method tables of src/rpc/rpc.h and the side
 * tables of src/rpc/schema.h; given c=PROGRAM (protoc-gen-c) it also writes what that writes, with the side tables in the descriptors. It
 * refuses what the message code cannot carry, a method without scope, and one that changes something without object.
 * Reads a CodeGeneratorRequest on stdin and writes a CodeGeneratorResponse on stdout.  Build-time tool: one pass, memory freed by exit. */
#include "protoc-gen-davit.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { SCOPE_FIELD = 50001, OBJECT_FIELD = 50002 };

static const char *const scopes[] = {"public", "enroll", "link", "session", "sandbox", "read", "write", "admin"};

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
        m = m->field[i]->type == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_MESSAGE ? find(m->field[i]->type_name)
                                                                                              : NULL;
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

static bool has_no_side_effects(const method_t *m)
{
    return m->options && m->options->has_idempotency_level &&
           m->options->idempotency_level == GOOGLE__PROTOBUF__METHOD_OPTIONS__IDEMPOTENCY_LEVEL__NO_SIDE_EFFECTS;
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
            complain("%s.%s: scope \"%s\" is none of those in options.proto", full, m->name, scope);
        else
            check_object(full, m, scope, object);
        char *in = snake(m->input_type + 1, "__"), *out = snake(m->output_type + 1, "__");
        (void)fprintf(c, "    {\"%s\", &%s__descriptor, &%s__descriptor, %s, %s, \"%s\", \"%s\", %s},\n", m->name, in, out,
                      m->client_streaming ? "true" : "false", m->server_streaming ? "true" : "false", scope ? scope : "",
                      object ? object : "-", has_no_side_effects(m) ? "true" : "false");
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
    (void)fprintf(c, "/* Generated by protoc-gen-davit from %s. */\n#include \"%s.davit.h\"\n#include \"rpc/schema.h\"\n\n",
                  f->name, base);
    for (size_t i = 0; i < f->n_message_type; i++)
        emit_message(c, text("%s%s.%s", *package ? "." : "", package, f->message_type[i]->name), f->message_type[i]);
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

int main(void)
{
    size_t n;
    uint8_t *input = read_all(stdin, &n);
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
    r.error = complaints();
    if (!r.error && q->parameter && strncmp(q->parameter, "c=", 2) == 0) {
        run_protoc_gen_c(q->parameter + 2, q, &r);
        r.error = complaints();
    }
    if (r.error)
        r.n_file = 0;
    size_t size = google__protobuf__compiler__code_generator_response__get_packed_size(&r);
    uint8_t *out = grow(NULL, size + 1, 1);
    google__protobuf__compiler__code_generator_response__pack(&r, out);
    if (fwrite(out, 1, size, stdout) != size || fflush(stdout) != 0)
        die("cannot write the response");
    return 0;
}
