/* SPDX-License-Identifier: Apache-2.0 */
/* manifest_sandbox — see manifest_sandbox.h. */
#include "cli/manifest_sandbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "cli/manifest.h"
#include "rpc/rpc.h"
#include "yaml/yaml_tree.h"

struct reader {
    const char *name;
    Davit__Common__V1__SandboxSpec *spec;
    char **server;
    struct err *err;
};

void sandbox_set_text(char **field, struct str value)
{
    if (*field != protobuf_c_empty_string)
        free(*field);
    *field = str_dup(value);
}

Davit__Common__V1__SandboxSpec *sandbox_spec_new(void)
{
    const Davit__Common__V1__SandboxSpec none = DAVIT__COMMON__V1__SANDBOX_SPEC__INIT;
    ProtobufCMessage *copy = NULL;
    BUG_ON(rpc_copy(&none.base, &copy) != 0);
    return (Davit__Common__V1__SandboxSpec *)copy;
}

void sandbox_add_env(Davit__Common__V1__SandboxSpec *spec, struct str name, struct str value)
{
    for (size_t i = 0; i < spec->n_env; i++)
        if (str_eq(str_from(spec->env[i]->name), name)) {
            sandbox_set_text(&spec->env[i]->value, value);
            return;
        }
    Davit__Common__V1__EnvVar *v = NEW(Davit__Common__V1__EnvVar);
    davit__common__v1__env_var__init(v);
    sandbox_set_text(&v->name, name);
    sandbox_set_text(&v->value, value);
    spec->env = mem_resize(spec->env, spec->n_env + 1, sizeof(*spec->env));
    spec->env[spec->n_env++] = v;
}

static int bad(const struct reader *r, const struct yaml_node *node, const char *what)
{
    return err_set(r->err, ERR_INVALID, "%s line %u: %s", r->name, node->line, what);
}

static int want(const struct reader *r, const struct yaml_node *node, enum yaml_type type)
{
    if (node->type == type)
        return 0;
    return err_set(r->err, ERR_INVALID, "%s line %u: \"%s\" must be a %s, here it is a %s", r->name, node->line, node->key ? node->key : "value",
                   yaml_type_name(type), yaml_type_name(node->type));
}

static int read_text(const struct reader *r, const struct yaml_node *node, char **field)
{
    int rc = want(r, node, YAML_SCALAR);
    if (rc == 0)
        sandbox_set_text(field, str_from(node->text));
    return rc;
}

/* --- Steps --- */

static void add_word(Davit__Common__V1__SandboxStep *st, const char *word)
{
    st->command = mem_resize(st->command, st->n_command + 1, sizeof(*st->command));
    st->command[st->n_command++] = str_dup(str_from(word));
}

static int read_command(const struct reader *r, const struct yaml_node *node, Davit__Common__V1__SandboxStep *st)
{
    int rc = st->n_command ? bad(r, node, "a step has either run or command") : want(r, node, YAML_SEQUENCE);
    size_t n = 0;
    for (const struct yaml_node *w = node->first; rc == 0 && w; w = w->next) {
        rc = n++ == MANIFEST_LIST_MAX ? bad(r, w, "too many words") : want(r, w, YAML_SCALAR);
        if (rc == 0)
            add_word(st, w->text);
    }
    return rc;
}

static int read_run(const struct reader *r, const struct yaml_node *node, Davit__Common__V1__SandboxStep *st)
{
    int rc = st->n_command ? bad(r, node, "a step has either run or command") : want(r, node, YAML_SCALAR);
    if (rc < 0)
        return rc;
    add_word(st, "/bin/sh");
    add_word(st, "-c");
    add_word(st, node->text);
    return 0;
}

static int read_timeout(const struct reader *r, const struct yaml_node *node, Davit__Common__V1__SandboxStep *st)
{
    usec_t t = 0;
    int rc = want(r, node, YAML_SCALAR);
    if (rc == 0 && (str_to_usec(str_from(node->text), USEC_DAY, &t) < 0 || t < USEC_SEC))
        rc = bad(r, node, "timeout must be a time such as 90s or 10m, 1 s to 1 day");
    st->timeout_s = (uint32_t)(t / USEC_SEC);
    return rc;
}

static int read_key(const struct reader *r, const struct yaml_node *n, Davit__Common__V1__SandboxStep *st)
{
    if (strcmp(n->key, "name") == 0)
        return read_text(r, n, &st->name);
    if (strcmp(n->key, "user") == 0)
        return read_text(r, n, &st->user);
    if (strcmp(n->key, "run") == 0)
        return read_run(r, n, st);
    if (strcmp(n->key, "command") == 0)
        return read_command(r, n, st);
    if (strcmp(n->key, "timeout") == 0)
        return read_timeout(r, n, st);
    (void)err_set(r->err, ERR_INVALID, "%s line %u: there is no key \"%.60s\" here", r->name, n->line, n->key);
    err_hint(r->err, "known: name, run, command, user, timeout");
    return -(int)ERR_INVALID;
}

static int read_step(const struct reader *r, const struct yaml_node *node, bool mcp, Davit__Common__V1__SandboxStep *st)
{
    int rc = want(r, node, YAML_MAPPING);
    for (const struct yaml_node *n = node->first; rc == 0 && n; n = n->next)
        rc = read_key(r, n, st);
    if (rc == 0 && !str_is_label(str_from(st->name)))
        rc = bad(r, node, "a step is named by lower-case letters, digits and '-', at most 63");
    if (rc == 0 && !st->n_command)
        rc = bad(r, node, "a step needs run or command");
    st->mcp = mcp;
    return rc;
}

static int read_steps(const struct reader *r, const struct yaml_node *node, bool mcp, Davit__Common__V1__SandboxStep ***list, size_t *n_list)
{
    int rc = want(r, node, YAML_SEQUENCE);
    for (const struct yaml_node *n = node->first; rc == 0 && n; n = n->next) {
        if (*n_list == MANIFEST_LIST_MAX)
            return bad(r, n, "too many steps");
        Davit__Common__V1__SandboxStep *st = NEW(Davit__Common__V1__SandboxStep);
        davit__common__v1__sandbox_step__init(st);
        *list = mem_resize(*list, *n_list + 1, sizeof(**list));
        (*list)[(*n_list)++] = st;
        rc = read_step(r, n, mcp, st);
    }
    return rc;
}

/* --- The rest --- */

static int read_env(const struct reader *r, const struct yaml_node *node)
{
    int rc = want(r, node, YAML_MAPPING);
    for (const struct yaml_node *n = node->first; rc == 0 && n; n = n->next) {
        rc = strchr(n->key, '=') ? bad(r, n, "the name of an environment variable holds no '='") : want(r, n, YAML_SCALAR);
        if (rc == 0)
            sandbox_add_env(r->spec, str_from(n->key), str_from(n->text));
    }
    return rc;
}

static int read_part(const struct reader *r, const struct yaml_node *n)
{
    Davit__Common__V1__SandboxSpec *s = r->spec;
    if (strcmp(n->key, "init") == 0)
        return read_steps(r, n, false, &s->init_steps, &s->n_init_steps);
    if (strcmp(n->key, "mcp") == 0)
        return read_steps(r, n, true, &s->init_steps, &s->n_init_steps);
    if (strcmp(n->key, "boot") == 0)
        return read_steps(r, n, false, &s->boot_steps, &s->n_boot_steps);
    if (strcmp(n->key, "project") == 0)
        return read_text(r, n, &s->project);
    if (strcmp(n->key, "env") == 0)
        return read_env(r, n);
    if (strcmp(n->key, "server") == 0) {
        int rc = want(r, n, YAML_SCALAR);
        if (rc == 0) {
            free(*r->server);
            *r->server = str_dup(str_from(n->text));
        }
        return rc;
    }
    (void)err_set(r->err, ERR_INVALID, "%s line %u: there is no key \"%.60s\" here", r->name, n->line, n->key);
    err_hint(r->err, "known: project, server, env, init, boot, mcp");
    return -(int)ERR_INVALID;
}

int manifest_sandbox_parse(struct str text, const char *name, Davit__Common__V1__SandboxSpec *spec, char **ret_server, struct err *err)
{
    struct reader r = {.name = name, .spec = spec, .server = ret_server, .err = err};
    struct yaml_node *root = NULL;
    if (!str_is_utf8(text))
        return err_set(err, ERR_INVALID, "%s is not UTF-8 text", name);
    int rc = yaml_parse(text, name, &root, err), found = 1;
    if (rc == 0)
        rc = want(&r, root, YAML_MAPPING);
    for (const struct yaml_node *n = rc == 0 ? root->first : NULL; rc == 0 && n; n = n->next) {
        if (strcmp(n->key, "sandbox") != 0)
            continue; /* of `davit deploy`, which reads it as strictly */
        found = 0;
        rc = want(&r, n, YAML_MAPPING);
        for (const struct yaml_node *part = n->first; rc == 0 && part; part = part->next)
            rc = read_part(&r, part);
    }
    (void)yaml_tree_free(root);
    return rc < 0 ? rc : found;
}

int manifest_sandbox_load(const char *path, Davit__Common__V1__SandboxSpec *spec, char **ret_server, struct err *err)
{
    AUTO_BUF text = BUF_INIT(MANIFEST_MAX);
    int rc = fd_read_file(path, &text, err);
    if (rc == -(int)ERR_EXHAUSTED)
        return err_set(err, ERR_EXHAUSTED, "%s is larger than %d bytes", path, MANIFEST_MAX);
    return rc < 0 ? rc : manifest_sandbox_parse(buf_str(&text), path, spec, ret_server, err);
}
