/* SPDX-License-Identifier: Apache-2.0 */
/* keeper_steps — what stands between a session and the main program: the steps of the first start, those of each start, then the word for it. */
#include "host/contain/contain_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

enum { OUTPUT_MAX = 2048, STEP_SECONDS = 300, ID_SIZE = 32 };
#define STEP_SLACK (30 * USEC_SEC)
#define READY_WAIT (30 * USEC_SEC)

/* How a pipeline ended. */
struct ended {
    bool over, refused;
    int code;
    struct buf tail; /* the last of its output */
    char why[256];
};

static void note_output(struct ended *e, const Davit__Session__V1__OutputChunk *o)
{
    struct str s = {(const char *)o->data.data, o->data.len};

    if (s.n > OUTPUT_MAX)
        s = (struct str){s.p + s.n - OUTPUT_MAX, OUTPUT_MAX};
    if (e->tail.len + s.n > OUTPUT_MAX)
        buf_consume(&e->tail, e->tail.len + s.n - OUTPUT_MAX);
    (void)buf_append_str(&e->tail, s);
}

static void note(struct ended *e, const Davit__Session__V1__Response *r)
{
    switch (r->body_case) {
    case DAVIT__SESSION__V1__RESPONSE__BODY_OUTPUT: note_output(e, r->output); break;
    case DAVIT__SESSION__V1__RESPONSE__BODY_DONE:
        e->over = true;
        e->code = r->done->final_exit_code;
        break;
    case DAVIT__SESSION__V1__RESPONSE__BODY_ERROR:
        e->over = e->refused = true;
        (void)str_copy(e->why, sizeof(e->why), str_from(r->error->message));
        break;
    default: break;
    }
}

int keeper_read_user(const char *user, Davit__Session__V1__PipeStage *stage)
{
    struct str rest = str_from(user), uid = str_cut(&rest, ':');
    uint64_t n = 0, g = 0;

    if (!*user)
        return 0;
    if (!str_eq(uid, STR("root")) && str_to_u64(uid, UINT32_MAX - 1, &n) < 0)
        return -ERR_INVALID;
    g = n;
    if (rest.n && !str_eq(rest, STR("root")) && str_to_u64(rest, UINT32_MAX - 1, &g) < 0)
        return -ERR_INVALID;
    stage->as_given = true;
    stage->uid = (uint32_t)n;
    stage->gid = (uint32_t)g;
    return 0;
}

static const char *folder_of(const sandbox_spec *s)
{
    return *s->working_dir ? s->working_dir : s->workspace && *s->workspace->path ? s->workspace->path : "";
}

/* Waits: runs the pipeline of @step. */
static int run(struct keeper *s, const Davit__Common__V1__SandboxStep *step, struct ended *e, struct err *err)
{
    Davit__Session__V1__Command m = DAVIT__SESSION__V1__COMMAND__INIT;
    Davit__Session__V1__ShellCommand shell = DAVIT__SESSION__V1__SHELL_COMMAND__INIT;
    Davit__Session__V1__PipeStage stage = DAVIT__SESSION__V1__PIPE_STAGE__INIT, *stages = &stage;
    unsigned seconds = step->timeout_s ? step->timeout_s : STEP_SECONDS;
    usec_t deadline = clock_add(deadline_in(seconds * USEC_SEC), STEP_SLACK);
    char id[ID_SIZE];

    (void)snprintf(id, sizeof(id), "step-%u", ++s->commands);
    stage.argv = step->command;
    stage.n_argv = step->n_command;
    stage.cwd = (char *)(uintptr_t)folder_of(s->b->spec);
    if (keeper_read_user(step->user, &stage) < 0) { /* a spec of another version */
        e->over = e->refused = true;
        (void)str_copy(e->why, sizeof(e->why), STR("its user is no number"));
        return 0;
    }
    shell.stages = &stages;
    shell.n_stages = 1;
    shell.timeout_seconds = seconds;
    shell.print_output = true;
    shell.exit_on_non_zero = true;
    m.body_case = DAVIT__SESSION__V1__COMMAND__BODY_SHELL;
    m.shell = &shell;
    int rc = keeper_put(s, &m, id, err);
    while (rc == 0 && !e->over) {
        Davit__Session__V1__Response *r = NULL;
        rc = keeper_get(s, deadline, &r, err);
        if (rc == 0 && strcmp(r->command_id, id) == 0)
            note(e, r);
        (void)rpc_message_free(r);
    }
    return rc;
}

static void fail(struct box *b, const Davit__Common__V1__SandboxStep *step, const struct ended *e)
{
    struct str out = buf_str(&e->tail);
    while (out.n > 0 && (out.p[out.n - 1] == '\n' || out.p[out.n - 1] == '\r'))
        out.n--;
    AUTO_FREE char *tail = text_tail(out, OUTPUT_MAX / 4);
    AUTO_FREE char *text = e->refused ? str_printf("step \"%s\": %s", step->name, e->why)
                                      : str_printf("step \"%s\" ended with status %d%s%s", step->name, e->code, *tail ? ": " : "", tail);

    b->failed = true;
    b->exit_code = e->code;
    box_state(b, STATE(FAILED), "step_failed", text);
}

/* 0, 1: one failed. */
static int run_all(struct keeper *s, Davit__Common__V1__SandboxStep **steps, size_t n, unsigned before, struct err *err)
{
    struct box *b = s->b;
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i++) {
        struct ended e = {.tail = BUF_INIT(2 * OUTPUT_MAX)};
        (void)str_copy(b->step, sizeof(b->step), str_from(steps[i]->name));
        b->step_index = before + (unsigned)i + 1;
        box_state(b, b->state, "", steps[i]->mcp ? "MCP set-up" : NULL);
        rc = run(s, steps[i], &e, err);
        if (rc == 0 && (e.refused || e.code != 0)) {
            fail(b, steps[i], &e);
            rc = 1;
        }
        buf_release(&e.tail);
    }
    return rc;
}

static int say(struct keeper *s, bool ready, struct err *err)
{
    Davit__Session__V1__Command m = DAVIT__SESSION__V1__COMMAND__INIT;
    Davit__Session__V1__AgentReady r = DAVIT__SESSION__V1__AGENT_READY__INIT;
    Davit__Session__V1__AgentInitialized i = DAVIT__SESSION__V1__AGENT_INITIALIZED__INIT;

    m.body_case = ready ? DAVIT__SESSION__V1__COMMAND__BODY_AGENT_READY : DAVIT__SESSION__V1__COMMAND__BODY_AGENT_INITIALIZED;
    if (ready)
        m.agent_ready = &r;
    else
        m.agent_initialized = &i;
    return keeper_put(s, &m, ready ? "ready" : "initialized", err);
}

/* 0; 1 withheld. */
static int first_steps(struct keeper *s, struct err *err)
{
    struct box *b = s->b;

    /* Somebody wrote the mark who was not told to: the steps cannot be trusted to have run. */
    if (s->initialized && !b->initialized) {
        keeper_quarantine(b, "init_bypassed", "the sandbox says that its first steps are done, and they never ran");
        return 1;
    }
    if (b->initialized && s->initialized)
        return 0;
    int rc = run_all(s, b->spec->init_steps, b->spec->n_init_steps, 0, err);
    if (rc == 0)
        rc = box_keep_initialized(b, err);
    return rc == 0 ? say(s, false, err) : rc;
}

static int wait_running(struct keeper *s, struct err *err)
{
    usec_t deadline = deadline_in(READY_WAIT);
    int rc = 0;

    while (rc == 0 && !s->over && !s->running) {
        Davit__Session__V1__Response *r = NULL;
        rc = keeper_get(s, deadline, &r, err);
        if (rc == 0 && r->body_case == DAVIT__SESSION__V1__RESPONSE__BODY_ERROR && strcmp(r->command_id, "ready") == 0) {
            s->b->failed = true;
            box_state(s->b, STATE(FAILED), "session_failed", r->error->message);
            rc = 1;
        }
        (void)rpc_message_free(r);
    }
    return rc;
}

int keeper_conduct(struct keeper *s, struct err *err)
{
    struct box *b = s->b;

    if (s->running && !b->initialized) {
        keeper_quarantine(b, "init_bypassed", "its main program runs, and nobody gave the word for it");
        return 1;
    }
    keeper_settled(s);
    if (s->running || s->over) {
        b->ready = true;
        return 0;
    }
    if (!b->spec) {
        b->failed = true;
        box_state(b, STATE(FAILED), "session_failed", "its description is not on this server any more");
        return 1;
    }
    size_t first = s->initialized && b->initialized ? 0 : b->spec->n_init_steps;
    b->step_total = (unsigned)(first + b->spec->n_boot_steps);
    int rc = first_steps(s, err);
    if (rc == 0)
        rc = run_all(s, b->spec->boot_steps, b->spec->n_boot_steps, (unsigned)first, err);
    /* While the steps ran, its registration may have ended. */
    if (rc == 0 && (b->failed || !box_knows(b, s->live)))
        rc = 1;
    if (rc == 0)
        rc = say(s, true, err);
    if (rc == 0) {
        b->ready = true;
        rc = wait_running(s, err);
    }
    return rc;
}
