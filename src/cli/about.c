/* SPDX-License-Identifier: Apache-2.0 */
/* about — what the program tells of itself: version, shell completion and man page, both made from the verb table. */
#include <stdio.h>
#include <string.h>

#include "cli/out.h"

struct plain_options {
    struct cli_common common;
};
static const struct opt plain_opts[] = {CLI_COMMON_OPTS, {.name = NULL}};

static int run_version(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    (void)options;
    (void)operands;
    (void)n;
    (void)err;
    printf(cli->json ? "{\"version\":\"%s\"}\n" : "davit %s\n", DAVIT_VERSION);
    return 0;
}

const struct verb verb_version = {
    .name = "version",
    .group = "About",
    .usage = "[OPTIONS]",
    .about = "print the version",
    .example = "davit version",
    .opts = plain_opts,
    .opts_size = sizeof(struct plain_options),
    .run = run_version,
};

/* ---- completion ---- */

static void print_words(const struct verb *v)
{
    for (const struct verb *s = v->sub; s && s->name; s++)
        printf("%s ", s->name);
    for (const struct opt *o = v->opts; o && o->name; o++)
        printf("--%s ", o->name);
}

static void bash_case(const char *parent, const struct verb *v)
{
    printf("    \"%s%s%s\") words=\"", parent, *parent ? " " : "", v->name);
    print_words(v);
    printf("\" ;;\n");
    for (const struct verb *s = v->sub; s && s->name; s++)
        bash_case(v->name, s);
}

static void complete_bash(void)
{
    /* A verb with verbs below it is told by its two words. */
    printf("_davit() {\n    local cur=${COMP_WORDS[COMP_CWORD]} words='' verb=${COMP_WORDS[1]}\n    case $verb in\n");
    for (size_t i = 0; cli_verb_list[i]; i++)
        if (cli_verb_list[i]->sub)
            printf("    %s) [ \"$COMP_CWORD\" -lt 3 ] || verb+=\" ${COMP_WORDS[2]}\" ;;\n", cli_verb_list[i]->name);
    printf("    esac\n    case $verb in\n");
    for (size_t i = 0; cli_verb_list[i]; i++)
        bash_case("", cli_verb_list[i]);
    /* zsh reads this too and has no mapfile; no word has a blank.
     * Where no option was begun, names of files come instead, as after --file. */
    printf("    esac\n    [[ $cur == -* || $words != --* ]] || words=''\n    [ \"$COMP_CWORD\" -gt 1 ] || words=\"");
    for (size_t i = 0; cli_verb_list[i]; i++)
        printf("%s ", cli_verb_list[i]->name);
    printf("\"\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -o default -F _davit davit\n");
}

static void complete_zsh(void)
{
    printf("#compdef davit\nautoload -U +X bashcompinit && bashcompinit\n");
    complete_bash();
}

static void complete_fish(void)
{
    for (size_t i = 0; cli_verb_list[i]; i++) {
        const struct verb *v = cli_verb_list[i];
        printf("complete -c davit -n __fish_use_subcommand -f -a %s -d '%s'\n", v->name, v->about);
        for (const struct opt *o = v->opts; o && o->name; o++)
            printf("complete -c davit -n '__fish_seen_subcommand_from %s' -l %s\n", v->name, o->name);
    }
}

static int run_completion(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    static const struct {
        const char *name;
        void (*print)(void);
    } shells[] = {{"bash", complete_bash}, {"zsh", complete_zsh}, {"fish", complete_fish}};

    (void)cli;
    (void)options;
    (void)n;
    for (size_t i = 0; i < ARRAY_LEN(shells); i++)
        if (strcmp(operands[0], shells[i].name) == 0) {
            shells[i].print();
            return 0;
        }
    (void)err_set(err, ERR_INVALID, "there is no completion for \"%.40s\"", operands[0]);
    err_hint(err, "bash, zsh or fish");
    return -ERR_INVALID;
}

const struct verb verb_completion = {
    .name = "completion",
    .group = "About",
    .usage = "[OPTIONS] bash|zsh|fish",
    .about = "print a completion script for a shell",
    .example = "davit completion bash > /etc/bash_completion.d/davit",
    .opts = plain_opts,
    .opts_size = sizeof(struct plain_options),
    .min_operands = 1,
    .max_operands = 1,
    .run = run_completion,
};

/* ---- man ---- */

static void man_verb(const char *parent, const struct verb *v)
{
    printf(".SS \"davit %s%s%s %s\"\n%s.\n", parent, *parent ? " " : "", v->name, v->usage, v->about);
    opt_man(stdout, v->opts);
    if (v->example)
        printf(".PP\nExample:\n.nf\n%s\n.fi\n", v->example);
}

static int run_man(struct cli *cli, const void *options, const char **operands, size_t n, struct err *err)
{
    (void)cli;
    (void)options;
    (void)operands;
    (void)n;
    (void)err;
    printf(".TH DAVIT 1 \"\" \"davit %s\" \"Davit\"\n.SH NAME\ndavit \\- run, reach and contain containers on machines you own\n"
           ".SH SYNOPSIS\n.B davit\nVERB [OPTIONS] ...\n.SH VERBS\n",
           DAVIT_VERSION);
    for (size_t i = 0; cli_verb_list[i]; i++) {
        const struct verb *v = cli_verb_list[i];
        if (!v->sub)
            man_verb("", v);
        for (const struct verb *s = v->sub; s && s->name; s++)
            man_verb(v->name, s);
    }
    printf(".SH EXIT STATUS\n");
    for (int code = 0; code < ERR_CODE_MAX; code++)
        printf(".TP\n%d\n%s\n", err_exit_status((enum err_code)code), err_code_name((enum err_code)code));
    return 0;
}

const struct verb verb_man = {
    .name = "man",
    .group = "About",
    .usage = "[OPTIONS]",
    .about = "print the manual page in roff",
    .example = "davit man | man -l -",
    .opts = plain_opts,
    .opts_size = sizeof(struct plain_options),
    .run = run_man,
};
