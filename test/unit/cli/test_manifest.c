/* SPDX-License-Identifier: Apache-2.0 */
/* davit.yaml: every key, good and bad; each refusal names file and line; limits at the limit and one beyond. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "cli/manifest.h"
#include "yaml/yaml_tree.h"

#define HEAD "projects:\n  shop:\n    services:\n      web:\n        image: shop/web:1\n"
/* HEAD has five lines; what a case adds to the service begins in line 6. */
#define KEY(text) HEAD "        " text "\n"

static int parse(struct str text, struct manifest *m, struct err *err)
{
    *err = ERR_INIT;
    return manifest_parse(text, "davit.yaml", m, err);
}

static void refused(struct str text, int code, const char *said, const char *hint)
{
    struct manifest m;
    struct err err;

    assert_int_equal(parse(text, &m, &err), -code);
    assert_int_equal((int)m.n, 0);
    assert_null(m.services);
    assert_null(m.server);
    if (!strstr(err.msg, said) || !strstr(err.hint, hint))
        fail_msg("wanted \"%s\" and hint \"%s\", got \"%s\" and \"%s\"", said, hint, err.msg, err.hint);
}

/* The one service of a text that must be good. */
static void accepted(struct manifest *m, const char *text)
{
    struct err err;

    if (parse(str_from(text), m, &err) < 0)
        fail_msg("refused: %s (%s)", err.msg, err.hint);
}

static const struct {
    const char *text, *said, *hint;
} bad_cases[] = {
    /* shape */
    {"", "names no service", ""},
    {"\n# nothing\n", "names no service", ""},
    {"text", "line 1: \"value\" must be a mapping, here it is a text", ""},
    {"- a\n", "line 1: \"value\" must be a mapping, here it is a list", ""},
    {"projects:\n", "line 1: \"projects\" must be a mapping", ""},
    {"projects: {}\n", "names no service", ""},
    {"projects:\n  - shop\n", "\"projects\" must be a mapping, here it is a list", ""},
    {"version: 3\n", "line 1: there is no key \"version\" here", "known: server, projects"},
    {"projects:\n  shop:\n    networks: {}\n", "line 3: there is no key \"networks\"", "known: services"},
    {"projects:\n  Shop:\n    services: {}\n", "a project is named by lower-case", ""},
    {"projects:\n  shop:\n    services:\n      We_b: {image: a}\n", "line 4: a service is named by lower-case", ""},
    {"projects:\n  shop:\n    services:\n      web: {cpus: 1}\n", "line 4: the service has no image", ""},
    {"projects:\n  shop:\n    services:\n      web: {image: }\n", "line 4: the service has no image", ""},
    {"projects:\n  shop:\n    services:\n      web: nginx\n", "line 4: \"web\" must be a mapping, here it is a text", ""},
    {"server: [a]\nprojects: {}\n", "line 1: \"server\" must be a text, here it is a list", ""},
    {"server: Web 1\nprojects: {}\n", "line 1: a server is named by", ""},
    {KEY("imagee: x"), "line 6: there is no key \"imagee\" here", "known: image, command"},
    {HEAD "        image: other\n", "line 6: \"image\" stands here twice (first in line 5)", ""},
    {HEAD "      web:\n        image: b\n", "line 6: \"web\" stands here twice (first in line 4)", ""},
    /* what YAML can do and this file may not */
    {KEY("env: &a {X: 1}"), "line 6: anchors and tags are not allowed", ""},
    {KEY("command: &a [x]"), "line 6: anchors and tags are not allowed", ""},
    {KEY("cpus: &a 1"), "line 6: anchors and tags are not allowed", ""},
    {KEY("&a cpus: 1"), "line 6: anchors and tags are not allowed", ""},
    {KEY("cpus: !!int 1"), "line 6: anchors and tags are not allowed", ""},
    {KEY("env: !!map {X: 1}"), "line 6: anchors and tags are not allowed", ""},
    {KEY("command: *a"), "line 6: aliases are not allowed", ""},
    {KEY("? {a: b}\n        : c"), "line 6: a key must be plain text", ""},
    {KEY("? [a]\n        : c"), "line 6: a key must be plain text", ""},
    {HEAD "---\na: b\n", "line 6: only one document is allowed", ""},
    {"---\n---\na: b\n", "line 2: only one document is allowed", ""},
    {KEY("env: {A: \"x\\0y\"}"), "line 6: a value holds a NUL byte", ""},
    {KEY("env: {\"x\\0y\": A}"), "line 6: a key holds a NUL byte", ""},
    {KEY("env: {A: \"\x01\"}"), "line 6: control characters are not allowed", ""},
    {KEY("env: {A: \"open}"), "line ", ""},
    {KEY("\tcpus: 1"), "line 6: ", ""},
    {KEY("env: {A: 1"), "line ", ""},
    /* scalars of a service */
    {KEY("image: [a]"), "line 6: \"image\" stands here twice", ""},
    {"projects:\n  s:\n    services:\n      w:\n        image: [a]\n", "line 5: \"image\" must be a text, here it is a list", ""},
    {"projects:\n  s:\n    services:\n      w:\n        image: a b\n", "line 5: an image is named NAME:TAG", ""},
    {KEY("cpus: much"), "line 6: cpus must be a number such as 0.5 or 2", ""},
    {KEY("cpus: -1"), "line 6: cpus must be", ""},
    {KEY("cpus: 1e3"), "line 6: cpus must be", ""},
    {KEY("cpus: 1024.001"), "line 6: cpus must be", ""},
    {KEY("cpus: {a: b}"), "line 6: \"cpus\" must be a text, here it is a mapping", ""},
    {KEY("memory: lots"), "line 6: memory must be a size such as 128m", ""},
    {KEY("memory: 2048t"), "line 6: memory must be", ""},
    {KEY("memory:"), "line 6: memory must be", ""},
    {KEY("pids: 0"), "line 6: pids must be a number from 1", ""},
    {KEY("pids: 4194305"), "line 6: pids must be", ""},
    {KEY("read_only: yes"), "line 6: read_only must be true or false", ""},
    {KEY("read_only: 1"), "line 6: read_only must be", ""},
    {KEY("restart: sometimes"), "line 6: \"restart\" cannot be \"sometimes\"", "no|on-failure|always|unless-stopped"},
    {KEY("pull: daily"), "line 6: \"pull\" cannot be \"daily\"", "missing|always|never"},
    /* lists */
    {KEY("command: ls -l"), "line 6: \"command\" must be a list, here it is a text", ""},
    {KEY("command: [[a]]"), "line 6: \"value\" must be a text, here it is a list", ""},
    {KEY("env: A=1"), "line 6: \"env\" must be a mapping", ""},
    {KEY("env:\n          - A=1\n          - B"), "line 8: \"B\" is no environment variable: write NAME=VALUE", ""},
    {KEY("env:\n          A: 1\n          B: [x]"), "line 8: \"B\" must be a text, here it is a list", ""},
    {KEY("env: {\"A=B\": 1}"), "line 6: the name of an environment variable holds no '='", ""},
    {KEY("env: {\"\": 1}"), "line 6", ""},
    {KEY("env: {A: {secret: true}}"), "line 6: the variable has no value", "davit env set"},
    {KEY("env: {A: {value: 1, secret: yes}}"), "line 6: secret must be true or false", ""},
    {KEY("env: {A: {value: 1, files: x}}"), "line 6: there is no key \"files\" here", "known: value, secret, file"},
    {KEY("env: {\"A=B\": {value: 1}}"), "line 6: the name of an environment variable holds no '='", ""},
    {KEY("ports: 80:80"), "line 6: \"ports\" must be a list", ""},
    {KEY("ports: [\"80\"]"), "line 6: \"80\" publishes no port", "write HOST:CONTAINER"},
    {KEY("ports: [\"80:65536\"]"), "line 6: \"65536\" is no port: 1 to 65535", ""},
    {KEY("ports: [\"0:80\"]"), "line 6: \"0\" is no port", ""},
    {KEY("ports: [\"53:53/sctp\"]"), "line 6: \"53:53/sctp\" publishes no port", "53:53/udp"},
    {KEY("volumes: [data]"), "line 6: \"data\" is no volume", "write NAME:/path"},
    {KEY("volumes: [\"/srv:/data\"]"), "line 6: \"/srv:/data\" is no volume", "write NAME:/path"},
    {KEY("volumes: [\"data:srv\"]"), "line 6: \"data:srv\" is no volume", "NAME:/path:ro"},
    {KEY("volumes: [\"data:/srv:rx\"]"), "line 6: \"data:/srv:rx\" is no volume", ""},
    {KEY("cap_add: NET_ADMIN"), "line 6: \"cap_add\" must be a list", ""},
    {KEY("cap_add: [net-admin]"), "line 6: \"net-admin\" is no capability", ""},
    {KEY("cap_add: [\"\"]"), "line 6: \"\" is no capability", ""},
    {KEY("binds: [\"data:/srv\"]"), "line 6: \"data:/srv\" is no bind", "write /on/the/server:/in/the/container"},
    {KEY("binds: [\"/srv\"]"), "line 6: \"/srv\" is no bind", ""},
    {KEY("binds: [\"/srv:/data:rx\"]"), "line 6: \"/srv:/data:rx\" is no bind", ""},
    {KEY("allow: [everything]"), "line 6: \"everything\" is no right", "device:/dev/NAME"},
    {KEY("allow: privileged"), "line 6: \"allow\" must be a list", ""},
    {KEY("replicas: 0"), "line 6: replicas must be a number from 1 to 32", ""},
    {KEY("replicas: 33"), "line 6: replicas must be", ""},
    {KEY("replicas: [1]"), "line 6: \"replicas\" must be a text, here it is a list", ""},
    {KEY("routes: a.example"), "line 6: \"routes\" must be a list", ""},
    {KEY("routes: [\"http://a.example\"]"), "line 6: \"http://a.example\" is no route", "write HOST or HOST:PORT"},
    {KEY("routes: [\"a.example:0\"]"), "line 6: \"0\" is no port", ""},
    /* health */
    {KEY("health: maybe"), "line 6: \"maybe\" is no health check", "/path, 8080/path, tcp"},
    {KEY("health:"), "line 6: \"\" is no health check", "/path"},
    {KEY("health: tcp:0"), "line 6: \"0\" is no port", ""},
    {KEY("health: [/]"), "line 6: \"health\" must be a mapping, here it is a list", ""},
    {KEY("health: {path: /}"), "line 6: there is no key \"path\" here", "known: check, interval, timeout, retries, grace"},
    {KEY("health: {check: [/]}"), "line 6: \"check\" must be a text", ""},
    {KEY("health: {interval: soon}"), "line 6: \"interval\" must be a time such as 500ms or 10s, 100 ms to 5 m", ""},
    {KEY("health: {interval: 99ms}"), "line 6: \"interval\" must be", ""},
    {KEY("health: {interval: 301s}"), "line 6: \"interval\" must be", ""},
    {KEY("health: {timeout: 61s}"), "line 6: \"timeout\" must be a time such as 500ms or 10s, 100 ms to 1 m", ""},
    {KEY("health: {grace: 10us}"), "line 6: \"grace\" must be", ""},
    {KEY("health: {grace: 31m}"), "line 6: \"grace\" must be", ""},
    {KEY("health: {retries: 0}"), "line 6: retries must be a number from 1 to 100", ""},
    {KEY("health: {retries: 101}"), "line 6: retries must be", ""},
};

static void test_refusals_name_the_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_cases); i++)
        refused(str_from(bad_cases[i].text), ERR_INVALID, bad_cases[i].said, bad_cases[i].hint);
}

static const char every_key[] =
    "# comment\n"
    "server: web-1\n"
    "projects:\n"
    "  shop:\n"
    "    services:\n"
    "      db:\n"
    "        image: shop/db:1\n"
    "        volumes: [\"data:/var/lib/db\", \"conf:/etc/db:ro\"]\n"
    "        health: tcp:5432\n"
    "      web:\n"
    "        image: shop/web@sha256:0123\n"
    "        command: [/bin/web, \"--port\", \"8080\", on]\n"
    "        env: {A: 1e3, B: \"two words\", C: on, D: }\n"
    "        cpus: 0.5\n"
    "        memory: 128m\n"
    "        pids: 64\n"
    "        ports: [\"8080:80\", \"0.0.0.0:53:53/udp\", \"[::1]:81:81\"]\n"
    "        health: {check: 8080/health, interval: 500ms, timeout: 2s, retries: 5, grace: 1m}\n"
    "        restart: on-failure\n"
    "        pull: always\n"
    "        cap_add: [NET_ADMIN]\n"
    "        binds: [\"/srv/site:/site:ro\", \"/srv/up:/up\"]\n"
    "        allow: [\"device:/dev/ttyUSB0\"]\n"
    "        read_only: true\n"
    "        replicas: 32\n"
    "        routes: [shop.example.com, \"www.example.com:8080\"]\n";

static void test_every_key(void **state)
{
    struct manifest m;

    (void)state;
    accepted(&m, every_key);
    assert_int_equal((int)m.n, 2);
    assert_string_equal(m.server, "web-1");
    const Davit__Common__V1__ServiceSpec *db = m.services[0], *web = m.services[1];
    assert_string_equal(db->name, "db");
    assert_string_equal(db->project, "shop");
    assert_int_equal((int)db->n_volumes, 2);
    assert_string_equal(db->volumes[1]->name, "conf");
    assert_string_equal(db->volumes[1]->path, "/etc/db");
    assert_true(db->volumes[1]->read_only && !db->volumes[0]->read_only);
    assert_int_equal(db->health->kind, DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_TCP);
    assert_int_equal(db->health->port, 5432);
    assert_string_equal(web->image, "shop/web@sha256:0123");
    assert_int_equal((int)web->n_command, 4);
    assert_string_equal(web->command[3], "on");
    assert_int_equal((int)web->n_env, 4);
    assert_string_equal(web->env[0]->value, "1e3");
    assert_string_equal(web->env[1]->value, "two words");
    assert_string_equal(web->env[2]->value, "on");
    assert_string_equal(web->env[3]->value, "");
    assert_int_equal((int)web->cpu_milli, 500);
    assert_int_equal((int)web->memory_bytes, 128 * 1024 * 1024);
    assert_int_equal(web->pids_limit, 64);
    assert_int_equal((int)web->n_ports, 3);
    assert_string_equal(web->ports[1]->host_ip, "0.0.0.0");
    assert_string_equal(web->ports[1]->protocol, "udp");
    assert_string_equal(web->ports[2]->host_ip, "::1");
    assert_int_equal(web->health->kind, DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_HTTP);
    assert_string_equal(web->health->path, "/health");
    assert_int_equal(web->health->port, 8080);
    assert_int_equal(web->health->interval_ms, 500);
    assert_int_equal(web->health->timeout_ms, 2000);
    assert_int_equal(web->health->retries, 5);
    assert_int_equal(web->health->grace_ms, 60000);
    assert_string_equal(web->restart, "on-failure");
    assert_string_equal(web->pull, "always");
    assert_string_equal(web->cap_add[0], "NET_ADMIN");
    assert_int_equal((int)web->n_binds, 2);
    assert_string_equal(web->binds[0]->source, "/srv/site");
    assert_string_equal(web->binds[0]->path, "/site");
    assert_true(web->binds[0]->read_only && !web->binds[1]->read_only);
    assert_string_equal(web->allow[0], "device:/dev/ttyUSB0");
    assert_true(web->read_only);
    assert_int_equal(web->replicas, 32);
    assert_int_equal(db->replicas, 0);
    assert_int_equal((int)web->n_routes, 2);
    assert_string_equal(web->routes[0]->hostname, "shop.example.com");
    assert_int_equal(web->routes[0]->port, 0);
    assert_string_equal(web->routes[1]->hostname, "www.example.com");
    assert_int_equal(web->routes[1]->port, 8080);
    manifest_release(&m);
}

/* Who says nothing about health leaves it to the control plane; an empty path in quotes, as `none`, says that there is no check. */
/* req: CX-6 */
static void test_health_that_is_not_said(void **state)
{
    static const struct {
        const char *text;
        bool there, http;
    } v[] = {
        {KEY("cpus: 1"), false, false},        {KEY("routes: [a.example]"), false, false}, {KEY("health: none"), true, false},
        {KEY("health: \"\""), true, false},    {KEY("health: {check: \"\"}"), true, false}, {KEY("health: {retries: 5}"), true, false},
        {KEY("health: {retries: 5}\n        routes: [a.example]"), true, true},
        {KEY("health: {check: none, retries: 5}\n        routes: [a.example]"), true, false},
    };
    struct manifest m;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        accepted(&m, v[i].text);
        const Davit__Common__V1__HealthCheck *h = m.services[0]->health;
        assert_true((h != NULL) == v[i].there);
        assert_true((h && h->kind == DAVIT__COMMON__V1__HEALTH_KIND__HEALTH_KIND_HTTP) == v[i].http);
        manifest_release(&m);
    }
}

static void test_env_as_list_and_values_with_equals(void **state)
{
    struct manifest m;

    (void)state;
    accepted(&m, KEY("env: [\"A=b=c\", \"B=\"]"));
    assert_string_equal(m.services[0]->env[0]->value, "b=c");
    assert_string_equal(m.services[0]->env[1]->value, "");
    manifest_release(&m);
    accepted(&m, KEY("env: {A: =b}"));
    assert_string_equal(m.services[0]->env[0]->name, "A");
    assert_string_equal(m.services[0]->env[0]->value, "=b");
    manifest_release(&m);
}

/* The examples of the documentation are read as they stand. */
static void test_examples_in_the_documentation(void **state)
{
    AUTO_BUF page = BUF_INIT(MANIFEST_MAX);
    struct manifest m;
    struct err err = ERR_INIT;

    (void)state;
    if (manifest_load("doc/examples/davit.yaml", &m, &err) < 0)
        fail_msg("%s", err.msg);
    manifest_release(&m);
    assert_int_equal(fd_read_file("doc/deploy.md", &page, &err), 0);
    char *text = strstr(buf_cstr(&page), "```yaml\n");
    assert_non_null(text);
    text += sizeof "```yaml";
    *strstr(text, "```") = 0;
    accepted(&m, text);
    assert_int_equal((int)m.services[0]->n_ports, 2);
    manifest_release(&m);
}

/* ---- bytes ---- */

static void test_bytes_that_are_no_text(void **state)
{
    (void)state;
    refused((struct str){HEAD "\0", sizeof HEAD}, ERR_INVALID, "line 6: control characters are not allowed", "");
    refused(STR(HEAD "#\xff\n"), ERR_INVALID, "is not UTF-8 text", "");
    refused(STR("\xff\xfe" "a\0"), ERR_INVALID, "is not UTF-8 text", "");
    refused(STR(HEAD "# \xed\xa0\x80\n"), ERR_INVALID, "is not UTF-8 text", "");
    refused((struct str){NULL, 0}, ERR_INVALID, "names no service", "");
}

/* HEAD, then a comment, up to @size bytes. */
static void sized(struct buf *text, size_t size)
{
    if (text->len == 0)
        assert_int_equal(buf_append_cstr(text, HEAD "#"), 0);
    while (text->len < size)
        assert_int_equal(buf_append_byte(text, 'x'), 0);
}

static void test_size_limit(void **state)
{
    AUTO_BUF text = BUF_INIT(MANIFEST_MAX + 16);
    struct manifest m;
    struct err err;

    (void)state;
    sized(&text, MANIFEST_MAX);
    assert_int_equal(parse(buf_str(&text), &m, &err), 0);
    manifest_release(&m);
    sized(&text, MANIFEST_MAX + 1);
    refused(buf_str(&text), ERR_EXHAUSTED, "larger than 1048576 bytes", "");
}

static void test_load_from_file(void **state)
{
    char dir[] = "/tmp/davit-manifest.XXXXXX";
    AUTO_BUF text = BUF_INIT(MANIFEST_MAX + 16);
    struct manifest m;
    struct err err = ERR_INIT;

    (void)state;
    assert_non_null(mkdtemp(dir));
    AUTO_FREE char *path = str_printf("%s/davit.yaml", dir);
    assert_int_equal(manifest_load(path, &m, &err), -ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, path));
    assert_int_equal(manifest_load(dir, &m, &err) < 0, 1);
    assert_int_equal(fd_write_file(path, "", 0, 0600, &err), 0);
    assert_int_equal(manifest_load(path, &m, &err), -ERR_INVALID);
    assert_int_equal(fd_write_file(path, HEAD, sizeof HEAD - 1, 0600, &err), 0);
    assert_int_equal(manifest_load(path, &m, &err), 0);
    assert_int_equal((int)m.n, 1);
    manifest_release(&m);
    sized(&text, MANIFEST_MAX + 1);
    assert_int_equal(fd_write_file(path, text.data, text.len, 0600, &err), 0);
    assert_int_equal(manifest_load(path, &m, &err), -ERR_EXHAUSTED);
    assert_non_null(strstr(err.msg, "larger than"));
    assert_int_equal(fd_remove_tree(dir, NULL), 0);
}

/* ---- limits of the tree ---- */

static int nested(unsigned depth, const char *open, const char *close, struct err *err)
{
    AUTO_BUF text = BUF_INIT(65536);
    struct yaml_node *root = NULL;
    int rc;

    for (unsigned i = 0; i < depth; i++)
        assert_int_equal(buf_append_cstr(&text, open), 0);
    for (unsigned i = 0; i < depth; i++)
        assert_int_equal(buf_append_cstr(&text, close), 0);
    *err = ERR_INIT;
    rc = yaml_parse(buf_str(&text), "x", &root, err);
    assert_int_equal(rc == 0, root != NULL);
    yaml_tree_free(root);
    return rc;
}

static void test_depth_limit(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(nested(YAML_DEPTH_MAX, "[", "]", &err), 0);
    assert_int_equal(nested(YAML_DEPTH_MAX + 1, "[", "]", &err), -ERR_INVALID);
    assert_string_equal(err.msg, "x line 1: nested too deeply");
    assert_int_equal(nested(YAML_DEPTH_MAX, "{a: ", "}", &err), 0);
    assert_int_equal(nested(YAML_DEPTH_MAX + 1, "{a: ", "}", &err), -ERR_INVALID);
    assert_int_equal(nested(10000, "[", "]", &err), -ERR_INVALID);
    assert_int_equal(nested(10000, "- ", "", &err), -ERR_INVALID);
}

static int listed(size_t n, struct err *err)
{
    AUTO_BUF text = BUF_INIT(MANIFEST_MAX);
    struct yaml_node *root = NULL;
    int rc;

    for (size_t i = 0; i < n; i++)
        assert_int_equal(buf_append_cstr(&text, "- a\n"), 0);
    *err = ERR_INIT;
    rc = yaml_parse(buf_str(&text), "x", &root, err);
    yaml_tree_free(root);
    return rc;
}

static void test_node_limit(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(listed(YAML_NODES_MAX - 1, &err), 0); /* the list itself is one */
    assert_int_equal(listed(YAML_NODES_MAX, &err), -ERR_EXHAUSTED);
    assert_string_equal(err.msg, "x: more than 20000 values");
}

static int with_services(unsigned n, struct manifest *m, struct err *err)
{
    AUTO_BUF text = BUF_INIT(MANIFEST_MAX);

    assert_int_equal(buf_append_cstr(&text, "projects:\n  p:\n    services:\n"), 0);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(buf_printf(&text, "      s%u: {image: a}\n", i), 0);
    return parse(buf_str(&text), m, err);
}

static void test_services_limit(void **state)
{
    struct manifest m;
    struct err err;

    (void)state;
    assert_int_equal(with_services(MANIFEST_SERVICES_MAX, &m, &err), 0);
    assert_int_equal((int)m.n, MANIFEST_SERVICES_MAX);
    manifest_release(&m);
    assert_int_equal(with_services(MANIFEST_SERVICES_MAX + 1, &m, &err), -ERR_EXHAUSTED);
    assert_non_null(strstr(err.msg, "more than 200 services"));
}

static int with_list(const char *key, const char *item, unsigned n, struct manifest *m, struct err *err)
{
    AUTO_BUF text = BUF_INIT(MANIFEST_MAX);

    assert_int_equal(buf_printf(&text, HEAD "        %s:\n", key), 0);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(buf_printf(&text, "          - %s\n", item), 0);
    return parse(buf_str(&text), m, err);
}

static void test_list_limits(void **state)
{
    static const char *const lists[][2] = {{"command", "x"}, {"env", "A=1"}, {"ports", "\"1:1\""}, {"volumes", "a:/b"}, {"cap_add", "A"},
                                              {"binds", "/a:/b"}, {"allow", "pid:host"}};
    struct manifest m;
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        assert_int_equal(with_list(lists[i][0], lists[i][1], MANIFEST_LIST_MAX, &m, &err), 0);
        manifest_release(&m);
        assert_int_equal(with_list(lists[i][0], lists[i][1], MANIFEST_LIST_MAX + 1, &m, &err), -ERR_INVALID);
        assert_non_null(strstr(err.msg, "line 263: more than 256"));
    }
}

/* req: WK-9 */
static void test_variables_that_are_secrets_and_files(void **state)
{
    struct manifest m;
    (void)state;
    accepted(&m, KEY("env: {A: 1, B: {value: x, secret: true, file: b.key}, C: {value: \"\"}}"));
    const Davit__Common__V1__ServiceSpec *s = m.services[0];
    assert_int_equal((int)s->n_env, 3);
    assert_false(s->env[0]->secret);
    assert_true(s->env[1]->secret);
    assert_string_equal(s->env[1]->value, "x");
    assert_string_equal(s->env[1]->file, "b.key");
    assert_string_equal(s->env[2]->value, "");
    assert_false(s->env[2]->secret);
    manifest_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variables_that_are_secrets_and_files),
        cmocka_unit_test(test_refusals_name_the_line), cmocka_unit_test(test_every_key), cmocka_unit_test(test_health_that_is_not_said),
        cmocka_unit_test(test_examples_in_the_documentation),
        cmocka_unit_test(test_env_as_list_and_values_with_equals), cmocka_unit_test(test_bytes_that_are_no_text),
        cmocka_unit_test(test_size_limit), cmocka_unit_test(test_load_from_file), cmocka_unit_test(test_depth_limit),
        cmocka_unit_test(test_node_limit), cmocka_unit_test(test_services_limit), cmocka_unit_test(test_list_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
