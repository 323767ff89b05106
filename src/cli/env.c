/* SPDX-License-Identifier: Apache-2.0 */
/* env — variables that the control plane keeps for a service: ls, set, rm, import, reveal. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/names.h"
#include "cli/out.h"
#include "cli/secret_input.h"
#include "davit/control/v1/environment.davit.h"
#include "davit/control/v1/environment.pb-c.h"

enum { OPERANDS_MAX = 64, VALUE_MAX = 64 * 1024, TEXT_MAX = 1024 * 1024 };
static const usec_t CALL_TIMEOUT = 15 * USEC_SEC;

struct env_options {
    struct cli_common common;
    const char *project, *file, *from_file;
    bool secret, only_new;
};

#define AT(field) offsetof(struct env_options, field)
#define PROJECT_OPT \
    {.name = "project", .letter = 'p', .type = OPT_STRING, .offset = AT(project), .def = "default", .arg = "NAME", .help = "project", .env = true}
static const struct opt env_opts[] = {PROJECT_OPT, CLI_COMMON_OPTS, {.name = NULL}};
static const struct opt env_set_opts[] = {
    PROJECT_OPT,
    {.name = "secret", .type = OPT_BOOL, .offset = AT(secret), .help = "never show the value; it stays so"},
    {.name = "file", .letter = 'f', .type = OPT_STRING, .offset = AT(file), .arg = "NAME",
     .help = "deliver it as the file /run/secrets/NAME, in memory, instead of in the environment"},
    {.name = "from-file", .type = OPT_STRING, .offset = AT(from_file), .arg = "PATH",
     .help = "the value is what this file holds, to the last newline; - is standard input"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};
static const struct opt env_import_opts[] = {
    PROJECT_OPT,
    {.name = "secret", .type = OPT_BOOL, .offset = AT(secret), .help = "never show the values; they stay so"},
    {.name = "only-new", .type = OPT_BOOL, .offset = AT(only_new), .help = "leave variables alone that are there"},
    CLI_COMMON_OPTS,
    {.name = NULL},
};

static int call(struct cli *cli, const char *method, const ProtobufCMessage *request, ProtobufCMessage **ret, struct err *err)
{
    return cli_call(cli, &davit_control_v1_environment_service, method, request, CALL_TIMEOUT, ret, err);
}

/* --- ls --- */

static void print_list(const struct cli *cli, const Davit__Control__V1__ListVariablesResponse *m)
{
    static const char *const heads[] = {"NAME", "VALUE", "AS", "CHANGED", "BY", NULL};
    struct out_table table;
    out_table_init(&table, heads);
    for (size_t i = 0; i < m->n_variables; i++) {
        const Davit__Control__V1__Variable *v = m->variables[i];
        AUTO_FREE char *file = out_clean(str_from(v->file));
        char *cells[] = {out_clean(str_from(v->name)), v->secret ? str_dup(STR("********")) : out_clean(str_from(v->value)),
                         *v->file ? str_printf("/run/secrets/%s", file) : str_dup(STR("environment")), out_time(v->changed_us),
                         out_clean(str_from(v->changed_by))};
        out_table_row(&table, cells);
    }
    out_table_print(cli, &table);
    out_table_release(&table);
}

static int run_ls(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct env_options *o = options;
    Davit__Control__V1__ListVariablesRequest req = DAVIT__CONTROL__V1__LIST_VARIABLES_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct service_name name;
    (void)n;
    int rc = service_name_parse(operands[0], o->project, &name, err);
    if (rc < 0)
        return rc;
    req.project = name.project;
    req.service = name.service;
    rc = call(cli, "ListVariables", &req.base, &message, err);
    if (rc < 0)
        return rc;
    if (cli->json)
        rc = out_message(message, err);
    else
        print_list(cli, (const void *)message);
    rpc_message_free(message);
    return rc;
}

/* --- set, import --- */

static void print_names(const char *what, char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        AUTO_FREE char *name = out_clean(str_from(names[i]));
        printf("%s%s%s", i ? ", " : what, i ? "" : " ", name);
    }
    if (n)
        printf("\n");
}

/* 0; 1: something was wrong, and nothing was set. */
static int finish_set(struct cli *cli, const struct service_name *name, const Davit__Control__V1__SetVariablesResponse *m, struct err *err)
{
    int rc = cli->json ? out_message(&m->base, err) : 0;
    if (rc < 0 || cli->json)
        return rc < 0 ? rc : m->n_errors > 0;
    for (size_t i = 0; i < m->n_errors; i++) {
        AUTO_FREE char *line = out_clean(str_from(m->errors[i]));
        (void)fprintf(stderr, "%s\n", line);
    }
    if (m->n_errors) {
        out_note(cli, "Nothing was set.");
        return 1;
    }
    print_names("set", m->created, m->n_created);
    print_names("changed", m->changed, m->n_changed);
    print_names("as it was", m->skipped, m->n_skipped);
    if (m->n_created || m->n_changed)
        out_note(cli, "It counts from the next deployment of %s/%s on.", name->project, name->service);
    return 0;
}

struct setting {
    Davit__Control__V1__Variable vars[OPERANDS_MAX], *list[OPERANDS_MAX];
    char *names[OPERANDS_MAX];
    size_t n;
    struct secret *input; /* one at most: standard input is read once */
    bool seen;            /* a secret stood on the command line */
};

static void setting_release(struct setting *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->names[i]);
    s->input = secret_free(s->input);
}

static int read_value(struct setting *s, const char *name, const char *path, struct err *err)
{
    AUTO_FREE char *prompt = str_printf("value of %.80s", name);
    if (s->input)
        return err_set(err, ERR_INVALID, "only one value can be read from standard input or a file");
    return path ? secret_input_whole(path, VALUE_MAX, &s->input, err) : secret_input(NULL, prompt, VALUE_MAX, &s->input, err);
}

static int add(struct setting *s, const struct env_options *o, const char *operand, struct err *err)
{
    struct str value = str_from(operand);
    struct str name = str_cut(&value, '=');
    bool bare = name.n == strlen(operand);
    if (!name.n || (bare && !o->from_file)) {
        (void)err_set(err, ERR_INVALID, "\"%.*s\" sets nothing", (int)(name.n < 80 ? name.n : 80), operand);
        err_hint(err, "write KEY=VALUE, KEY=- for a value from standard input, or KEY with --from-file");
        return -(int)ERR_INVALID;
    }
    if (!bare && o->from_file)
        return err_set(err, ERR_INVALID, "with --from-file the value is not given, too");
    Davit__Control__V1__Variable *v = s->list[s->n] = &s->vars[s->n];
    davit__control__v1__variable__init(v);
    v->name = s->names[s->n++] = str_dup(name);
    v->secret = o->secret;
    v->file = (char *)(uintptr_t)(o->file ? o->file : "");
    if (bare || str_eq(value, STR("-"))) {
        /* "-" asks on a terminal. */
        int rc = read_value(s, v->name, bare ? o->from_file : NULL, err);
        if (rc < 0)
            return rc;
        v->value = (char *)(uintptr_t)secret_reveal(s->input).p;
        return 0;
    }
    v->value = (char *)(uintptr_t)value.p;
    s->seen = s->seen || (o->secret && value.n);
    return 0;
}

static int run_set(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct env_options *o = options;
    Davit__Control__V1__SetVariablesRequest req = DAVIT__CONTROL__V1__SET_VARIABLES_REQUEST__INIT;
    CLEANUP(setting_release) struct setting s = {.n = 0};
    ProtobufCMessage *message = NULL;
    struct service_name name;
    int rc = service_name_parse(operands[0], o->project, &name, err);
    if (rc == 0 && o->file && n > 2)
        rc = err_set(err, ERR_INVALID, "--file names the file of one variable");
    for (size_t i = 1; rc == 0 && i < n; i++)
        rc = add(&s, o, operands[i], err);
    if (rc < 0)
        return rc;
    if (s.seen)
        out_note(cli, "A secret stood on the command line, where others on this machine and the shell's history have it: KEY=- reads it instead.");
    req.project = name.project;
    req.service = name.service;
    req.variables = s.list;
    req.n_variables = s.n;
    rc = call(cli, "SetVariables", &req.base, &message, err);
    if (rc == 0)
        rc = finish_set(cli, &name, (const void *)message, err);
    rpc_message_free(message);
    return rc;
}

static int run_import(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct env_options *o = options;
    Davit__Control__V1__SetVariablesRequest req = DAVIT__CONTROL__V1__SET_VARIABLES_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    AUTO_SECRET input = NULL;
    struct service_name name;
    int rc = service_name_parse(operands[0], o->project, &name, err);
    if (rc == 0)
        rc = secret_input(n > 1 ? operands[1] : "-", "", TEXT_MAX, &input, err);
    if (rc < 0)
        return rc;
    req.project = name.project;
    req.service = name.service;
    req.text = (char *)(uintptr_t)secret_reveal(input).p;
    req.text_secret = o->secret;
    req.only_new = o->only_new;
    rc = call(cli, "SetVariables", &req.base, &message, err);
    if (rc == 0)
        rc = finish_set(cli, &name, (const void *)message, err);
    rpc_message_free(message);
    return rc;
}

/* --- rm, reveal --- */

static int run_rm(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct env_options *o = options;
    Davit__Control__V1__RemoveVariablesRequest req = DAVIT__CONTROL__V1__REMOVE_VARIABLES_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct service_name name;
    int rc = service_name_parse(operands[0], o->project, &name, err);
    if (rc < 0)
        return rc;
    req.project = name.project;
    req.service = name.service;
    req.names = (char **)(uintptr_t)(operands + 1);
    req.n_names = n - 1;
    rc = call(cli, "RemoveVariables", &req.base, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__RemoveVariablesResponse *m = (const void *)message;
    if (cli->json)
        rc = out_message(message, err);
    else
        printf("%u removed%s\n", m->removed, m->removed < n - 1 ? "; the others were not there" : "");
    if (!cli->json && m->removed)
        out_note(cli, "It counts from the next deployment of %s/%s on.", name.project, name.service);
    rpc_message_free(message);
    return rc;
}

static int run_reveal(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    const struct env_options *o = options;
    Davit__Control__V1__RevealVariableRequest req = DAVIT__CONTROL__V1__REVEAL_VARIABLE_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct service_name name;
    (void)n;
    int rc = service_name_parse(operands[0], o->project, &name, err);
    if (rc < 0)
        return rc;
    req.project = name.project;
    req.service = name.service;
    req.name = (char *)(uintptr_t)operands[1];
    rc = call(cli, "RevealVariable", &req.base, &message, err);
    if (rc < 0)
        return rc;
    const Davit__Control__V1__RevealVariableResponse *m = (const void *)message;
    size_t len = strlen(m->value);
    if (cli->json) {
        rc = out_message(message, err);
    } else if (isatty(STDOUT_FILENO)) {
        AUTO_FREE char *clean = out_clean(str_from(m->value));
        printf("%s\n", clean);
        explicit_bzero(clean, strlen(clean));
    } else {
        printf("%s%s", m->value, len && m->value[len - 1] == '\n' ? "" : "\n");
    }
    if (len)
        explicit_bzero(m->value, len);
    rpc_message_free(message);
    return rc;
}

static const struct verb env_verbs[] = {
    {.name = "ls", .usage = "[OPTIONS] [PROJECT/]SERVICE", .about = "list the variables kept for a service; secrets are masked", .opts = env_opts,
     .opts_size = sizeof(struct env_options), .min_operands = 1, .max_operands = 1, .run = run_ls, .example = "davit env ls shop/web"},
    {.name = "set", .usage = "[OPTIONS] [PROJECT/]SERVICE KEY=VALUE...", .about = "set variables; KEY=- reads the value", .opts = env_set_opts,
     .opts_size = sizeof(struct env_options), .min_operands = 2, .max_operands = OPERANDS_MAX, .run = run_set,
     .example = "davit env set shop/web MODE=production\n"
                "davit env set --secret shop/web API_TOKEN=-\n"
                "davit env set --secret --file tls.key --from-file key.pem shop/web TLS_KEY"},
    {.name = "rm", .usage = "[OPTIONS] [PROJECT/]SERVICE KEY...", .about = "remove variables", .opts = env_opts,
     .opts_size = sizeof(struct env_options), .min_operands = 2, .max_operands = OPERANDS_MAX, .run = run_rm,
     .example = "davit env rm shop/web MODE"},
    {.name = "import", .usage = "[OPTIONS] [PROJECT/]SERVICE [FILE]", .about = "set variables from lines KEY=VALUE of a file or of standard input",
     .opts = env_import_opts, .opts_size = sizeof(struct env_options), .min_operands = 1, .max_operands = 2, .run = run_import,
     .example = "davit env import --secret shop/web .env"},
    {.name = "reveal", .usage = "[OPTIONS] [PROJECT/]SERVICE KEY", .about = "print the value of one; the audit log tells it", .opts = env_opts,
     .opts_size = sizeof(struct env_options), .min_operands = 2, .max_operands = 2, .run = run_reveal,
     .example = "davit env reveal shop/web API_TOKEN"},
    {.name = NULL},
};

const struct verb verb_env = {
    .name = "env",
    .group = "Services",
    .about = "ls, set, rm, import, reveal: variables and secrets of a service",
    .sub = env_verbs,
};
