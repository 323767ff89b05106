/* SPDX-License-Identifier: Apache-2.0 */
/* Stored variables and logins for registries, against an agent that speaks the link by hand: what is stored, shown, told and sent. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/mem.h"
#include "control/work/registries.h"
#include "control/work/variables.h"
#include "control_fixture.h"
#include "davit/control/v1/audit.davit.h"
#include "davit/control/v1/audit.pb-c.h"
#include "davit/control/v1/environment.davit.h"
#include "davit/control/v1/environment.pb-c.h"

#define GET(a, kind) agent_get((a), DAVIT__LINK__V1__CONTROL_MESSAGE__BODY_##kind, &err)
#define WORK         (&davit_control_v1_workload_service)
#define ENVIRONMENT  (&davit_control_v1_environment_service)
#define REGISTRY     (&davit_control_v1_registry_service)

/* In no file of the control plane, in no form that grep finds. */
#define CANARY "canary-5f0b6c1e"

static int set_many(struct fixture *f, Davit__Control__V1__SetVariablesRequest *r, Davit__Control__V1__SetVariablesResponse **ret, struct err *err)
{
    ProtobufCMessage *m = NULL;
    r->project = W("shop");
    r->service = W("web");
    int rc = fixture_call(f, ENVIRONMENT, "SetVariables", &r->base, &m, err);
    *ret = (Davit__Control__V1__SetVariablesResponse *)m;
    return rc;
}

/* Returns 'c' created, 'm' changed, 's' skipped, 'e' error. */
static char set_one(struct fixture *f, const char *name, const char *value, bool secret, const char *file)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__SetVariablesRequest r = DAVIT__CONTROL__V1__SET_VARIABLES_REQUEST__INIT;
    Davit__Control__V1__Variable v = DAVIT__CONTROL__V1__VARIABLE__INIT, *vs[] = {&v};
    Davit__Control__V1__SetVariablesResponse *m = NULL;
    v.name = W(name);
    v.value = W(value);
    v.secret = secret;
    v.file = W(file);
    r.variables = vs;
    r.n_variables = 1;
    if (set_many(f, &r, &m, &err) < 0)
        return 'e';
    char is = m->n_created ? 'c' : m->n_changed ? 'm' : m->n_skipped ? 's' : '-';
    (void)rpc_message_free(m);
    return is;
}

static Davit__Control__V1__ListVariablesResponse *list(struct fixture *f)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__ListVariablesRequest r = DAVIT__CONTROL__V1__LIST_VARIABLES_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    r.project = W("shop");
    r.service = W("web");
    CHECK_OK(fixture_call(f, ENVIRONMENT, "ListVariables", &r.base, &m, &err));
    return (Davit__Control__V1__ListVariablesResponse *)m;
}

static int reveal(struct fixture *f, const char *name, char **ret, struct err *err)
{
    Davit__Control__V1__RevealVariableRequest r = DAVIT__CONTROL__V1__REVEAL_VARIABLE_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    r.project = W("shop");
    r.service = W("web");
    r.name = W(name);
    int rc = fixture_call(f, ENVIRONMENT, "RevealVariable", &r.base, &m, err);
    if (rc == 0)
        *ret = str_dup(str_from(((Davit__Control__V1__RevealVariableResponse *)m)->value));
    (void)rpc_message_free(m);
    return rc;
}

/* Is @needle in any file of the state directory? */
static bool on_disk(struct fixture *f, const char *needle)
{
    DIR *d = opendir(f->state);
    bool found = false;
    CHECK(d != NULL);
    for (struct dirent *e; (e = readdir(d));) {
        AUTO_FREE char *path = str_printf("%s/%s", f->state, e->d_name);
        AUTO_BUF content = BUF_INIT(64 * 1024 * 1024);
        if (e->d_type != DT_REG || fd_read_file(path, &content, NULL) < 0)
            continue;
        found = found || memmem(content.data, content.len, needle, strlen(needle));
    }
    (void)closedir(d);
    return found;
}

/* --- Variables --------------------------------------------------------------------------------------------------------------------------- */

static void check_audit(struct fixture *f)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__ListAuditRequest r = DAVIT__CONTROL__V1__LIST_AUDIT_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    bool revealed = false, limited = false;
    r.limit = 1000;
    CHECK_OK(fixture_call(f, &davit_control_v1_audit_service, "ListAudit", &r.base, &m, &err));
    const Davit__Control__V1__ListAuditResponse *l = (const Davit__Control__V1__ListAuditResponse *)m;
    for (size_t i = 0; i < l->n_entries; i++) {
        const Davit__Control__V1__AuditEntry *e = l->entries[i];
        if (!str_eq(str_from(e->action), STR("EnvironmentService/RevealVariable")))
            continue;
        CHECK(*e->actor && !strstr(e->reason, CANARY));
        revealed = revealed || (str_eq(str_from(e->object), STR("shop/web/TOKEN")) && str_eq(str_from(e->outcome), STR("ok")));
        limited = limited || str_eq(str_from(e->code), STR("resource_exhausted"));
    }
    CHECK(revealed && limited);
    (void)rpc_message_free(m);
}

static void variables_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    char *value = NULL;
    /* Before there was any deployment. */
    CHECK(set_one(f, "TOKEN", CANARY, true, "") == 'c');
    CHECK(set_one(f, "MODE", "plain-" CANARY, false, "") == 'c');
    Davit__Control__V1__ListVariablesResponse *l = list(f);
    CHECK(l->n_variables == 2);
    CHECK_STR(l->variables[0]->name, "MODE");
    CHECK_STR(l->variables[0]->value, "plain-" CANARY);
    CHECK(l->variables[1]->secret && l->variables[1]->changed_us && *l->variables[1]->changed_by);
    CHECK_STR(l->variables[1]->value, "");
    (void)rpc_message_free(l);
    /* Also what is no secret is sealed. */
    CHECK(!on_disk(f, CANARY));
    CHECK(on_disk(f, "TOKEN"));

    /* A secret stays one, and a file a file. */
    CHECK(set_one(f, "TOKEN", CANARY, false, "") == 's');
    CHECK(set_one(f, "TOKEN", CANARY "2", false, "token.txt") == 'm');
    CHECK(set_one(f, "TOKEN", CANARY "3", false, "") == 'm');
    CHECK(set_one(f, "OTHER", "x", false, "token.txt") == 'e');
    CHECK(set_one(f, "OTHER", "x", false, "../x") == 'e' && set_one(f, "0BAD", "x", false, "") == 'e' && set_one(f, "A=B", "x", false, "") == 'e');
    l = list(f);
    CHECK(l->n_variables == 2 && l->variables[1]->secret && !*l->variables[1]->value);
    CHECK_STR(l->variables[1]->file, "token.txt");
    (void)rpc_message_free(l);

    CHECK_OK(reveal(f, "TOKEN", &value, &err));
    CHECK_STR(value, CANARY "3");
    free(value);
    CHECK(reveal(f, "NOTHING", &value, &err) == -(int)ERR_NOT_FOUND);
    for (int i = 0; i < REVEALS_BURST - 2; i++) {
        CHECK_OK(reveal(f, "TOKEN", &value, &err));
        free(value);
    }
    CHECK(reveal(f, "TOKEN", &value, &err) == -(int)ERR_EXHAUSTED && strstr(err.msg, "try again in"));
    check_audit(f);

    fixture_restart(f);
    l = list(f);
    CHECK(l->n_variables == 2);
    (void)rpc_message_free(l);
    Davit__Control__V1__RemoveVariablesRequest rm = DAVIT__CONTROL__V1__REMOVE_VARIABLES_REQUEST__INIT;
    char *names[] = {W("TOKEN"), W("NOTHING")};
    ProtobufCMessage *m = NULL;
    rm.project = W("shop");
    rm.service = W("web");
    rm.names = names;
    rm.n_names = 2;
    CHECK_OK(fixture_call(f, ENVIRONMENT, "RemoveVariables", &rm.base, &m, &err));
    CHECK(((Davit__Control__V1__RemoveVariablesResponse *)m)->removed == 1);
    (void)rpc_message_free(m);
    CHECK(set_one(f, "TOKEN", "seen", false, "") == 'c');
    l = list(f);
    CHECK_STR(l->variables[1]->value, "seen");
    (void)rpc_message_free(l);
}

/* req: CX-8 */
/* req: WK-9 */
static void variables(void **state)
{
    (void)state;
    fixture_run(variables_body);
}

static void import_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__SetVariablesRequest r = DAVIT__CONTROL__V1__SET_VARIABLES_REQUEST__INIT;
    Davit__Control__V1__SetVariablesResponse *m = NULL;
    r.text = W("A=1\nnothing\nB='x y'\n2C=3\n");
    r.text_secret = true;
    CHECK_OK(set_many(f, &r, &m, &err));
    CHECK(m->n_errors == 2 && !m->n_created && strstr(m->errors[0], "line 2") && strstr(m->errors[1], "line 4"));
    (void)rpc_message_free(m);
    Davit__Control__V1__ListVariablesResponse *l = list(f);
    CHECK(l->n_variables == 0);
    (void)rpc_message_free(l);
    r.text = W("# from the old machine\nexport A=1\r\nB='x y'\n");
    CHECK_OK(set_many(f, &r, &m, &err));
    CHECK(m->n_created == 2 && !m->n_errors);
    (void)rpc_message_free(m);
    r.text = W("A=2\nC=3\n");
    r.only_new = true;
    CHECK_OK(set_many(f, &r, &m, &err));
    CHECK(m->n_created == 1 && m->n_skipped == 1);
    (void)rpc_message_free(m);
    l = list(f);
    CHECK(l->n_variables == 3 && l->variables[0]->secret && l->variables[2]->secret);
    (void)rpc_message_free(l);
}

/* Lines as pasted; with a mistake in one nothing is set. */
static void import(void **state)
{
    (void)state;
    fixture_run(import_body);
}

static void limits_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    AUTO_BUF text = BUF_INIT(4 * 1024 * 1024);
    Davit__Control__V1__SetVariablesRequest r = DAVIT__CONTROL__V1__SET_VARIABLES_REQUEST__INIT;
    Davit__Control__V1__SetVariablesResponse *m = NULL;
    for (int i = 0; i < VARIABLES_MAX; i++)
        CHECK(buf_printf(&text, "N%d=v\n", i) == 0);
    r.text = W(buf_cstr(&text));
    CHECK_OK(set_many(f, &r, &m, &err));
    CHECK(m->n_created == VARIABLES_MAX);
    (void)rpc_message_free(m);
    CHECK(set_one(f, "ONE_MORE", "x", false, "") == 'e');
    CHECK(set_one(f, "N0", "y", false, "") == 'm');

    AUTO_FREE char *longest = mem_zalloc(SPEC_ENV_VALUE_MAX + 2, 1);
    memset(longest, 'x', SPEC_ENV_VALUE_MAX);
    CHECK(set_one(f, "N1", longest, false, "") == 'm');
    longest[SPEC_ENV_VALUE_MAX] = 'x';
    CHECK(set_one(f, "N2", longest, false, "") == 'e');
    longest[SPEC_ENV_VALUE_MAX] = '\0';
    char last = 'm';
    int n = 2;
    for (char name[8]; last == 'm' && n < 12; n++) {
        (void)snprintf(name, sizeof(name), "N%d", n);
        last = set_one(f, name, longest, false, "");
    }
    /* Seven times 64 KiB fit into the sum beside the names, an eighth does not. */
    CHECK(last == 'e' && n == VARIABLES_BYTES_MAX / SPEC_ENV_VALUE_MAX + 1);
}

static void limits(void **state)
{
    (void)state;
    fixture_run(limits_body);
}

/* What who can write to the database might try: a secret in the row of one that is shown, or of another service. */
static int move_fn(struct db *db, void *arg, struct err *err)
{
    const char *sql = arg;
    return db_exec(db, err, sql, "");
}

static void bound_body(struct fixture *f)
{
    static const char *const moves[] = {
        "UPDATE variables SET content = (SELECT content FROM variables WHERE name = 'TOKEN') WHERE name = 'SHOWN'",
        "UPDATE variables SET name = 'OTHER' WHERE name = 'TOKEN'",
        "UPDATE variables SET service = 'web' WHERE service = 'db'",
    };
    for (size_t i = 0; i < ARRAY_LEN(moves); i++) {
        struct err err = ERR_INIT;
        Davit__Control__V1__ListVariablesRequest r = DAVIT__CONTROL__V1__LIST_VARIABLES_REQUEST__INIT;
        ProtobufCMessage *m = NULL;
        r.project = W("shop");
        r.service = W(i == 2 ? "web" : "db");
        Davit__Control__V1__SetVariablesRequest set = DAVIT__CONTROL__V1__SET_VARIABLES_REQUEST__INIT;
        set.project = W("shop");
        set.service = W("db");
        set.text = W("TOKEN=" CANARY "\nSHOWN=x\n");
        CHECK_OK(store_write(f->c->store, move_fn, W("DELETE FROM variables"), deadline_in(10 * USEC_SEC), &err));
        CHECK_OK(fixture_call(f, ENVIRONMENT, "SetVariables", &set.base, &m, &err));
        (void)rpc_message_free(m);
        CHECK_OK(store_write(f->c->store, move_fn, W(moves[i]), deadline_in(10 * USEC_SEC), &err));
        CHECK(fixture_call(f, ENVIRONMENT, "ListVariables", &r.base, &m, &err) == -(int)ERR_DATA_LOSS);
    }
}

/* req: CX-8 */
static void bound_to_their_rows(void **state)
{
    (void)state;
    fixture_run(bound_body);
}

/* --- Deployments take them along ------------------------------------------------------------------------------------------------------------ */

static const Davit__Common__V1__EnvVar *env_of(const Davit__Common__V1__ServiceSpec *spec, const char *name)
{
    for (size_t i = 0; i < spec->n_env; i++)
        if (str_eq(str_from(spec->env[i]->name), str_from(name)))
            return spec->env[i];
    return NULL;
}

static void merge_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    work_connect(f, &a, 1, 0);
    CHECK(set_one(f, "TOKEN", CANARY, true, "token") == 'c');
    CHECK(set_one(f, "KEY", "stored", false, "") == 'c');
    Davit__Control__V1__DeployResponse *one = work_deploy(f, "web", false);
    Davit__Link__V1__ControlMessage *m = GET(&a, COMMAND);
    const Davit__Common__V1__ServiceSpec *spec = m->command->deploy->spec;
    const Davit__Common__V1__EnvVar *token = env_of(spec, "TOKEN"), *key = env_of(spec, "KEY");
    CHECK(token && token->secret && key);
    CHECK_STR(token->value, CANARY);
    CHECK_STR(token->file, "token");
    CHECK(!str_eq(str_from(key->value), STR("stored"))); /* the request wins */
    agent_container(&a, "c1", "shop", "web", one->deployment_id);
    agent_result(&a, m->command, NULL);
    (void)rpc_message_free(m);
    (void)rpc_message_free(GET(&a, RESULT_ACK));
    CHECK(!on_disk(f, CANARY));

    /* The same again is the same; with another value it is not. */
    Davit__Control__V1__DeployResponse *same = work_deploy(f, "web", true);
    CHECK(same->unchanged);
    (void)rpc_message_free(same);
    CHECK(set_one(f, "TOKEN", CANARY "2", true, "") == 'm');
    Davit__Control__V1__DeployResponse *two = work_deploy(f, "web", true);
    CHECK(!two->unchanged);
    m = GET(&a, COMMAND);
    CHECK_STR(env_of(m->command->deploy->spec, "TOKEN")->value, CANARY "2");
    (void)rpc_message_free(m);

    /* Lists tell that it is there. */
    Davit__Control__V1__ListDeploymentsRequest r = DAVIT__CONTROL__V1__LIST_DEPLOYMENTS_REQUEST__INIT;
    ProtobufCMessage *d = NULL;
    CHECK_OK(fixture_call(f, WORK, "ListDeployments", &r.base, &d, &err));
    const Davit__Control__V1__ListDeploymentsResponse *l = (const Davit__Control__V1__ListDeploymentsResponse *)d;
    CHECK(l->n_deployments == 2 && env_of(l->deployments[0]->spec, "TOKEN")->secret);
    CHECK_STR(env_of(l->deployments[0]->spec, "TOKEN")->value, "");
    (void)rpc_message_free(d);
    CHECK(!on_disk(f, CANARY));
    (void)rpc_message_free(one);
    (void)rpc_message_free(two);
    agent_close(&a);

    /* Who removes a service keeps them, unless they are named. */
    Davit__Control__V1__RemoveServiceRequest rm = DAVIT__CONTROL__V1__REMOVE_SERVICE_REQUEST__INIT;
    rm.project = W("shop");
    rm.service = W("web");
    rm.forget = 1;
    for (int named = 0; named < 2; named++) {
        rm.variables = named;
        CHECK_OK(fixture_call(f, WORK, "RemoveService", &rm.base, &d, &err));
        (void)rpc_message_free(d);
        Davit__Control__V1__ListVariablesResponse *v = list(f);
        CHECK(v->n_variables == (named ? 0 : 2));
        (void)rpc_message_free(v);
        (void)rpc_message_free(work_deploy(f, "web", false));
    }
}

/* req: CX-8 */
/* req: WK-9 */
static void merge(void **state)
{
    (void)state;
    fixture_run(merge_body);
}

/* --- Registries ------------------------------------------------------------------------------------------------------------------------------ */

static int login(struct fixture *f, const char *server, const char *user, const char *password, char *ret, struct err *err)
{
    Davit__Control__V1__SetRegistryRequest r = DAVIT__CONTROL__V1__SET_REGISTRY_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    r.server = W(server);
    r.username = W(user);
    r.password = W(password);
    int rc = fixture_call(f, REGISTRY, "SetRegistry", &r.base, &m, err);
    if (rc == 0)
        (void)str_copy(ret, REGISTRY_NAME_SIZE, str_from(((Davit__Control__V1__SetRegistryResponse *)m)->server));
    (void)rpc_message_free(m);
    return rc;
}

static void deploy_image(struct fixture *f, const char *image, const Davit__Common__V1__RegistryAuth *own)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__DeployRequest r = DAVIT__CONTROL__V1__DEPLOY_REQUEST__INIT;
    Davit__Common__V1__ServiceSpec spec = DAVIT__COMMON__V1__SERVICE_SPEC__INIT;
    ProtobufCMessage *m = NULL;
    spec.project = W("shop");
    spec.name = W("web");
    spec.image = W(image);
    r.spec = &spec;
    r.registry_auth = (Davit__Common__V1__RegistryAuth *)(uintptr_t)own;
    CHECK_OK(fixture_call(f, WORK, "Deploy", &r.base, &m, &err));
    (void)rpc_message_free(m);
}

static void check_login(struct agent *a, const char *server, const char *user, const char *password)
{
    struct err err = ERR_INIT;
    Davit__Link__V1__ControlMessage *m = GET(a, COMMAND);
    const Davit__Common__V1__RegistryAuth *auth = m->command->deploy->registry_auth;
    CHECK(!user == !auth);
    if (auth) {
        CHECK_STR(auth->server, server);
        CHECK_STR(auth->username, user);
        CHECK_STR(auth->password, password);
    }
    (void)rpc_message_free(m);
}

static void check_registries(struct fixture *f)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__ListRegistriesRequest r = DAVIT__CONTROL__V1__LIST_REGISTRIES_REQUEST__INIT;
    Davit__Control__V1__RemoveRegistryRequest rm = DAVIT__CONTROL__V1__REMOVE_REGISTRY_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    CHECK_OK(fixture_call(f, REGISTRY, "ListRegistries", &r.base, &m, &err));
    const Davit__Control__V1__ListRegistriesResponse *l = (const Davit__Control__V1__ListRegistriesResponse *)m;
    CHECK(l->n_registries == 2 && l->registries[0]->changed_us && *l->registries[0]->changed_by);
    (void)rpc_message_free(m);
    rm.server = W("INDEX.docker.io");
    CHECK_OK(fixture_call(f, REGISTRY, "RemoveRegistry", &rm.base, &m, &err));
    (void)rpc_message_free(m);
    CHECK(fixture_call(f, REGISTRY, "RemoveRegistry", &rm.base, &m, &err) == -(int)ERR_NOT_FOUND && err.hint[0]);
}

static void registries_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    char server[REGISTRY_NAME_SIZE];
    Davit__Common__V1__RegistryAuth own = DAVIT__COMMON__V1__REGISTRY_AUTH__INIT;
    CHECK_OK(login(f, "Registry.Example:5000", "ann", CANARY, server, &err));
    CHECK_STR(server, "registry.example:5000");
    CHECK_OK(login(f, "", "hub", "hub-" CANARY, server, &err));
    CHECK_STR(server, "docker.io");
    CHECK(login(f, "no registry", "a", "b", server, &err) == -(int)ERR_INVALID && err.hint[0]);
    CHECK(login(f, "x.example", "a", "", server, &err) == -(int)ERR_INVALID);
    CHECK(login(f, "x.example", "", "b", server, &err) == -(int)ERR_INVALID);
    /* One who is named together with the password is not let in, nor written down. */
    CHECK(login(f, "ann:" CANARY "@x.example", "a", "b", server, &err) == -(int)ERR_INVALID && !strstr(err.msg, CANARY));
    CHECK(!on_disk(f, CANARY));

    work_connect(f, &a, 1, 0);
    deploy_image(f, "REGISTRY.example:5000/team/app:1", NULL);
    check_login(&a, "REGISTRY.example:5000", "ann", CANARY);
    deploy_image(f, "registry.example/team/app:1", NULL); /* another port: another registry */
    check_login(&a, NULL, NULL, NULL);
    deploy_image(f, "team/app:1", NULL);
    check_login(&a, "https://index.docker.io/v1/", "hub", "hub-" CANARY);
    own.server = W("registry.example:5000");
    own.username = W("bob");
    own.password = W("bobs");
    deploy_image(f, "registry.example:5000/team/app:1", &own);
    check_login(&a, "registry.example:5000", "bob", "bobs");
    agent_close(&a);

    /* Nothing of it is in what was recorded, and a command that goes again after a restart has its login again. */
    CHECK(!on_disk(f, CANARY));
    fixture_restart(f);
    CHECK_OK(agent_open(f, &a, NULL, &err));
    agent_hello(&a, 2, 0);
    (void)rpc_message_free(GET(&a, WELCOME));
    check_login(&a, "REGISTRY.example:5000", "ann", CANARY);
    check_login(&a, NULL, NULL, NULL);
    check_login(&a, "https://index.docker.io/v1/", "hub", "hub-" CANARY);
    agent_close(&a);
    check_registries(f);
    CHECK(!on_disk(f, CANARY));
}

/* req: WK-2 */
static void registries(void **state)
{
    (void)state;
    fixture_run(registries_body);
}

static void many_registries_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    char name[32], server[REGISTRY_NAME_SIZE];
    for (int i = 0; i < REGISTRIES_MAX; i++) {
        (void)snprintf(name, sizeof(name), "r%d.example", i);
        CHECK_OK(login(f, name, "ann", "secret", server, &err));
    }
    CHECK(login(f, "more.example", "ann", "secret", server, &err) == -(int)ERR_EXHAUSTED);
    CHECK_OK(login(f, "r7.example", "ann", "other", server, &err));
}

static void many_registries(void **state)
{
    (void)state;
    fixture_run(many_registries_body);
}

/* --- Agents of before ----------------------------------------------------------------------------------------------------------------------- */

static Davit__Control__V1__ListDeploymentsResponse *deployments(struct fixture *f)
{
    struct err err = ERR_INIT;
    Davit__Control__V1__ListDeploymentsRequest r = DAVIT__CONTROL__V1__LIST_DEPLOYMENTS_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    CHECK_OK(fixture_call(f, WORK, "ListDeployments", &r.base, &m, &err));
    return (Davit__Control__V1__ListDeploymentsResponse *)m;
}

static bool has_failed(void *arg)
{
    Davit__Control__V1__ListDeploymentsResponse *l = deployments(arg);
    bool yes = l->deployments[0]->state == DAVIT__COMMON__V1__DEPLOYMENT_STATE__DEPLOYMENT_STATE_FAILED;
    (void)rpc_message_free(l);
    return yes;
}

/* What was queued for nobody is not for whoever comes: an older agent would put the file into the environment. What is behind it goes on, also
 * where the store did not take the refusal at first. */
static void queued_body(struct fixture *f)
{
    struct err err = ERR_INIT;
    struct agent a;
    const struct agent_self old = {.epoch = 2, .old = true};
    work_connect(f, &a, 1, 0);
    agent_close(&a);
    fixture_until(work_offline, f);
    CHECK(set_one(f, "TOKEN", CANARY, true, "token") == 'c');
    (void)rpc_message_free(work_deploy(f, "web:1", false));
    fixture_sql(f, "CREATE TRIGGER full BEFORE UPDATE ON commands BEGIN SELECT RAISE(ABORT, 'no room'); END");
    CHECK_OK(agent_open(f, &a, NULL, &err));
    agent_hello_as(&a, &old);
    (void)rpc_message_free(GET(&a, WELCOME));
    agent_heartbeat(&a);
    CHECK(fiber_sleep(500 * USEC_MSEC) == 0 && !has_failed(f));
    fixture_sql(f, "DROP TRIGGER full");
    for (int i = 0; !has_failed(f); i++)
        CHECK(i < 100 && fiber_sleep(100 * USEC_MSEC) == 0);
    Davit__Control__V1__ListDeploymentsResponse *l = deployments(f);
    const Davit__Common__V1__Failure *why = l->deployments[0]->failure;
    CHECK(why && why->code == ERR_PRECONDITION && strstr(why->message, "is too old for secret files") && strstr(why->hint, "davit server update "));
    CHECK_STR(why->reason, "agent_too_old");
    (void)rpc_message_free(l);

    Davit__Control__V1__RemoveVariablesRequest r = DAVIT__CONTROL__V1__REMOVE_VARIABLES_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    char *names[] = {W("TOKEN")};
    r.project = W("shop");
    r.service = W("web");
    r.names = names;
    r.n_names = 1;
    CHECK_OK(fixture_call(f, ENVIRONMENT, "RemoveVariables", &r.base, &m, &err));
    (void)rpc_message_free(m);
    (void)rpc_message_free(work_deploy(f, "web:2", false));
    Davit__Link__V1__ControlMessage *next = GET(&a, COMMAND);
    CHECK(next->command->seq == 2);
    CHECK_STR(next->command->deploy->spec->image, "web:2");
    (void)rpc_message_free(next);
    agent_close(&a);
}

/* req: CX-6 */
static void queued_for_an_old_agent(void **state)
{
    (void)state;
    fixture_run(queued_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(variables), cmocka_unit_test(import),     cmocka_unit_test(limits),          cmocka_unit_test(bound_to_their_rows),
        cmocka_unit_test(merge),     cmocka_unit_test(registries), cmocka_unit_test(many_registries),
        cmocka_unit_test(queued_for_an_old_agent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
