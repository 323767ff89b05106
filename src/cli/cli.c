/* SPDX-License-Identifier: Apache-2.0 */
/* cli — dispatch: finds the verb, reads its options, runs it on a fiber, turns its end into an exit status. */
#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/out.h"
#include "loop/loop.h"

enum { NAME_MAX_BYTES = 128 };

struct run {
    struct cli *cli;
    const struct verb *verb;
    const void *options;
    const char **operands;
    size_t n;
    struct err err;
    int rc;
};

static void print_overview(FILE *out)
{
    const char *group = "";

    fputs("Davit runs, reaches and contains containers on machines you own.\n\nusage: davit VERB [OPTIONS] ...\n", out);
    for (size_t i = 0; cli_verb_list[i]; i++) {
        const struct verb *v = cli_verb_list[i];
        if (strcmp(group, v->group) != 0)
            fprintf(out, "\n%s\n", v->group);
        group = v->group;
        fprintf(out, "  %-12s %s\n", v->name, v->about);
    }
    fputs("\n`davit VERB --help` tells options and an example. New here? Try `davit up`.\n", out);
}

static void print_subverbs(FILE *out, const struct verb *verb)
{
    fprintf(out, "%s\n\nusage: davit %s VERB [OPTIONS] ...\n\n", verb->about, verb->name);
    for (const struct verb *v = verb->sub; v->name; v++)
        fprintf(out, "  %-12s %s\n", v->name, v->about);
}

/* The @i-th verb at the top (@parent NULL) or below @parent; NULL past the last. */
static const struct verb *nth(const struct verb *parent, size_t i)
{
    if (!parent)
        return cli_verb_list[i];
    return parent->sub[i].name ? &parent->sub[i] : NULL;
}

/* The verb whose first @n bytes are those of @name and, with @whole, that is no longer. */
static const struct verb *match(const struct verb *parent, const char *name, size_t n, bool whole)
{
    const struct verb *v;

    for (size_t i = 0; (v = nth(parent, i)); i++)
        if (strncmp(v->name, name, n) == 0 && (!whole || !v->name[n]))
            return v;
    return NULL;
}

static const struct verb *find(const struct verb *parent, const char *name)
{
    return match(parent, name, strlen(name), true);
}

/* A verb that shares the longest beginning with what was typed, so that the error can suggest one. */
static const struct verb *nearest(const struct verb *parent, const char *name)
{
    const struct verb *v = NULL;

    for (size_t n = strlen(name); n > 0 && !v; n--)
        v = match(parent, name, n, false);
    return v;
}

static bool wants_color(const char *when, int fd)
{
    const char *no = getenv("NO_COLOR");

    if (strcmp(when, "always") == 0)
        return true;
    if (strcmp(when, "never") == 0 || (no && *no))
        return false;
    return isatty(fd) != 0;
}

static void settle_output(struct cli *cli, const struct cli_common *common)
{
    cli->common = *common;
    cli->json = strcmp(common->output, "json") == 0;
    cli->color = !cli->json && wants_color(common->color, STDOUT_FILENO);
    cli->progress = !cli->json && wants_color(common->color, STDERR_FILENO);
}

static void run_verb(void *arg)
{
    struct run *run = arg;

    run->rc = cli_paths_init(&run->cli->paths, run->cli->common.home, &run->err);
    if (run->rc == 0)
        run->rc = cli_settings_load(&run->cli->paths, &run->cli->settings, &run->err);
    run->cli->wakes = run->verb->wakes;
    if (run->rc == 0)
        run->rc = run->verb->run(run->cli, run->options, run->operands, run->n, &run->err);
    err_ensure(&run->err, run->rc < 0 ? run->rc : 0);
    run->cli->channel = rpc_channel_close(run->cli->channel);
    if (run->rc == -(int)ERR_UNAUTHENTICATED)
        (void)bearer_refused(run->cli);
    bearer_release(&run->cli->bearer);
    loop_stop(run->cli->loop);
}

static void interrupted(int signum, void *arg)
{
    struct fiber *fiber = arg;

    (void)signum;
    fiber_cancel(fiber);
}

static int run_on_loop(struct run *run)
{
    struct fiber *fiber = NULL;
    struct cli *cli = run->cli;

    cli->loop = loop_new();
    run->rc = fiber_spawn(cli->loop, "verb", run_verb, run, &fiber);
    if (run->rc == 0)
        run->rc = loop_signal(cli->loop, SIGINT, interrupted, fiber, &run->err);
    if (run->rc == 0)
        loop_run(cli->loop);
    (void)loop_signal(cli->loop, SIGINT, NULL, NULL, NULL);
    fiber_unref(fiber);
    cli->loop = loop_free(cli->loop);
    cli_settings_release(&cli->settings);
    cli_paths_release(&cli->paths);
    if (fflush(stdout) != 0 && run->rc == 0) {
        if (errno == EPIPE) /* the reader has seen enough */
            return 1;
        run->rc = err_sys(&run->err, errno, "cannot write to standard output");
    }
    if (run->rc == -ERR_CANCELLED)
        return 130;
    if (run->rc < 0)
        out_error(cli, &run->err);
    return run->rc < 0 ? err_exit_status(run->err.code) : run->rc;
}

static int usage_error(struct cli *cli, struct err *err)
{
    out_error(cli, err);
    return err_exit_status(ERR_INVALID);
}

/* @argv[0] is the verb. */
static int run_parsed(struct cli *cli, const struct verb *verb, const char *full, int argc, char **argv)
{
    const char *operands[CLI_OPERANDS_MAX];
    struct run run = {.cli = cli, .verb = verb, .operands = operands, .n = CLI_OPERANDS_MAX};
    AUTO_FREE void *options = calloc(1, verb->opts_size);
    AUTO_FREE char *usage = str_printf("davit %s %s", full, verb->usage);
    int rc;

    BUG_ON(!options);
    rc = opt_parse_command(verb->opts, argc, argv, options, operands, &run.n, verb->command, &run.err);
    if (rc == 1) {
        opt_help(stdout, usage, verb->about, verb->opts, verb->example);
        return 0;
    }
    if (rc == 0)
        settle_output(cli, options);
    if (rc == 0 && (run.n < verb->min_operands || run.n > verb->max_operands)) {
        (void)err_set(&run.err, ERR_INVALID, run.n < verb->min_operands ? "something is missing: %s" : "too much was given: %s", usage);
        err_hint(&run.err, "davit %s --help shows an example", full);
        rc = -ERR_INVALID;
    }
    if (rc < 0)
        return usage_error(cli, &run.err);
    run.options = options;
    return run_on_loop(&run);
}

static int unknown_verb(struct cli *cli, const struct verb *parent, const char *name)
{
    struct err err = ERR_INIT;
    const struct verb *near = nearest(parent, name);

    (void)err_set(&err, ERR_INVALID, "there is no verb \"%.64s\"", name);
    if (name[0] == '-')
        err_hint(&err, "options stand behind the verb: davit VERB [OPTIONS]; davit --help lists all");
    else if (near)
        err_hint(&err, "did you mean \"%s\"? davit --help lists all", near->name);
    else
        err_hint(&err, "davit --help lists all");
    return usage_error(cli, &err);
}

static bool is_help(const char *arg)
{
    return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0 || strcmp(arg, "help") == 0;
}

/* `davit help server add` is `davit server add --help`. */
static int help_of(int argc, char **argv)
{
    char help[] = "--help";
    char *moved[] = {argv[0], argv[2], argc > 3 ? argv[3] : help, argc > 3 ? help : NULL, NULL};

    return cli_main(argc > 3 ? 4 : 3, moved);
}

int cli_main(int argc, char **argv)
{
    struct cli cli = {0};
    char full[NAME_MAX_BYTES];
    const struct verb *verb;

    if (argc < 2) {
        print_overview(stderr);
        return err_exit_status(ERR_INVALID);
    }
    if (is_help(argv[1]) && argc > 2)
        return help_of(argc, argv);
    if (is_help(argv[1])) {
        print_overview(stdout);
        return 0;
    }
    verb = find(NULL, strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
    if (!verb)
        return unknown_verb(&cli, NULL, argv[1]);
    if (!verb->sub)
        return run_parsed(&cli, verb, verb->name, argc - 1, argv + 1);
    if (argc < 3 || is_help(argv[2])) {
        print_subverbs(argc < 3 ? stderr : stdout, verb);
        return argc < 3 ? err_exit_status(ERR_INVALID) : 0;
    }
    const struct verb *sub = find(verb, argv[2]);
    if (!sub)
        return unknown_verb(&cli, verb, argv[2]);
    (void)snprintf(full, sizeof full, "%s %s", verb->name, sub->name);
    return run_parsed(&cli, sub, full, argc - 2, argv + 2);
}
