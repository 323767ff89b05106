/* SPDX-License-Identifier: Apache-2.0 */
/* commands_refuse — see commands.h: what an agent of before would pass over in silence is not sent to it. */
#include "base/mem.h"
#include "control/link/commands.h"
#include "control/link/links.h"

#define REFUSE_AGAIN (2 * USEC_SEC)
#define REFUSE_LOOK  (500 * USEC_MSEC) /* at whether there is still somebody to refuse it to */

const char *commands_beyond_old(const Davit__Common__V1__ServiceSpec *spec)
{
    for (size_t i = 0; i < spec->n_env; i++)
        if (*spec->env[i]->file)
            return "secret files"; /* they would stand in the environment instead */
    return spec->n_routes ? "routes" : spec->replicas > 1 ? "replicas" : spec->n_binds ? "binds" : spec->n_allow ? "rights" : NULL;
}

static const char *beyond(const Davit__Link__V1__Command *m)
{
    switch (m->body_case) {
    case DAVIT__LINK__V1__COMMAND__BODY_DEPLOY: return commands_beyond_old(m->deploy->spec);
    case DAVIT__LINK__V1__COMMAND__BODY_SCALE_SERVICE: return "scaling";
    case DAVIT__LINK__V1__COMMAND__BODY_CREATE_SANDBOX:
    case DAVIT__LINK__V1__COMMAND__BODY_SANDBOX_ACTION: return "sandboxes";
    default: return NULL;
    }
}

/* Is the agent that is connected one that knows it? */
static bool knows(const struct server *s, const struct command *cmd)
{
    bool sandbox = cmd->kind == COMMAND_SANDBOX_CREATE || cmd->kind == COMMAND_SANDBOX_ACTION;
    return sandbox ? links_take_sandboxes(s) : links_take_calls(s);
}

struct refusal {
    struct server *server;
    struct command *cmd;
};

/* Waits. 0 when it is over, however. */
static int refuse(struct server *s, struct command *cmd)
{
    Davit__Link__V1__CommandResult r = DAVIT__LINK__V1__COMMAND_RESULT__INIT;
    Davit__Common__V1__Failure failure = DAVIT__COMMON__V1__FAILURE__INIT;
    AUTO_FREE char *message = str_printf("the agent of server %s is too old for %s", s->name, beyond(cmd->message));
    AUTO_FREE char *hint = str_printf("update it: davit server update %s", s->name);
    struct err err = ERR_INIT;
    failure.code = ERR_PRECONDITION;
    failure.reason = lend("agent_too_old");
    failure.message = message;
    failure.hint = hint;
    r.seq = cmd->seq;
    r.id = cmd->id;
    r.failure = &failure;
    int rc = commands_result(s, &r, &err);
    if (rc < 0)
        log_err(LOG_WARN, &err, "a command that its agent is too old for could not be refused", "server", s->name, NULL);
    return rc < 0 ? rc : 0;
}

/* Is it still to be refused, by the agent that is connected now? */
static bool shall_be(const struct server *s, const struct command *cmd)
{
    return !s->gone && !cmd->dropped && cmd->state != COMMAND_DONE && s->link && !knows(s, cmd) && !s->control->stopping;
}

/* Nothing behind it is sent while it is there: what the store does not take now is tried again. */
static void refuse_until_done(struct server *s, struct command *cmd)
{
    while (refuse(s, cmd) < 0) {
        usec_t until = deadline_in(REFUSE_AGAIN);
        while (shall_be(s, cmd) && clock_mono() < until)
            if (event_wait(&cmd->done, deadline_in(REFUSE_LOOK)) == -(int)ERR_CANCELLED)
                return;
        if (!shall_be(s, cmd)) {
            cmd->leaving = false; /* whoever connects next tells what becomes of it */
            break;
        }
    }
    links_pump(s);
}

static void refuse_fiber(void *arg)
{
    struct refusal *r = arg;
    struct control *c = r->server->control;
    refuse_until_done(r->server, r->cmd);
    command_unref(r->cmd);
    server_unref(r->server);
    free(r);
    control_fiber_end(c);
}

bool commands_refuse_old(struct server *s, struct command *cmd)
{
    if (cmd->sent || knows(s, cmd) || !beyond(cmd->message))
        return false;
    struct refusal *r = NEW(struct refusal);
    *r = (struct refusal){server_ref(s), command_ref(cmd)};
    cmd->leaving = true;
    if (control_fiber(s->control, "refuse", refuse_fiber, r) == 0)
        return true;
    cmd->leaving = false;
    command_unref(cmd);
    server_unref(s);
    free(r);
    return true;
}
