/* SPDX-License-Identifier: Apache-2.0 */
/* variables_rpc — EnvironmentService. */
#include <string.h>

#include "base/mem.h"
#include "control/people/audit.h"
#include "control/people/passes.h"
#include "control/work/variables.h"
#include "davit/control/v1/environment.pb-c.h"
#include "spec/env_text.h"

#define REQUEST(type, m) ((const Davit__Control__V1__##type *)(m))

static int answer(struct rpc_call *call, const ProtobufCMessage *m, struct err *err)
{
    return rpc_send(call, m) == 0 ? 0 : err_set(err, ERR_CANCELLED, "the caller went away");
}

static int check_service(const char *project, const char *service, struct err *err)
{
    if (!str_is_label(str_from(project)))
        return err_set(err, ERR_INVALID, "project: \"%.80s\" is not allowed; 1 to 63 of a-z, 0-9 and \"-\", not at the ends", text(project));
    if (!str_is_label(str_from(service)))
        return err_set(err, ERR_INVALID, "service: \"%.80s\" is not allowed; 1 to 63 of a-z, 0-9 and \"-\", not at the ends", text(service));
    return 0;
}

/* --- Setting --- */

struct setting {
    struct variables *wanted;
    bool secret; /* what comes from the text */
    char *errors[ENV_TEXT_ERRORS_MAX];
    size_t n_errors;
    struct err *err;
};

static void setting_release(struct setting *s)
{
    for (size_t i = 0; i < s->n_errors; i++)
        free(s->errors[i]);
    s->wanted = variables_free(s->wanted);
}

/* Empty strings stay protobuf-c's constant. */
static char *own(struct str s)
{
    return s.n ? str_dup(s) : (char *)(uintptr_t)protobuf_c_empty_string;
}

static int add(struct setting *s, struct str name, struct str value, bool secret, struct str file)
{
    struct variables *w = s->wanted;
    if (w->n == VARIABLES_MAX)
        return err_set(s->err, ERR_EXHAUSTED, "more than %d variables", VARIABLES_MAX);
    if (variables_find(w, name))
        return err_set(s->err, ERR_INVALID, STR_FMT " is given twice", STR_ARG(name));
    if (file.n)
        for (size_t i = 0; i < w->n; i++)
            if (str_eq(str_from(w->v[i].env->file), file))
                return err_set(s->err, ERR_INVALID, "%s and " STR_FMT " have the same file name", w->v[i].env->name, STR_ARG(name));
    Davit__Common__V1__EnvVar *env = NEW(Davit__Common__V1__EnvVar);
    davit__common__v1__env_var__init(env);
    env->name = own(name);
    env->value = own(value);
    env->secret = secret;
    env->file = own(file);
    w->v[w->n++].env = env;
    return 0;
}

static int add_one(struct setting *s, const Davit__Control__V1__Variable *v)
{
    struct str name = str_from(v->name), value = str_from(v->value), file = str_from(v->file);
    if (!spec_is_env_name(name))
        return err_set(s->err, ERR_INVALID, "the name \"%.80s\" is not allowed; letters, digits and _.- without a digit in front, at most %d",
                       text(v->name), SPEC_ENV_NAME_MAX);
    if (value.n > SPEC_ENV_VALUE_MAX)
        return err_set(s->err, ERR_INVALID, "the value of %s is longer than %d bytes", v->name, SPEC_ENV_VALUE_MAX);
    if (file.n && !spec_is_env_file(file))
        return err_set(s->err, ERR_INVALID,
                       "the file name \"%.80s\" is not allowed; letters, digits and _.- (not . or - in front), at most %d", v->file,
                       SPEC_FILE_MAX);
    return add(s, name, value, v->secret, file);
}

static int take_line(void *arg, struct str name, struct str value)
{
    struct setting *s = arg;
    return add(s, name, value, s->secret, STR(""));
}

static void take_complaint(void *arg, const char *what)
{
    struct setting *s = arg;
    if (s->n_errors < ENV_TEXT_ERRORS_MAX)
        s->errors[s->n_errors++] = str_dup(str_from(what));
}

static int gather(struct setting *s, const Davit__Control__V1__SetVariablesRequest *r, struct err *err)
{
    const struct env_text_sink sink = {.take = take_line, .complain = take_complaint, .arg = s};
    int rc = 0;
    s->err = err;
    s->secret = r->text_secret;
    for (size_t i = 0; rc == 0 && i < r->n_variables; i++)
        rc = add_one(s, r->variables[i]);
    if (rc == 0 && str_from(r->text).n > VARIABLES_TEXT_MAX)
        rc = err_set(err, ERR_INVALID, "text: longer than %d bytes", VARIABLES_TEXT_MAX);
    if (rc == 0)
        rc = env_text_parse(str_from(r->text), &sink);
    return rc;
}

static size_t names_of(const struct variables *w, int fate, char ***ret)
{
    size_t n = 0;
    *ret = mem_zalloc(w->n + 1, sizeof(char *));
    for (size_t i = 0; i < w->n; i++)
        if ((int)w->v[i].fate == fate)
            (*ret)[n++] = w->v[i].env->name;
    return n;
}

static int set_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__SetVariablesRequest *r = REQUEST(SetVariablesRequest, request);
    Davit__Control__V1__SetVariablesResponse m = DAVIT__CONTROL__V1__SET_VARIABLES_RESPONSE__INIT;
    CLEANUP(setting_release) struct setting s = {.wanted = variables_new(c, r->project, r->service)};
    struct variables_change j = {.wanted = s.wanted, .by = caller_name(call), .only_new = r->only_new, .now = clock_real()};
    int rc = check_service(r->project, r->service, err);
    if (rc == 0)
        rc = gather(&s, r, err);
    if (rc < 0)
        return rc;
    if (rc == 1) {
        m.errors = s.errors;
        m.n_errors = s.n_errors;
        return answer(call, &m.base, err);
    }
    rc = s.wanted->n ? store_write(c->store, variables_write, &j, deadline_in(STORE_WAIT), err) : 0;
    if (rc < 0)
        return rc;
    m.n_created = names_of(s.wanted, VARIABLE_NEW, &m.created);
    m.n_changed = names_of(s.wanted, VARIABLE_CHANGED, &m.changed);
    m.n_skipped = names_of(s.wanted, VARIABLE_SKIPPED, &m.skipped);
    rc = answer(call, &m.base, err);
    free(m.created);
    free(m.changed);
    free(m.skipped);
    return rc;
}

/* --- Removing --- */

struct removal {
    const Davit__Control__V1__RemoveVariablesRequest *r;
    uint32_t n;
};

static int remove_fn(struct db *db, void *arg, struct err *err)
{
    struct removal *j = arg;
    return variables_remove(db, j->r->project, j->r->service, j->r->names, j->r->n_names, &j->n, err);
}

static int remove_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    struct removal j = {.r = REQUEST(RemoveVariablesRequest, request)};
    Davit__Control__V1__RemoveVariablesResponse m = DAVIT__CONTROL__V1__REMOVE_VARIABLES_RESPONSE__INIT;
    int rc = check_service(j.r->project, j.r->service, err);
    if (rc == 0 && (!j.r->n_names || j.r->n_names > VARIABLES_MAX))
        rc = err_set(err, ERR_INVALID, "names: 1 to %d", VARIABLES_MAX);
    if (rc == 0)
        rc = store_write(c->store, remove_fn, &j, deadline_in(STORE_WAIT), err);
    if (rc < 0)
        return rc;
    m.removed = j.n;
    return answer(call, &m.base, err);
}

/* --- Looking --- */

static int list_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__ListVariablesRequest *r = REQUEST(ListVariablesRequest, request);
    Davit__Control__V1__ListVariablesResponse m = DAVIT__CONTROL__V1__LIST_VARIABLES_RESPONSE__INIT;
    AUTO_VARIABLES v = variables_new(c, r->project, r->service);
    int rc = check_service(r->project, r->service, err);
    if (rc == 0)
        rc = store_read(c->store, variables_read, v, deadline_in(STORE_WAIT), err);
    if (rc < 0)
        return rc;
    AUTO_FREE Davit__Control__V1__Variable *all = mem_zalloc(v->n + 1, sizeof(*all));
    AUTO_FREE Davit__Control__V1__Variable **out = mem_zalloc(v->n + 1, sizeof(Davit__Control__V1__Variable *));
    for (size_t i = 0; i < v->n; i++) {
        out[i] = &all[i];
        davit__control__v1__variable__init(out[i]);
        out[i]->name = v->v[i].env->name;
        out[i]->value = v->v[i].env->secret ? lend("") : v->v[i].env->value;
        out[i]->secret = v->v[i].env->secret;
        out[i]->file = v->v[i].env->file;
        out[i]->changed_us = v->v[i].changed;
        out[i]->changed_by = v->v[i].by;
    }
    m.variables = out;
    m.n_variables = v->n;
    return answer(call, &m.base, err);
}

static int reveal_run(struct rpc_call *call, void *ctx, const ProtobufCMessage *request, struct err *err)
{
    struct control *c = ctx;
    const Davit__Control__V1__RevealVariableRequest *r = REQUEST(RevealVariableRequest, request);
    Davit__Control__V1__RevealVariableResponse m = DAVIT__CONTROL__V1__REVEAL_VARIABLE_RESPONSE__INIT;
    struct audit_record who = {.count = 1};
    AUTO_VARIABLES v = variables_new(c, r->project, r->service);
    audit_who_call(&who, call);
    int rc = check_service(r->project, r->service, err);
    if (rc == 0)
        rc = variables_may_reveal(c, who.actor, err);
    if (rc == 0)
        rc = store_read(c->store, variables_read, v, deadline_in(STORE_WAIT), err);
    if (rc < 0)
        return rc;
    const struct variable *found = variables_find(v, str_from(r->name));
    if (!found) {
        (void)err_set(err, ERR_NOT_FOUND, "there is no variable \"%.80s\" stored for %s/%s", text(r->name), r->project, r->service);
        err_hint(err, "davit env ls %s/%s shows what there is", r->project, r->service);
        return -(int)ERR_NOT_FOUND;
    }
    m.value = found->env->value;
    return answer(call, &m.base, err);
}

CONTROL_HANDLER(set_run)
CONTROL_HANDLER(remove_run)
CONTROL_HANDLER(list_run)
CONTROL_HANDLER(reveal_run)

const struct rpc_handler variables_handlers[] = {
    {.run = set_run_tracked},
    {.run = remove_run_tracked},
    {.run = list_run_tracked},
    {.run = reveal_run_tracked},
};
