/* SPDX-License-Identifier: Apache-2.0 */
/* spec — see spec.h. */
#include "session/spec.h"

#include <string.h>

bool spec_id_ok(const char *id)
{
    size_t n = strlen(id);

    if (n < 1 || n > SPEC_ID_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if (id[i] < 0x20 || id[i] > 0x7e)
            return false;
    return true;
}

/* Bytes of @n words with their NULs. */
static size_t size_of(size_t n, char *const *words)
{
    size_t sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += strlen(words[i]) + 1;
    return sum;
}

static int check_env(size_t at, const Davit__Session__V1__PipeStage *stage, struct err *err)
{
    if (stage->n_env > SPEC_ENV_MAX || size_of(stage->n_env, stage->env) > SPEC_BYTES_MAX)
        return err_set(err, ERR_INVALID, "stage %zu: env has over %d entries or %d bytes", at, (int)SPEC_ENV_MAX, (int)SPEC_BYTES_MAX);
    for (size_t i = 0; i < stage->n_env; i++)
        if (stage->env[i][0] == '=' || !strchr(stage->env[i], '='))
            return err_set(err, ERR_INVALID, "stage %zu: an entry of env is not NAME=VALUE", at);
    return 0;
}

static int check_stage(size_t at, const Davit__Session__V1__PipeStage *stage, struct err *err)
{
    if (stage->n_argv < 1 || stage->n_argv > SPEC_WORDS_MAX || size_of(stage->n_argv, stage->argv) > SPEC_BYTES_MAX)
        return err_set(err, ERR_INVALID, "stage %zu: argv must have 1 to %d words and at most %d bytes", at, (int)SPEC_WORDS_MAX,
                       (int)SPEC_BYTES_MAX);
    if (!stage->argv[0][0])
        return err_set(err, ERR_INVALID, "stage %zu: no program is named", at);
    if (stage->cwd[0] && (stage->cwd[0] != '/' || strlen(stage->cwd) > SPEC_CWD_MAX))
        return err_set(err, ERR_INVALID, "stage %zu: cwd must be an absolute path", at);
    /* -1 means no change to the kernel. */
    if (stage->as_given && (stage->uid == UINT32_MAX || stage->gid == UINT32_MAX))
        return err_set(err, ERR_INVALID, "stage %zu: no such uid or gid", at);
    return check_env(at, stage, err);
}

int spec_check(const Davit__Session__V1__ShellCommand *cmd, struct err *err)
{
    if (cmd->n_stages < 1 || cmd->n_stages > SPEC_STAGES_MAX)
        return err_set(err, ERR_INVALID, "a pipeline has 1 to %d stages", (int)SPEC_STAGES_MAX);
    if (cmd->timeout_seconds > SPEC_TIMEOUT_MAX)
        return err_set(err, ERR_INVALID, "timeout_seconds is over %d", (int)SPEC_TIMEOUT_MAX);
    if (cmd->initial_stdin.len > SPEC_INITIAL_STDIN_MAX)
        return err_set(err, ERR_INVALID, "initial_stdin has over %d bytes", (int)SPEC_INITIAL_STDIN_MAX);
    for (size_t i = 0; i < cmd->n_stages; i++) {
        int rc = check_stage(i, cmd->stages[i], err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int spec_words(size_t n, char *const *words, struct wire_ready *ret, struct err *err)
{
    uint32_t bytes = 0;

    if (n > WIRE_WORDS_MAX || size_of(n, words) > sizeof(ret->text))
        return err_set(err, ERR_INVALID, "a default command has at most %d words and %d bytes", (int)WIRE_WORDS_MAX, (int)WIRE_TEXT_MAX);
    for (size_t i = 0; i < n; i++) {
        size_t size = strlen(words[i]) + 1;
        memcpy(ret->text + bytes, words[i], size);
        bytes += (uint32_t)size;
    }
    ret->words = (uint32_t)n;
    ret->bytes = bytes;
    return 0;
}
