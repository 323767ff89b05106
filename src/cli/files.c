/* SPDX-License-Identifier: Apache-2.0 */
/* files — look at files in a container, print one, remove, make a folder. What has many bytes: cp. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/inner.h"

#define LONG_WAIT (40 * USEC_MINUTE)

struct files_options {
    struct cli_common common;
    struct inner_options which;
    bool recursive;
};

static const struct opt files_opts[] = {
    INNER_OPTS(struct files_options, which),
    CLI_COMMON_OPTS,
    {.name = NULL},
};
static const struct opt files_rm_opts[] = {
    {.name = "recursive",
     .letter = 'r',
     .type = OPT_BOOL,
     .offset = offsetof(struct files_options, recursive),
     .help = "a folder with all that is in it"},
    INNER_OPTS(struct files_options, which),
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static int call(struct cli *cli, const char *method, const ProtobufCMessage *q, usec_t wait, ProtobufCMessage **ret,
                struct err *err)
{
    return cli_call(cli, &davit_control_v1_file_service, method, q, wait, ret, err);
}

/* --- ls --- */

/* "-rw-r--r--". */
static char *mode_text(const Davit__Common__V1__FileEntry *e)
{
    static const char bits[] = "rwxrwxrwx";
    char text[11];
    text[0] = strcmp(e->kind, "dir") == 0       ? 'd'
              : strcmp(e->kind, "symlink") == 0 ? 'l'
              : strcmp(e->kind, "file") == 0    ? '-'
                                                : '?';
    for (unsigned i = 0; i < 9; i++)
        text[1 + i] = e->mode & (0400U >> i) ? bits[i] : '-';
    if (e->mode & 04000)
        text[3] = text[3] == 'x' ? 's' : 'S';
    if (e->mode & 02000)
        text[6] = text[6] == 'x' ? 's' : 'S';
    if (e->mode & 01000)
        text[9] = text[9] == 'x' ? 't' : 'T';
    text[10] = '\0';
    return str_dup(str_from(text));
}

static void add_row(struct out_table *t, const Davit__Common__V1__FileEntry *e)
{
    AUTO_FREE char *name = out_clean(str_from(e->name));
    AUTO_FREE char *target = out_clean(str_from(e->target));
    char *cells[] = {mode_text(e), str_printf("%u:%u", e->uid, e->gid), str_printf("%llu", (unsigned long long)e->size),
                     out_time(e->modified_us), *target ? str_printf("%s -> %s", name, target) : str_dup(str_from(name))};
    out_table_row(t, cells);
}

static int print_list(struct cli *cli, const Davit__Control__V1__ListFilesResponse *a, struct err *err)
{
    static const char *const heads[] = {"MODE", "OWNER", "SIZE", "MODIFIED", "NAME", NULL};
    struct out_table t;
    if (cli->json)
        return out_message(&a->base, err);
    out_table_init(&t, heads);
    for (size_t i = 0; i < a->n_entries; i++)
        add_row(&t, a->entries[i]);
    out_table_print(cli, &t);
    out_table_release(&t);
    if (a->truncated)
        out_note(cli, "davit: there is more than fits into a list; `davit cp` gets all of it");
    return 0;
}

static int run_ls(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct files_options *o = options;
    Davit__Control__V1__ListFilesRequest q = DAVIT__CONTROL__V1__LIST_FILES_REQUEST__INIT;
    Davit__Control__V1__ListFilesResponse one = DAVIT__CONTROL__V1__LIST_FILES_RESPONSE__INIT;
    Davit__Control__V1__StatFileResponse *st = NULL;
    ProtobufCMessage *m = NULL;
    struct inner in;
    (void)n;
    int rc = inner_parse(operands[0], &o->which, &in, err);
    if (rc < 0)
        return rc;
    rc = inner_stat(cli, &in, in.path, &st, err);
    if (rc == 0 && (strcmp(st->entry->kind, "file") == 0 || strcmp(st->entry->kind, "other") == 0)) {
        one.entries = &st->entry;
        one.n_entries = 1;
        rc = print_list(cli, &one, err);
    } else if (rc == 0) {
        q.target = &in.ref;
        q.path = (char *)(uintptr_t)in.path;
        rc = call(cli, "ListFiles", &q.base, 2 * USEC_MINUTE, &m, err);
        if (rc == 0)
            rc = print_list(cli, (const void *)m, err);
    }
    (void)rpc_message_free(m);
    (void)rpc_message_free(st);
    return rc;
}

/* --- cat --- */

/* A terminal obeys control characters; a file may have any. */
static int to_terminal(void *arg, struct str bytes, struct err *err)
{
    (void)arg;
    for (size_t i = 0; i < bytes.n; i++) {
        unsigned char ch = (unsigned char)bytes.p[i];
        bool c1 = ch == 0xc2 && i + 1 < bytes.n && ((unsigned char)bytes.p[i + 1] & 0xe0) == 0x80;
        bool plain = (ch >= 0x20 && ch != 0x7f && !c1) || ch == '\n' || ch == '\t';
        if (putchar(plain ? ch : '?') == EOF)
            return err_set(err, ERR_CANCELLED, "standard output is closed");
    }
    return 0;
}

static int to_output(void *arg, struct str bytes, struct err *err)
{
    (void)arg;
    return fd_write_all(STDOUT_FILENO, bytes.p, bytes.n, err);
}

static int run_cat(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct files_options *o = options;
    struct inner in;
    (void)n;
    int rc = inner_parse(operands[0], &o->which, &in, err);
    if (rc < 0)
        return rc;
    return inner_read(cli, &in, in.path, false, isatty(STDOUT_FILENO) ? to_terminal : to_output, NULL, err);
}

/* --- rm, mkdir --- */

static int run_rm(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct files_options *o = options;
    Davit__Control__V1__RemoveFileRequest q = DAVIT__CONTROL__V1__REMOVE_FILE_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    struct inner in;
    (void)n;
    int rc = inner_parse(operands[0], &o->which, &in, err);
    if (rc < 0)
        return rc;
    q.target = &in.ref;
    q.path = (char *)(uintptr_t)in.path;
    q.recursive = o->recursive;
    rc = call(cli, "RemoveFile", &q.base, LONG_WAIT, &m, err);
    if (rc == 0 && cli->json)
        rc = out_message(m, err);
    (void)rpc_message_free(m);
    return rc;
}

static int run_mkdir(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct files_options *o = options;
    Davit__Control__V1__MakeFolderRequest q = DAVIT__CONTROL__V1__MAKE_FOLDER_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    struct inner in;
    (void)n;
    int rc = inner_parse(operands[0], &o->which, &in, err);
    if (rc < 0)
        return rc;
    q.target = &in.ref;
    q.path = (char *)(uintptr_t)in.path;
    rc = call(cli, "MakeFolder", &q.base, 2 * USEC_MINUTE, &m, err);
    if (rc == 0 && cli->json)
        rc = out_message(m, err);
    (void)rpc_message_free(m);
    return rc;
}

static const struct verb files_verbs[] = {
    {.name = "ls",
     .usage = "[OPTIONS] SERVICE:/PATH",
     .about = "list a folder",
     .opts = files_opts,
     .opts_size = sizeof(struct files_options),
     .min_operands = 1,
     .max_operands = 1,
     .run = run_ls,
     .example = "davit files ls web:/etc"},
    {.name = "cat",
     .usage = "[OPTIONS] SERVICE:/PATH",
     .about = "print a file",
     .opts = files_opts,
     .opts_size = sizeof(struct files_options),
     .min_operands = 1,
     .max_operands = 1,
     .run = run_cat,
     .example = "davit files cat web:/etc/hosts"},
    {.name = "rm",
     .usage = "[OPTIONS] SERVICE:/PATH",
     .about = "remove a file, or a folder",
     .opts = files_rm_opts,
     .opts_size = sizeof(struct files_options),
     .min_operands = 1,
     .max_operands = 1,
     .run = run_rm,
     .example = "davit files rm -r web:/var/cache/old"},
    {.name = "mkdir",
     .usage = "[OPTIONS] SERVICE:/PATH",
     .about = "make a folder",
     .opts = files_opts,
     .opts_size = sizeof(struct files_options),
     .min_operands = 1,
     .max_operands = 1,
     .run = run_mkdir,
     .example = "davit files mkdir web:/srv/new"},
    {.name = NULL},
};

const struct verb verb_files = {
    .name = "files",
    .group = "Services",
    .about = "ls, cat, rm, mkdir: files in a container",
    .sub = files_verbs,
};
