/* SPDX-License-Identifier: Apache-2.0 */
/* manifest — davit.yaml into service specs, by one table of keys. See manifest.h. */
#include "cli/manifest.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "yaml/yaml_tree.h"
#include "rpc/rpc.h"
#include "spec/spec.h"

struct reader {
    const char *name;
    struct manifest *out;
    Davit__Common__V1__ServiceSpec *spec; /* the one being filled */
    bool health;                          /* a check was named for it */
    struct err *err;
};

struct key {
    const char *name;
    int (*read)(struct reader *r, const struct yaml_node *node);
};

static int bad(struct reader *r, const struct yaml_node *node, const char *what)
{
    return err_set(r->err, ERR_INVALID, "%s line %u: %s", r->name, node->line, what);
}

/* Puts "file line N: " before what a shared parser said. */
static int located(struct reader *r, const struct yaml_node *node, int rc)
{
    if (rc < 0)
        (void)err_wrap(r->err, "%s line %u", r->name, node->line);
    return rc;
}

static int want(struct reader *r, const struct yaml_node *node, enum yaml_type type)
{
    if (node->type == type)
        return 0;
    return err_set(r->err, ERR_INVALID, "%s line %u: \"%s\" must be a %s, here it is a %s", r->name, node->line,
                   node->key ? node->key : "value", yaml_type_name(type), yaml_type_name(node->type));
}

static int scalar(struct reader *r, const struct yaml_node *node, struct str *ret)
{
    int rc = want(r, node, YAML_SCALAR);

    if (rc == 0)
        *ret = str_from(node->text);
    return rc;
}

static int text_into(struct reader *r, const struct yaml_node *node, char **field)
{
    struct str text;
    int rc = scalar(r, node, &text);

    if (rc == 0)
        spec_set_text(field, text);
    return rc;
}

/* Keys that share a beginning with the unknown one are offered. */
static int unknown(struct reader *r, const struct yaml_node *node, const struct key *keys)
{
    AUTO_BUF all = BUF_INIT(ERR_HINT_MAX);

    for (const struct key *k = keys; k->name; k++)
        (void)buf_printf(&all, "%s%s", k == keys ? "" : ", ", k->name);
    (void)err_set(r->err, ERR_INVALID, "%s line %u: there is no key \"%.60s\" here", r->name, node->line, node->key);
    err_hint(r->err, "known: %s", buf_cstr(&all));
    return -ERR_INVALID;
}

static int each_key(struct reader *r, const struct yaml_node *map, const struct key *keys)
{
    int rc = want(r, map, YAML_MAPPING);

    for (const struct yaml_node *n = map->first; rc == 0 && n; n = n->next) {
        const struct key *k = keys;
        while (k->name && strcmp(k->name, n->key) != 0)
            k++;
        rc = k->name ? k->read(r, n) : unknown(r, n, keys);
    }
    return rc;
}

/* A list of scalars, each given to @add. */
static int each_item(struct reader *r, const struct yaml_node *list,
                     int (*add)(Davit__Common__V1__ServiceSpec *, struct str, struct err *))
{
    int rc = want(r, list, YAML_SEQUENCE);

    for (const struct yaml_node *n = list->first; rc == 0 && n; n = n->next) {
        struct str text;
        if ((rc = scalar(r, n, &text)) == 0)
            rc = located(r, n, add(r->spec, text, r->err));
    }
    return rc;
}

/* ---- health ---- */

/* Bounds are those of the agent, so that a slip is told with its line. */
static int read_msec(struct reader *r, const struct yaml_node *node, usec_t min, unsigned max_minutes, uint32_t *ret)
{
    struct str text;
    usec_t t;
    int rc = scalar(r, node, &text);

    if (rc < 0)
        return rc;
    if (str_to_usec(text, max_minutes * USEC_MINUTE, &t) < 0 || t < min)
        return err_set(r->err, ERR_INVALID, "%s line %u: \"%s\" must be a time such as 500ms or 10s, %u ms to %u m", r->name, node->line,
                       node->key, (unsigned)(min / USEC_MSEC), max_minutes);
    *ret = (uint32_t)(t / USEC_MSEC);
    return 0;
}

static int health_check(struct reader *r, const struct yaml_node *node)
{
    struct str text;
    int rc = scalar(r, node, &text);

    r->health = true;
    if (rc == 0 && text.n == 0 && node->plain) { /* "" in quotes is the empty path */
        (void)bad(r, node, "\"\" is no health check");
        err_hint(r->err, "write /path, 8080/path, tcp, tcp:8080, docker or none");
        return -ERR_INVALID;
    }
    return rc < 0 ? rc : located(r, node, spec_set_health(r->spec, text, r->err));
}
static int health_interval(struct reader *r, const struct yaml_node *node)
{
    return read_msec(r, node, 100 * USEC_MSEC, 5, &r->spec->health->interval_ms);
}
static int health_timeout(struct reader *r, const struct yaml_node *node)
{
    return read_msec(r, node, 100 * USEC_MSEC, 1, &r->spec->health->timeout_ms);
}
static int health_grace(struct reader *r, const struct yaml_node *node)
{
    return read_msec(r, node, USEC_MSEC, 30, &r->spec->health->grace_ms);
}
static int health_retries(struct reader *r, const struct yaml_node *node)
{
    struct str text;
    uint64_t n;
    int rc = scalar(r, node, &text);

    if (rc < 0)
        return rc;
    if (str_to_u64(text, 100, &n) < 0 || n == 0)
        return bad(r, node, "retries must be a number from 1 to 100");
    r->spec->health->retries = (uint32_t)n;
    return 0;
}

static const struct key health_keys[] = {
    {"check", health_check},     {"interval", health_interval}, {"timeout", health_timeout},
    {"retries", health_retries}, {"grace", health_grace},       {NULL, NULL},
};

/* ---- service ---- */

/* Only what no reference can hold; the rest is the control plane's to judge. */
static int read_image(struct reader *r, const struct yaml_node *node)
{
    int rc = text_into(r, node, &r->spec->image);

    for (const char *p = r->spec->image; rc == 0 && *p; p++)
        if (*p <= ' ' || *p > '~')
            rc = bad(r, node, "an image is named NAME:TAG or NAME@sha256:..., without spaces");
    return rc;
}

static int read_choice(struct reader *r, const struct yaml_node *node, char **field, const char *choices)
{
    struct str rest = str_from(choices), text;
    int rc = scalar(r, node, &text);

    if (rc < 0)
        return rc;
    while (rest.n > 0)
        if (str_eq(str_cut(&rest, '|'), text)) {
            spec_set_text(field, text);
            return 0;
        }
    (void)err_set(r->err, ERR_INVALID, "%s line %u: \"%s\" cannot be \"%.40s\"", r->name, node->line, node->key, node->text);
    err_hint(r->err, "one of %s", choices);
    return -ERR_INVALID;
}
static int read_restart(struct reader *r, const struct yaml_node *node)
{
    return read_choice(r, node, &r->spec->restart, "no|on-failure|always|unless-stopped");
}
static int read_pull(struct reader *r, const struct yaml_node *node)
{
    return read_choice(r, node, &r->spec->pull, "missing|always|never");
}
static int read_command(struct reader *r, const struct yaml_node *node)
{
    return each_item(r, node, spec_add_command);
}
static int read_ports(struct reader *r, const struct yaml_node *node)
{
    return each_item(r, node, spec_add_port);
}
static int read_volumes(struct reader *r, const struct yaml_node *node)
{
    return each_item(r, node, spec_add_volume);
}
static int add_cap(Davit__Common__V1__ServiceSpec *spec, struct str text, struct err *err)
{
    for (size_t i = 0; i < text.n || text.n == 0; i++)
        if (text.n == 0 || ((text.p[i] < 'A' || text.p[i] > 'Z') && text.p[i] != '_'))
            return err_set(err, ERR_INVALID, "\"" STR_FMT "\" is no capability: write for example NET_ADMIN",
                           (int)(text.n < 40 ? text.n : 40), text.p);
    if (spec->n_cap_add >= MANIFEST_LIST_MAX)
        return err_set(err, ERR_INVALID, "more than %d capabilities", MANIFEST_LIST_MAX);
    spec->cap_add = realloc(spec->cap_add, (spec->n_cap_add + 1) * sizeof(char *));
    BUG_ON(!spec->cap_add);
    spec->cap_add[spec->n_cap_add++] = str_dup(text);
    return 0;
}
static int read_binds(struct reader *r, const struct yaml_node *node)
{
    return each_item(r, node, spec_add_bind);
}
static int read_allow(struct reader *r, const struct yaml_node *node)
{
    return each_item(r, node, spec_add_right);
}
static int read_cap_add(struct reader *r, const struct yaml_node *node)
{
    return each_item(r, node, add_cap);
}

/* ---- a variable that is a mapping ---- */

static Davit__Common__V1__EnvVar *last_env(struct reader *r)
{
    return r->spec->env[r->spec->n_env - 1];
}
static int env_value(struct reader *r, const struct yaml_node *node)
{
    return text_into(r, node, &last_env(r)->value);
}
static int env_file(struct reader *r, const struct yaml_node *node)
{
    return text_into(r, node, &last_env(r)->file);
}
static int env_secret(struct reader *r, const struct yaml_node *node)
{
    struct str text;
    int rc = scalar(r, node, &text);

    if (rc < 0)
        return rc;
    if (!str_eq(text, STR("true")) && !str_eq(text, STR("false")))
        return bad(r, node, "secret must be true or false");
    last_env(r)->secret = str_eq(text, STR("true"));
    return 0;
}

static const struct key env_keys[] = {{"value", env_value}, {"secret", env_secret}, {"file", env_file}, {NULL, NULL}};

static int read_env_mapping(struct reader *r, const struct yaml_node *node)
{
    AUTO_FREE char *pair = str_printf("%s=", node->key);
    bool valued = false;
    int rc = located(r, node, spec_add_env(r->spec, str_from(pair), r->err));

    if (rc == 0)
        rc = each_key(r, node, env_keys);
    for (const struct yaml_node *n = node->first; n; n = n->next)
        valued = valued || strcmp(n->key, "value") == 0;
    if (rc < 0 || valued)
        return rc;
    (void)bad(r, node, "the variable has no value");
    err_hint(r->err, "one that stands in no file is kept by davit env set; leave it out here");
    return -ERR_INVALID;
}

/* A mapping NAME: value, or a list of NAME=value. */
static int read_env(struct reader *r, const struct yaml_node *node)
{
    int rc = 0;

    if (node->type == YAML_SEQUENCE)
        return each_item(r, node, spec_add_env);
    if ((rc = want(r, node, YAML_MAPPING)) < 0)
        return rc;
    for (const struct yaml_node *n = node->first; rc == 0 && n; n = n->next) {
        struct str value;
        if (strchr(n->key, '='))
            return bad(r, n, "the name of an environment variable holds no '='");
        if (n->type == YAML_MAPPING) {
            rc = read_env_mapping(r, n);
            continue;
        }
        if ((rc = scalar(r, n, &value)) < 0)
            break;
        AUTO_FREE char *pair = str_printf("%s=%s", n->key, n->text);
        rc = located(r, n, spec_add_env(r->spec, str_from(pair), r->err));
    }
    return rc;
}

static int read_cpus(struct reader *r, const struct yaml_node *node)
{
    struct str text;
    int rc = scalar(r, node, &text);

    if (rc < 0)
        return rc;
    if (str_to_milli(text, 1024000, &r->spec->cpu_milli) < 0)
        return bad(r, node, "cpus must be a number such as 0.5 or 2");
    return 0;
}

static int read_memory(struct reader *r, const struct yaml_node *node)
{
    struct str text;
    int rc = scalar(r, node, &text);

    if (rc < 0)
        return rc;
    if (str_to_bytes(text, UINT64_C(1) << 50, &r->spec->memory_bytes) < 0)
        return bad(r, node, "memory must be a size such as 128m or 2g");
    return 0;
}

static int read_pids(struct reader *r, const struct yaml_node *node)
{
    struct str text;
    uint64_t n;
    int rc = scalar(r, node, &text);

    if (rc < 0)
        return rc;
    if (str_to_u64(text, 4194304, &n) < 0 || n == 0)
        return bad(r, node, "pids must be a number from 1 to 4194304");
    r->spec->pids_limit = (uint32_t)n;
    return 0;
}

static int read_read_only(struct reader *r, const struct yaml_node *node)
{
    struct str text;
    int rc = scalar(r, node, &text);

    if (rc < 0)
        return rc;
    if (!str_eq(text, STR("true")) && !str_eq(text, STR("false")))
        return bad(r, node, "read_only must be true or false");
    r->spec->read_only = str_eq(text, STR("true"));
    return 0;
}

static int read_routes(struct reader *r, const struct yaml_node *node)
{
    return each_item(r, node, spec_add_route);
}

static int read_replicas(struct reader *r, const struct yaml_node *node)
{
    struct str text;
    uint64_t n;
    int rc = scalar(r, node, &text);

    if (rc < 0)
        return rc;
    if (str_to_u64(text, SPEC_REPLICAS_MAX, &n) < 0 || n == 0)
        return err_set(r->err, ERR_INVALID, "%s line %u: replicas must be a number from 1 to %d", r->name, node->line, SPEC_REPLICAS_MAX);
    r->spec->replicas = (uint32_t)n;
    return 0;
}

static int read_health(struct reader *r, const struct yaml_node *node)
{
    return node->type == YAML_SCALAR ? health_check(r, node) : each_key(r, node, health_keys);
}

static const struct key service_keys[] = {
    {"image", read_image},
    {"command", read_command},
    {"env", read_env},
    {"cpus", read_cpus},
    {"memory", read_memory},
    {"volumes", read_volumes},
    {"ports", read_ports},
    {"health", read_health},
    {"restart", read_restart},
    {"pids", read_pids},
    {"cap_add", read_cap_add},
    {"binds", read_binds},
    {"allow", read_allow},
    {"pull", read_pull},
    {"read_only", read_read_only},
    {"replicas", read_replicas},
    {"routes", read_routes},
    {NULL, NULL},
};

static int read_service(struct reader *r, const char *project, const struct yaml_node *node)
{
    struct manifest *m = r->out;
    int rc;

    if (m->n == MANIFEST_SERVICES_MAX)
        return err_set(r->err, ERR_EXHAUSTED, "%s: more than %d services", r->name, MANIFEST_SERVICES_MAX);
    if (!str_is_label(str_from(node->key)))
        return bad(r, node, "a service is named by lower-case letters, digits and '-', at most 63");
    m->services = realloc(m->services, (m->n + 1) * sizeof(*m->services));
    BUG_ON(!m->services);
    m->services[m->n++] = r->spec = spec_new();
    spec_set_text(&r->spec->project, str_from(project));
    spec_set_text(&r->spec->name, str_from(node->key));
    r->health = false;
    if ((rc = each_key(r, node, service_keys)) < 0)
        return rc;
    spec_settle_health(r->spec, r->health);
    return *r->spec->image ? 0 : bad(r, node, "the service has no image");
}

/* ---- top ---- */

static int read_project(struct reader *r, const struct yaml_node *project)
{
    const struct yaml_node *n;
    int rc = want(r, project, YAML_MAPPING);

    if (rc == 0 && !str_is_label(str_from(project->key)))
        return bad(r, project, "a project is named by lower-case letters, digits and '-', at most 63");
    for (n = project->first; rc == 0 && n; n = n->next) {
        static const struct key only[] = {{"services", NULL}, {NULL, NULL}};
        if (strcmp(n->key, "services") != 0)
            return unknown(r, n, only);
        if ((rc = want(r, n, YAML_MAPPING)) < 0)
            return rc;
        for (const struct yaml_node *s = n->first; rc == 0 && s; s = s->next)
            rc = read_service(r, project->key, s);
    }
    return rc;
}

static int read_projects(struct reader *r, const struct yaml_node *node)
{
    int rc = want(r, node, YAML_MAPPING);

    for (const struct yaml_node *n = node->first; rc == 0 && n; n = n->next)
        rc = read_project(r, n);
    return rc;
}

static int read_server(struct reader *r, const struct yaml_node *node)
{
    struct str text;
    int rc = scalar(r, node, &text);

    if (rc < 0)
        return rc;
    if (!str_is_label(text))
        return bad(r, node, "a server is named by its name or id, as `davit server ls` shows it");
    r->out->server = str_dup(text);
    return 0;
}

/* Of `davit run`, see manifest_sandbox.h. */
static int read_sandbox(struct reader *r, const struct yaml_node *node)
{
    return want(r, node, YAML_MAPPING);
}

static const struct key top_keys[] = {{"server", read_server}, {"projects", read_projects}, {"sandbox", read_sandbox}, {NULL, NULL}};

int manifest_parse(struct str text, const char *name, struct manifest *ret, struct err *err)
{
    struct reader r = {.name = name, .out = ret, .err = err};
    struct yaml_node *root = NULL;
    int rc;

    *ret = (struct manifest){0};
    if (text.n > MANIFEST_MAX)
        return err_set(err, ERR_EXHAUSTED, "%s is larger than %d bytes", name, MANIFEST_MAX);
    if (!str_is_utf8(text))
        return err_set(err, ERR_INVALID, "%s is not UTF-8 text", name);
    if ((rc = yaml_parse(text, name, &root, err)) == 0)
        rc = each_key(&r, root, top_keys);
    if (rc == 0 && ret->n == 0)
        rc = err_set(err, ERR_INVALID, "%s names no service", name);
    yaml_tree_free(root);
    if (rc < 0)
        manifest_release(ret);
    return rc;
}

int manifest_load(const char *path, struct manifest *ret, struct err *err)
{
    AUTO_BUF text = BUF_INIT(MANIFEST_MAX);
    int rc = fd_read_file(path, &text, err);

    *ret = (struct manifest){0};
    if (rc == -ERR_EXHAUSTED)
        return err_set(err, ERR_EXHAUSTED, "%s is larger than %d bytes", path, MANIFEST_MAX);
    return rc < 0 ? rc : manifest_parse(buf_str(&text), path, ret, err);
}

void manifest_release(struct manifest *m)
{
    for (size_t i = 0; i < m->n; i++)
        rpc_message_free(m->services[i]);
    free(m->services);
    free(m->server);
    *m = (struct manifest){0};
}
