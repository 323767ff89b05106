/* SPDX-License-Identifier: Apache-2.0 */
/* settings_file — see settings_file.h. One table says what each key moves. */
#include "cli/settings_file.h"

#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "cli/out.h"
#include "loop/stream.h"
#include "yaml/yaml_tree.h"

enum { TOLD_MAX = 4096, PORT_MAX = 65535, AGENT_PORT = 7444, NO_FIELD = -1 };

static const struct {
    const char *key;
    long field;         /* of struct cli_settings, NO_FIELD: it moves nothing */
    const char *option; /* of `davit up`, for advice; NULL: there is none */
} ports[] = {
    {"admin_port", offsetof(struct cli_settings, api), "--api-listen"},
    {"health_port", offsetof(struct cli_settings, health), "--health-listen"},
    {"hydra_public_port", offsetof(struct cli_settings, token), NULL},
    {"agent_port", NO_FIELD, NULL},
    {"hydra_admin_port", NO_FIELD, NULL},
    {"oathkeeper_port", offsetof(struct cli_settings, gate), NULL},
    {"oathkeeper_api_port", NO_FIELD, NULL},
    {"kratos_public_port", NO_FIELD, NULL},
    {"kratos_admin_port", NO_FIELD, NULL},
};

/* Parts that read the file for themselves, or are not there yet. */
static const char *const passed_over[] = {"monitoring", "telemetry", "host_proxy", "docker"};

enum kind {
    FLAG,   /* true | false; of a bool */
    UNFLAG, /* of a bool that says the opposite */
    NUMBER, /* a number within bounds, kept as text with `unit` behind */
    CHOICE, /* one of `unit`, "a|b" */
    ANY     /* whatever it is, it moves nothing */
};
static const struct {
    const char *section, *key;
    enum kind kind;
    long field; /* as above */
    unsigned min, max;
    const char *unit;
} values[] = {
    {"control_plane", "mode", CHOICE, offsetof(struct cli_settings, mode), 0, 0, "auto|container|native"},
    {"control_plane", "idle_exit", CHOICE, offsetof(struct cli_settings, idle_exit), 0, 0, "auto|never|always"},
    {"logging", "file_enabled", UNFLAG, offsetof(struct cli_settings, log_off), 0, 0, NULL},
    {"logging", "max_size_mb", NUMBER, offsetof(struct cli_settings, log_size), 1, 100000, "m"},
    {"logging", "max_age_days", NUMBER, offsetof(struct cli_settings, log_age), 0, 3650, "d"},
    {"logging", "max_backups", NUMBER, offsetof(struct cli_settings, log_backups), 0, 100, ""},
    {"logging", "compress", FLAG, NO_FIELD, 0, 0, NULL},
    {"logging", "otel", ANY, NO_FIELD, 0, 0, NULL},
    {"firewall", "enable", UNFLAG, offsetof(struct cli_settings, firewall_off), 0, 0, NULL},
};

static void *field_at(struct cli_settings *s, long field)
{
    return (char *)s + field;
}

static char **at(struct cli_settings *s, size_t which)
{
    return field_at(s, ports[which].field);
}

static int bad(const char *name, const struct yaml_node *n, const char *what, struct err *err)
{
    return err_set(err, ERR_INVALID, "%s: line %u: \"%.64s\" %s", name, n->line, n->key ? n->key : "", what);
}

/* @given: the ports of the keys before. */
static int read_port(const char *name, const struct yaml_node *n, size_t which, struct cli_settings *s, uint64_t *given, struct buf *told,
                     struct err *err)
{
    uint64_t port = 0;
    if (n->type != YAML_SCALAR || str_to_u64(str_from(n->text), PORT_MAX, &port) != 0 || port == 0)
        return bad(name, n, "is no port: write a number from 1 to 65535", err);
    if (str_eq(str_from(ports[which].key), STR("agent_port"))) {
        /* Of a network of their own, where nothing else listens, and what sandboxes reach of their server is this port alone. */
        if (port != AGENT_PORT)
            return bad(name, n, "cannot be moved: sandboxes find their agent at 7444 of their own network", err);
        return 0;
    }
    if (ports[which].field == NO_FIELD) {
        (void)buf_printf(told, "%s: control_plane.%s has no effect: nothing listens there\n", name, ports[which].key);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(ports); i++)
        if (given[i] == port)
            return err_set(err, ERR_INVALID, "%s: line %u: \"%.64s\" is the port of %s already", name, n->line, n->key, ports[i].key);
    given[which] = port;
    char **field = at(s, which);
    free(*field);
    *field = str_printf("127.0.0.1:%u", (unsigned)port);
    return 0;
}

static int read_flag(const char *name, const struct yaml_node *n, size_t which, struct cli_settings *s, struct buf *told, struct err *err)
{
    bool on = str_eq(str_from(n->text), STR("true"));
    if (!n->plain || (!on && !str_eq(str_from(n->text), STR("false"))))
        return bad(name, n, "is true or false", err);
    if (values[which].field != NO_FIELD)
        *(bool *)field_at(s, values[which].field) = on == (values[which].kind == FLAG);
    else if (on)
        (void)buf_printf(told, "%s: %s.%s has no effect: old files are kept as they are\n", name, values[which].section, values[which].key);
    return 0;
}

static int read_value(const char *name, const struct yaml_node *n, size_t which, struct cli_settings *s, struct buf *told, struct err *err)
{
    uint64_t number = 0;
    bool known = false;
    if (values[which].kind == ANY) {
        (void)buf_printf(told, "%s: %s.%s has no effect: the log is sent to nobody\n", name, values[which].section, values[which].key);
        return 0;
    }
    if (n->type != YAML_SCALAR)
        return bad(name, n, "has one value", err);
    if (values[which].kind == FLAG || values[which].kind == UNFLAG)
        return read_flag(name, n, which, s, told, err);
    char **field = field_at(s, values[which].field);
    if (values[which].kind == NUMBER && (str_to_u64(str_from(n->text), values[which].max, &number) != 0 || number < values[which].min))
        return err_set(err, ERR_INVALID, "%s: line %u: \"%.64s\" is a number from %u to %u", name, n->line, n->key, values[which].min,
                       values[which].max);
    for (struct str rest = str_from(values[which].unit); values[which].kind == CHOICE && rest.n && !known;)
        known = str_eq(str_cut(&rest, '|'), str_from(n->text));
    if (values[which].kind == CHOICE && !known)
        return err_set(err, ERR_INVALID, "%s: line %u: \"%.64s\" is one of %s", name, n->line, n->key, values[which].unit);
    free(*field);
    *field = values[which].kind == CHOICE ? str_dup(str_from(n->text)) : str_printf("%u%s", (unsigned)number, values[which].unit);
    return 0;
}

/* The row of @values for a key, or their number. */
static size_t find_value(const char *section, const char *key)
{
    size_t i = 0;
    while (i < ARRAY_LEN(values) && (!str_eq(str_from(section), str_from(values[i].section)) || !str_eq(str_from(key), str_from(values[i].key))))
        i++;
    return i;
}

static int read_section(const char *name, const struct yaml_node *map, struct cli_settings *s, struct buf *told, struct err *err)
{
    uint64_t given[ARRAY_LEN(ports)] = {0};
    bool has_ports = str_eq(str_from(map->key), STR("control_plane"));
    int rc = 0;
    if (map->type != YAML_MAPPING)
        return map->type == YAML_SCALAR && map->plain && !*map->text ? 0 : bad(name, map, "holds keys and their values", err);
    for (const struct yaml_node *n = map->first; rc == 0 && n; n = n->next) {
        size_t i = 0, value = find_value(map->key, n->key);
        while (has_ports && i < ARRAY_LEN(ports) && !str_eq(str_from(n->key), str_from(ports[i].key)))
            i++;
        if (value < ARRAY_LEN(values))
            rc = read_value(name, n, value, s, told, err);
        else if (has_ports && i < ARRAY_LEN(ports))
            rc = read_port(name, n, i, s, given, told, err);
        else
            rc = err_set(err, ERR_INVALID, "%s: line %u: \"%.64s\" is no key of %s", name, n->line, n->key, map->key);
    }
    return rc;
}

static bool is_section(const char *key)
{
    bool known = str_eq(str_from(key), STR("control_plane"));
    for (size_t i = 0; i < ARRAY_LEN(values) && !known; i++)
        known = str_eq(str_from(key), str_from(values[i].section));
    return known;
}

/* No option moves these: what stands in the file is all there is of them. */
static void reset(struct cli_settings *s)
{
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        if (values[i].field == NO_FIELD)
            continue;
        if (values[i].kind == FLAG || values[i].kind == UNFLAG) {
            *(bool *)field_at(s, values[i].field) = false;
            continue;
        }
        char **field = field_at(s, values[i].field);
        free(*field);
        *field = NULL;
    }
    free(s->token);
    s->token = NULL;
    free(s->gate);
    s->gate = NULL;
}

int settings_file_parse(struct str text, const char *name, struct cli_settings *s, struct buf *told, struct err *err)
{
    struct yaml_node *root = NULL;
    int rc = yaml_parse(text, name, &root, err);

    if (rc == 0 && root->type != YAML_MAPPING)
        rc = err_set(err, ERR_INVALID, "%s: holds sections with keys, as \"control_plane:\"", name);
    for (const struct yaml_node *n = rc == 0 ? root->first : NULL; rc == 0 && n; n = n->next) {
        bool known = false;
        for (size_t i = 0; i < ARRAY_LEN(passed_over); i++)
            known |= str_eq(str_from(n->key), str_from(passed_over[i]));
        if (is_section(n->key))
            rc = read_section(name, n, s, told, err);
        else if (!known)
            rc = bad(name, n, "is no section of the settings", err);
    }
    (void)yaml_tree_free(root);
    return rc;
}

int settings_file_apply(struct cli *cli, struct cli_settings *s, struct err *err)
{
    AUTO_FREE char *path = str_printf("%s/settings.yaml", cli->paths.config);
    AUTO_BUF text = BUF_INIT(SETTINGS_FILE_MAX), told = BUF_INIT(TOLD_MAX);
    int rc = fd_read_file(path, &text, err);

    reset(s);
    if (rc == -ERR_NOT_FOUND)
        return 0;
    if (rc == 0)
        rc = settings_file_parse(buf_str(&text), path, s, &told, err);
    for (struct str rest = buf_str(&told); rc == 0 && rest.n;) {
        struct str line = str_cut(&rest, '\n');
        out_note(cli, STR_FMT, STR_ARG(line));
    }
    return rc;
}

static void drop(void *arg, struct stream *s)
{
    (void)arg;
    (void)stream_close(s);
}

static int try_port(struct cli *cli, size_t which, const char *addr, struct err *err)
{
    struct listener *l = NULL;
    struct err why = ERR_INIT;
    int rc = listener_open(cli->loop, addr, 0, drop, NULL, &l, &why);

    if (rc == 0)
        (void)listener_close(l);
    /* What else can be wrong with an address davitd tells better. */
    if (rc != -ERR_EXISTS)
        return 0;
    (void)err_set(err, ERR_EXISTS, "%s is taken by another program", addr);
    err_hint(err, "control_plane.%s in %s/settings.yaml%s%s moves it", ports[which].key, cli->paths.config, ports[which].option ? ", or " : "",
             ports[which].option ? ports[which].option : "");
    return -ERR_EXISTS;
}

int settings_ports_free(struct cli *cli, const struct cli_settings *before, bool running, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(ports); i++) {
        if (ports[i].field == NO_FIELD)
            continue;
        const char *now = *at(&cli->settings, i), *then = *at((struct cli_settings *)(uintptr_t)before, i);
        if (now && !(running && str_eq(str_from(now), str_from(then))))
            rc = try_port(cli, i, now, err);
    }
    return rc;
}
