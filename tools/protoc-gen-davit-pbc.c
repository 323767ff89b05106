/* SPDX-License-Identifier: Apache-2.0 */
/* protoc-gen-davit-pbc — protoc-gen-c behind our plugin, because of two things that it does not do: it refuses proto3 optional (which is a
 * oneof of one member on the wire and in JSON; so that is what it gets to see), and its descriptors know nothing of our side tables (so their
 * addresses are written into the descriptors that it made, where it left room). */
#include "protoc-gen-davit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void clear_optional(message_t *m)
{
    for (size_t i = 0; i < m->n_field; i++)
        m->field[i]->has_proto3_optional = m->field[i]->proto3_optional = false;
    for (size_t i = 0; i < m->n_nested_type; i++)
        clear_optional(m->nested_type[i]);
}

/* Gives @input to @program and returns what it says. */
static uint8_t *filter(const char *program, const uint8_t *input, size_t n, size_t *ret_n)
{
    FILE *in = tmpfile();
    int out[2];
    if (!in || fwrite(input, 1, n, in) != n || fflush(in) != 0 || fseek(in, 0, SEEK_SET) != 0 || pipe(out) < 0)
        die("cannot hand the request on");
    pid_t pid = fork();
    if (pid < 0)
        die("cannot fork");
    if (pid == 0) {
        if (dup2(fileno(in), 0) < 0 || dup2(out[1], 1) < 0 || close(out[0]) < 0)
            _exit(127);
        (void)execlp(program, program, (char *)NULL);
        _exit(127);
    }
    (void)close(out[1]);
    FILE *answer = fdopen(out[0], "r");
    if (!answer)
        die("out of memory");
    uint8_t *bytes = read_all(answer, ret_n);
    int status;
    if (waitpid(pid, &status, 0) < 0 || status != 0)
        die("protoc-gen-c failed");
    (void)fclose(answer);
    (void)fclose(in);
    return bytes;
}

/* Each "X__descriptor =" of a message gets &X__meta for the first of its three reserved pointers. */
static char *with_tables(const char *c)
{
    static const char begin[] = "\nconst ProtobufCMessageDescriptor ", room[] = "  NULL,NULL,NULL    /* reserved[123] */\n";
    char *out = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&out, &size);
    if (!f)
        die("out of memory");
    for (const char *at; (at = strstr(c, begin)) != NULL;) {
        const char *name = at + strlen(begin), *end = strstr(name, "__descriptor ="), *hole = end ? strstr(end, room) : NULL;
        const char *close = end ? strstr(end, "\n};") : NULL;
        if (!hole || !close || hole > close)
            die("the output of protoc-gen-c does not look as it used to");
        (void)fprintf(f, "%.*s\nextern const struct rpc_message_meta %.*s__meta;", (int)(at - c), c, (int)(end - name), name);
        (void)fprintf(f, "%.*s  (void *)&%.*s__meta,NULL,NULL\n", (int)(hole - at), at, (int)(end - name), name);
        c = hole + strlen(room);
    }
    (void)fputs(c, f);
    if (fclose(f) != 0)
        die("out of memory");
    return out;
}

void run_protoc_gen_c(const char *program, request_t *q, response_t *r)
{
    for (size_t i = 0; i < q->n_proto_file; i++)
        for (size_t k = 0; k < q->proto_file[i]->n_message_type; k++)
            clear_optional(q->proto_file[i]->message_type[k]);
    char *parameter = q->parameter;
    q->parameter = NULL;
    size_t n = google__protobuf__compiler__code_generator_request__get_packed_size(q), n_answer;
    uint8_t *bytes = grow(NULL, n + 1, 1);
    (void)google__protobuf__compiler__code_generator_request__pack(q, bytes);
    q->parameter = parameter;
    uint8_t *answer = filter(program, bytes, n, &n_answer);
    response_t *pbc = google__protobuf__compiler__code_generator_response__unpack(NULL, n_answer, answer);
    if (!pbc)
        die("the answer of protoc-gen-c does not parse");
    if (pbc->error)
        complain("%s", pbc->error);
    for (size_t i = 0; i < pbc->n_file; i++) {
        out_file_t *f = pbc->file[i];
        size_t len = f->name ? strlen(f->name) : 0;
        if (len > 2 && f->content && strcmp(f->name + len - 2, ".c") == 0)
            f->content = with_tables(f->content);
        r->file = grow(r->file, r->n_file + 1, sizeof(*r->file));
        r->file[r->n_file++] = f;
    }
    free(bytes);
    free(answer);
}
