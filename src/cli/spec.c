/* SPDX-License-Identifier: Apache-2.0 */
/* spec — building a ServiceSpec piece by piece from text; shared by flags and davit.yaml. See manifest.h. */
#include <stdlib.h>
#include <string.h>

#include "cli/manifest.h"
#include "rpc/rpc.h"
#include "spec/spec.h"

/* protobuf-c marks an unset string by this shared empty one, which must not be freed. */
void spec_set_text(char **field, struct str value)
{
    if (*field != protobuf_c_empty_string)
        free(*field);
    *field = str_dup(value);
}

Davit__Common__V1__ServiceSpec *spec_new(void)
{
    Davit__Common__V1__ServiceSpec *spec = malloc(sizeof *spec);

    BUG_ON(!spec);
    davit__common__v1__service_spec__init(spec);
    spec->health = malloc(sizeof *spec->health);
    BUG_ON(!spec->health);
    davit__common__v1__health_check__init(spec->health);
    return spec;
}

/* Room for one more pointer in a repeated field. */
static int grow(void *array_ptr, size_t n, const char *what, struct err *err)
{
    void **array = array_ptr;
    void *bigger;

    if (n >= MANIFEST_LIST_MAX)
        return err_set(err, ERR_INVALID, "more than %d %s", MANIFEST_LIST_MAX, what);
    bigger = realloc(*array, (n + 1) * sizeof(void *));
    BUG_ON(!bigger);
    *array = bigger;
    return 0;
}

#define NEW(type, init)                                                                                                          \
    ({                                                                                                                           \
        type *made_ = malloc(sizeof *made_);                                                                                     \
        BUG_ON(!made_);                                                                                                          \
        init(made_);                                                                                                             \
        made_;                                                                                                                   \
    })

int spec_add_env(Davit__Common__V1__ServiceSpec *spec, struct str text, struct err *err)
{
    struct str name = text;
    struct str value = text;
    int rc;

    name = str_cut(&value, '=');
    if (name.n == 0 || name.n == text.n)
        return err_set(err, ERR_INVALID, "\"" STR_FMT "\" is no environment variable: write NAME=VALUE",
                       (int)(name.n < 80 ? name.n : 80), name.p);
    if ((rc = grow(&spec->env, spec->n_env, "environment variables", err)) < 0)
        return rc;
    Davit__Common__V1__EnvVar *var = NEW(Davit__Common__V1__EnvVar, davit__common__v1__env_var__init);
    var->name = str_dup(name);
    var->value = str_dup(value);
    spec->env[spec->n_env++] = var;
    return 0;
}

static int parse_port(struct str text, uint32_t *ret, struct err *err)
{
    uint64_t port;

    if (str_to_u64(text, 65535, &port) < 0 || port == 0)
        return err_set(err, ERR_INVALID, "\"" STR_FMT "\" is no port: 1 to 65535", (int)(text.n < 40 ? text.n : 40), text.p);
    *ret = (uint32_t)port;
    return 0;
}

/* Cuts at the last @sep: what stands behind it; @s keeps what stands before. Empty when there is none. */
static struct str cut_last(struct str *s, char sep)
{
    for (size_t i = s->n; i > 0; i--)
        if (s->p[i - 1] == sep) {
            struct str tail = {s->p + i, s->n - i};
            s->n = i - 1;
            return tail;
        }
    return (struct str){s->p, 0};
}

/* A separator with nothing behind it is a slip of the hand, not a default. */
static bool ends_open(struct str text)
{
    return text.n > 0 && (text.p[text.n - 1] == ':' || text.p[text.n - 1] == '/');
}

int spec_add_port(Davit__Common__V1__ServiceSpec *spec, struct str text, struct err *err)
{
    struct str rest = text;
    struct str address = str_cut(&rest, '/');
    struct str container, host;
    uint32_t host_port, container_port;
    int rc;

    container = cut_last(&address, ':');
    host = cut_last(&address, ':');
    if (host.n == 0) {
        host = address;
        address = STR("");
    }
    if (container.n == 0 || host.n == 0 || ends_open(text) ||
        (rest.n > 0 && !str_eq(rest, STR("tcp")) && !str_eq(rest, STR("udp")))) {
        (void)err_set(err, ERR_INVALID, "\"" STR_FMT "\" publishes no port", (int)(text.n < 80 ? text.n : 80), text.p);
        err_hint(err, "write HOST:CONTAINER, for example 8080:80, 0.0.0.0:8080:80 or 53:53/udp");
        return -ERR_INVALID;
    }
    if ((rc = parse_port(host, &host_port, err)) < 0 || (rc = parse_port(container, &container_port, err)) < 0 ||
        (rc = grow(&spec->ports, spec->n_ports, "published ports", err)) < 0)
        return rc;
    if (address.n >= 2 && address.p[0] == '[' && address.p[address.n - 1] == ']')
        address = (struct str){address.p + 1, address.n - 2};
    Davit__Common__V1__PortPublish *port = NEW(Davit__Common__V1__PortPublish, davit__common__v1__port_publish__init);
    port->host_ip = str_dup(address);
    port->host_port = host_port;
    port->container_port = container_port;
    port->protocol = str_dup(rest);
    spec->ports[spec->n_ports++] = port;
    return 0;
}

int spec_add_volume(Davit__Common__V1__ServiceSpec *spec, struct str text, struct err *err)
{
    struct str path = text;
    struct str name = str_cut(&path, ':');
    struct str target = str_cut(&path, ':');
    int rc;

    if (!str_is_label(name) || target.n == 0 || target.p[0] != '/' || text.p[text.n - 1] == ':' ||
        (path.n > 0 && !str_eq(path, STR("ro")) && !str_eq(path, STR("rw")))) {
        (void)err_set(err, ERR_INVALID, "\"" STR_FMT "\" is no volume", (int)(text.n < 120 ? text.n : 120), text.p);
        err_hint(err, "write NAME:/path or NAME:/path:ro; the name has lower-case letters, digits and '-'");
        return -ERR_INVALID;
    }
    if ((rc = grow(&spec->volumes, spec->n_volumes, "volumes", err)) < 0)
        return rc;
    Davit__Common__V1__VolumeMount *mount = NEW(Davit__Common__V1__VolumeMount, davit__common__v1__volume_mount__init);
    mount->name = str_dup(name);
    mount->path = str_dup(target);
    mount->read_only = str_eq(path, STR("ro"));
    spec->volumes[spec->n_volumes++] = mount;
    return 0;
}

int spec_add_route(Davit__Common__V1__ServiceSpec *spec, struct str text, struct err *err)
{
    struct str port = text;
    struct str host = str_cut(&port, ':');
    uint32_t number = 0;
    int rc;

    if (host.n == 0 || host.n > SPEC_HOSTNAME_MAX || ends_open(text) || memchr(text.p, '/', text.n)) {
        (void)err_set(err, ERR_INVALID, "\"" STR_FMT "\" is no route", (int)(text.n < 80 ? text.n : 80), text.p);
        err_hint(err, "write HOST or HOST:PORT, for example shop.example.com or shop.example.com:8080");
        return -ERR_INVALID;
    }
    if (port.n > 0 && (rc = parse_port(port, &number, err)) < 0)
        return rc;
    if ((rc = grow(&spec->routes, spec->n_routes, "routes", err)) < 0)
        return rc;
    Davit__Common__V1__Route *route = NEW(Davit__Common__V1__Route, davit__common__v1__route__init);
    route->hostname = str_dup(host);
    route->port = number;
    spec->routes[spec->n_routes++] = route;
    return 0;
}

void spec_settle_health(Davit__Common__V1__ServiceSpec *spec, bool said)
{
    Davit__Common__V1__HealthCheck *h = spec->health;

    if (said)
        return;
    if (protobuf_c_message_get_packed_size(&h->base) == 0) {
        spec->health = rpc_message_free(h);
    } else if (spec->n_routes > 0) {
        h->kind = DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_HTTP;
        h->port = spec->routes[0]->port;
        spec_set_text(&h->path, STR(SPEC_HEALTH_PATH));
    }
}

int spec_add_command(Davit__Common__V1__ServiceSpec *spec, struct str word, struct err *err)
{
    int rc = grow(&spec->command, spec->n_command, "words of a command", err);

    if (rc == 0)
        spec->command[spec->n_command++] = str_dup(word);
    return rc;
}

int spec_set_health(Davit__Common__V1__ServiceSpec *spec, struct str text, struct err *err)
{
    Davit__Common__V1__HealthCheck *health = spec->health;
    struct str rest = text;
    struct str head;

    /* An empty path skips the check, as `none` does. */
    if (text.n == 0) {
        health->kind = DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_NONE;
        return 0;
    }
    if (str_eq(text, STR("none")) || str_eq(text, STR("docker"))) {
        health->kind = text.p[0] == 'n' ? DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_NONE
                                        : DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_DOCKER;
        return 0;
    }
    head = str_cut(&rest, ':');
    if (str_eq(head, STR("tcp"))) {
        health->kind = DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_TCP;
        return head.n == text.n ? 0 : parse_port(rest, &health->port, err);
    }
    rest = text;
    head = str_cut(&rest, '/');
    if (head.n == text.n || (head.n > 0 && parse_port(head, &health->port, err) < 0)) {
        (void)err_set(err, ERR_INVALID, "\"" STR_FMT "\" is no health check", (int)(text.n < 80 ? text.n : 80), text.p);
        err_hint(err, "write /path, 8080/path, tcp, tcp:8080, docker or none");
        return -ERR_INVALID;
    }
    health->kind = DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_HTTP;
    spec_set_text(&health->path, (struct str){rest.p - 1, rest.n + 1});
    return 0;
}

int spec_add_bind(Davit__Common__V1__ServiceSpec *spec, struct str text, struct err *err)
{
    struct str path = text;
    struct str source = str_cut(&path, ':');
    struct str target = str_cut(&path, ':');
    int rc;

    if (source.n == 0 || source.p[0] != '/' || target.n == 0 || target.p[0] != '/' || text.p[text.n - 1] == ':' ||
        (path.n > 0 && !str_eq(path, STR("ro")) && !str_eq(path, STR("rw")))) {
        (void)err_set(err, ERR_INVALID, "\"" STR_FMT "\" is no bind", (int)(text.n < 120 ? text.n : 120), text.p);
        err_hint(err, "write /on/the/server:/in/the/container, with :ro behind it for read only");
        return -ERR_INVALID;
    }
    if ((rc = grow(&spec->binds, spec->n_binds, "binds", err)) < 0)
        return rc;
    Davit__Common__V1__BindMount *bind = NEW(Davit__Common__V1__BindMount, davit__common__v1__bind_mount__init);
    bind->source = str_dup(source);
    bind->path = str_dup(target);
    bind->read_only = str_eq(path, STR("ro"));
    spec->binds[spec->n_binds++] = bind;
    return 0;
}

int spec_add_right(Davit__Common__V1__ServiceSpec *spec, struct str word, struct err *err)
{
    if (!spec_is_right(word)) {
        (void)err_set(err, ERR_INVALID, "\"" STR_FMT "\" is no right", (int)(word.n < 120 ? word.n : 120), word.p);
        err_hint(err, "privileged, network:host, pid:host, ipc:host, device:/dev/NAME, security:OPTION, target:/PATH or source:/PATH");
        return -ERR_INVALID;
    }
    int rc = grow(&spec->allow, spec->n_allow, "rights", err);

    if (rc == 0)
        spec->allow[spec->n_allow++] = str_dup(word);
    return rc;
}
