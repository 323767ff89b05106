/* SPDX-License-Identifier: Apache-2.0 */
/* What the owner of a server may forbid, and that a file which cannot be believed forbids all of it. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/buf.h"
#include "host/link/policy.h"

static struct policy parse(const char *text)
{
    struct policy p;
    struct err err = ERR_INIT;
    if (policy_parse(str_from(text), "policy.yaml", &p, &err) < 0)
        fail_msg("%s", err.msg);
    return p;
}

static const char *judge(const struct policy *p, const struct policy_ask *ask, struct err *err)
{
    const char *reason = NULL;
    int rc = policy_judge(p, "policy.yaml", ask, &reason, err);
    assert_int_equal(rc, reason ? -(int)ERR_DENIED : 0);
    return reason ? reason : "allowed";
}

static const char *image(const struct policy *p, const char *reference)
{
    const struct policy_ask ask = {.image = reference};
    return judge(p, &ask, NULL);
}

static const char *option(const struct policy *p, const char *word)
{
    const struct policy_ask ask = {.privileged = &word, .n_privileged = 1};
    return judge(p, &ask, NULL);
}

static const char *mounted(const struct policy *p, const char *path)
{
    const struct policy_ask ask = {.mounts = &path, .n_mounts = 1};
    return judge(p, &ask, NULL);
}

/* req: CB-15 */
static void test_exec_and_update_are_forbidden_with_file_and_line(void **state)
{
    (void)state;
    struct policy p = parse("# of the owner\nexec: forbid\nself-update: forbid\n");
    struct err err = ERR_INIT;
    assert_string_equal(judge(&p, &(struct policy_ask){.exec = true}, &err), "policy_exec");
    assert_non_null(strstr(err.hint, "policy.yaml line 2: exec"));
    assert_string_equal(judge(&p, &(struct policy_ask){.update = true}, &err), "policy_update");
    assert_non_null(strstr(err.hint, "policy.yaml line 3: self-update"));
    assert_string_equal(image(&p, "nginx"), "allowed");
    policy_release(&p);
    p = parse("exec: allow\nsandboxes: forbid\n");
    assert_string_equal(judge(&p, &(struct policy_ask){.exec = true, .update = true}, NULL), "allowed");
    assert_string_equal(judge(&p, &(struct policy_ask){.sandbox = true, .image = "nginx"}, &err), "policy_sandbox");
    assert_non_null(strstr(err.hint, "policy.yaml line 2: sandboxes"));
    policy_release(&p);
    p = parse("privileged: [network:open]\n");
    static const char *const words[] = {"network:open", "network:host"};
    assert_string_equal(judge(&p, &(struct policy_ask){.privileged = words, .n_privileged = 1}, NULL), "allowed");
    assert_string_equal(judge(&p, &(struct policy_ask){.privileged = words, .n_privileged = 2}, NULL), "policy_privileged");
    policy_release(&p);
}

/* req: CB-15 */
static void test_images_come_from_the_listed_sources_alone(void **state)
{
    (void)state;
    struct policy p = parse("images:\n  - docker.io/library/*\n  - registry.example.org:5000/*/app\n  - '*.trusted.example/*'\n");
    static const char *const good[] = {"nginx", "nginx:1.27", "docker.io/nginx", "docker.io/library/nginx:1", "index.docker.io/library/nginx",
                                       "registry.example.org:5000/team/app:2", "eu.trusted.example/a/b/c", "abcdef:latest"};
    static const char *const bad[] = {"me/nginx", "ghcr.io/library/nginx", "registry.example.org/team/app", "registry.example.org:5000/team/app/x",
                                      "registry.example.org:5000/team/apps", "registry.example.org:5000/a/b/app", "trusted.example/a",
                                      "docker.io.evil.example/library/nginx", "localhost/library/nginx", "Docker.io/library/nginx",
                                      /* ids of images that are there */
                                      "abcdef012345", "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", ""};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (strcmp(image(&p, good[i]), "allowed") != 0)
            fail_msg("%s is not allowed", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (strcmp(image(&p, bad[i]), "policy_image_source") != 0)
            fail_msg("%s is allowed", bad[i]);
    policy_release(&p);
    p = parse("images: []\n");
    assert_string_equal(image(&p, "nginx"), "policy_image_source");
    policy_release(&p);
}

static void test_privileged_options_are_forbidden_but_for_those_listed(void **state)
{
    (void)state;
    static const char *const words[] = {"privileged", "cap:SYS_ADMIN", "network:host", "pid:host", "ipc:host", "device:/dev/kvm",
                                        "security:seccomp=unconfined"};
    struct policy none = parse("privileged: forbid\n"), some = parse("privileged: [cap:NET_ADMIN, device:/dev/kvm]\n"), all = parse("");
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        assert_string_equal(option(&none, words[i]), "policy_privileged");
        assert_string_equal(option(&all, words[i]), "allowed");
        assert_string_equal(option(&some, words[i]), strcmp(words[i], "device:/dev/kvm") == 0 ? "allowed" : "policy_privileged");
    }
    assert_string_equal(option(&some, "cap:NET_ADMIN"), "allowed");
    assert_string_equal(option(&some, "cap:NET_ADMINX"), "policy_privileged");
    policy_release(&none);
    policy_release(&some);
    policy_release(&all);
}

static char folder[] = "/tmp/davit-policy.XXXXXX";

static void test_mounts_stay_below_what_is_listed_links_included(void **state)
{
    (void)state;
    AUTO_FREE char *data = str_printf("%s/data", folder), *in = str_printf("%s/data/new/dir", folder), *beside = str_printf("%s/database", folder);
    AUTO_FREE char *link = str_printf("%s/data/link", folder), *through = str_printf("%s/data/link/not/there", folder);
    AUTO_FREE char *dots = str_printf("%s/data/../x", folder), *text = str_printf("mounts:\n  - %s/\n", data);
    assert_int_equal(mkdir(data, 0700), 0);
    AUTO_FREE char *dangling = str_printf("%s/data/dangling", folder), *behind = str_printf("%s/data/dangling/", folder);
    assert_int_equal(symlink("/etc", link), 0);
    assert_int_equal(symlink("/nowhere/yet", dangling), 0);
    struct policy p = parse(text);
    assert_string_equal(mounted(&p, data), "allowed");
    assert_string_equal(mounted(&p, in), "allowed");
    const char *const bad[] = {beside, link, through, dots, dangling, behind, folder, "/", "data", ""};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (strcmp(mounted(&p, bad[i]), "policy_mount") != 0)
            fail_msg("%s is allowed", bad[i]);
    /* Where the agent may not look there may be a link to anywhere. */
    if (geteuid() == 0) {
        assert_int_equal(seteuid(65534), 0);
        const char *unseen = mounted(&p, in);
        assert_int_equal(seteuid(0), 0);
        assert_string_equal(unseen, "policy_mount");
    }
    policy_release(&p);
}

static void test_the_socket_of_the_engine_is_not_mounted_nor_its_folder(void **state)
{
    (void)state;
    struct policy p = parse("docker-socket: forbid\n");
    static const char *const bad[] = {"/var/run/docker.sock", "/run/docker.sock", "/run", "/var/run/", "/", "/var//run", "/srv/../run"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (strcmp(mounted(&p, bad[i]), "policy_mount") != 0)
            fail_msg("%s is allowed", bad[i]);
    assert_string_equal(mounted(&p, "/srv"), "allowed");
    policy_release(&p);
}

static void refused(const char *text, const char *said)
{
    struct policy p;
    struct err err = ERR_INIT;
    int rc = policy_parse(str_from(text), "policy.yaml", &p, &err);
    if (rc != -(int)ERR_INVALID || !strstr(err.msg, said))
        fail_msg("%s: %d %s", text, rc, err.msg);
    assert_null(p.images.items);
}

static void test_what_is_not_exactly_a_policy_is_refused_with_its_line(void **state)
{
    (void)state;
    refused("exec: forbid\nimage: forbid\n", "line 2: \"image\" is no key");
    refused("exec: no\n", "line 1: exec must be allow or forbid");
    refused("exec: [forbid]\n", "line 1");
    refused("exec:\n", "line 1");
    refused("exec: forbid\nexec: allow\n", "line 2");
    refused("images: nginx\n", "line 1");
    refused("images: [nginx]\n", "REGISTRY/REPOSITORY");
    refused("images: ['docker.io/library/nginx:1']\n", "without tag");
    refused("images: [docker.io/]\n", "is not allowed");
    refused("images: [docker.io//x]\n", "is not allowed");
    refused("images: ['*']\n", "is not allowed");
    refused("images: [[a]]\n", "not text");
    refused("privileged: [cap:CAP_NET_ADMIN]\n", "cap:NAME");
    refused("privileged: [all]\n", "cap:NAME");
    refused("privileged: [cap:FOO]\n", "capability of Linux");
    refused("privileged: [cap:net_admin]\n", "capability of Linux");
    refused("privileged: [\"cap:\"]\n", "capability of Linux");
    refused("privileged: [device:/dev/../etc]\n", "is not allowed");
    refused("mounts: [srv]\n", "absolute");
    refused("mounts: [/srv/../etc]\n", "absolute");
    refused("- exec\n", "keys are expected");
    refused("forbid\n", "keys are expected");
    refused("a: &x b\n", "anchors");
    refused("{", "line");
}

static void test_lists_and_items_have_limits(void **state)
{
    (void)state;
    for (int over = 0; over < 2; over++) {
        AUTO_BUF text = BUF_INIT(POLICY_FILE_MAX), item = BUF_INIT(POLICY_FILE_MAX);
        assert_int_equal(buf_append_cstr(&text, "mounts:\n"), 0);
        for (int i = 0; i < POLICY_ITEMS_MAX + over; i++)
            assert_int_equal(buf_append_cstr(&text, "  - /srv\n"), 0);
        if (over)
            refused(buf_cstr(&text), "at most 256");
        else {
            struct policy p = parse(buf_cstr(&text));
            assert_int_equal(p.mounts.n, POLICY_ITEMS_MAX);
            policy_release(&p);
        }
        assert_int_equal(buf_append_cstr(&item, "mounts: [/"), 0);
        for (int i = 1; i < POLICY_ITEM_MAX + over; i++)
            assert_int_equal(buf_append_byte(&item, 'a'), 0);
        assert_int_equal(buf_append_cstr(&item, "]\n"), 0);
        if (over)
            refused(buf_cstr(&item), "too long");
        else {
            struct policy p = parse(buf_cstr(&item));
            policy_release(&p);
        }
    }
}

static char *path;

static void put(const char *text, size_t n, mode_t mode)
{
    (void)unlink(path);
    AUTO_FD int fd = open(path, O_CREAT | O_WRONLY | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), (ssize_t)n);
    assert_int_equal(fchmod(fd, mode), 0);
}

static const char *check(struct err *err)
{
    const char *reason = NULL;
    const struct policy_ask ask = {.image = "nginx"};
    int rc = policy_check(path, &ask, &reason, err);
    assert_int_equal(rc, reason ? -(int)ERR_DENIED : 0);
    return reason ? reason : "allowed";
}

/* req: CB-15 */
static void test_a_file_that_cannot_be_believed_forbids_everything(void **state)
{
    (void)state;
    static const char rule[] = "exec: allow\n";
    const char *codes[POLICY_CODES], *reason = NULL;
    struct err err = ERR_INIT;
    (void)unlink(path);
    assert_string_equal(check(NULL), "allowed");
    assert_int_equal(policy_forbids(path, codes), 0);
    put("", 0, 0600); /* as it is while somebody writes it */
    assert_string_equal(check(NULL), "policy_unreadable");
    put(rule, sizeof rule - 1, 0600);
    assert_string_equal(check(NULL), "allowed");
    put(rule, sizeof rule - 1, 0644);
    assert_string_equal(check(NULL), "allowed");
    put(rule, sizeof rule - 1, 0620);
    assert_string_equal(check(&err), "policy_unreadable");
    assert_non_null(strstr(err.hint, "chmod go-w"));
    put(rule, sizeof rule - 1, 0602);
    assert_string_equal(check(NULL), "policy_unreadable");
    assert_int_equal(policy_forbids(path, codes), POLICY_CODES);
    put("exec: forbid\nimage: x\n", 22, 0600);
    assert_string_equal(check(NULL), "policy_unreadable");
    (void)unlink(path);
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_string_equal(check(NULL), "policy_unreadable");
    (void)unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_string_equal(check(NULL), "policy_unreadable");
    (void)unlink(path);
    if (geteuid() == 0) {
        put(rule, sizeof rule - 1, 0600);
        assert_int_equal(chown(path, 12345, 0), 0);
        assert_string_equal(check(NULL), "policy_unreadable");
    }
    /* What no policy can forbid is done all the same. */
    assert_int_equal(policy_check(path, &(struct policy_ask){0}, &reason, NULL), 0);
}

static void test_a_file_has_a_size_and_an_edit_counts_at_once(void **state)
{
    (void)state;
    AUTO_FREE char *text = malloc(POLICY_FILE_MAX + 1);
    assert_non_null(text);
    memset(text, '#', POLICY_FILE_MAX + 1);
    put(text, POLICY_FILE_MAX, 0600);
    assert_string_equal(check(NULL), "allowed");
    put(text, POLICY_FILE_MAX + 1, 0600);
    assert_string_equal(check(NULL), "policy_unreadable");
    put("images: forbid\n", 15, 0600);
    assert_string_equal(check(NULL), "policy_image_source");
    AUTO_FD int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "images: allow \n", 15, 0), 15);
    assert_string_equal(check(NULL), "allowed");
}

static void test_people_are_told_what_it_allows(void **state)
{
    (void)state;
    struct policy p = parse("exec: forbid\nimages: [docker.io/library/*, ghcr.io/me/*]\n");
    char *said = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&said, &n);
    assert_non_null(f);
    policy_explain(f, &p);
    assert_int_equal(fclose(f), 0);
    assert_non_null(strstr(said, "exec           commands inside containers: forbidden\n"));
    assert_non_null(strstr(said, "forbidden but for docker.io/library/*, ghcr.io/me/*\n"));
    assert_non_null(strstr(said, "allowed (not in the file)\n"));
    free(said);
    policy_release(&p);
}

static int begin(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    path = str_printf("%s/policy.yaml", folder);
    return 0;
}

static int end(void **state)
{
    (void)state;
    static const char *const names[] = {"policy.yaml", "data/link", "data/dangling"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO_FREE char *name = str_printf("%s/%s", folder, names[i]);
        (void)unlink(name);
    }
    AUTO_FREE char *data = str_printf("%s/data", folder);
    (void)rmdir(data);
    free(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exec_and_update_are_forbidden_with_file_and_line),
        cmocka_unit_test(test_images_come_from_the_listed_sources_alone),
        cmocka_unit_test(test_privileged_options_are_forbidden_but_for_those_listed),
        cmocka_unit_test(test_mounts_stay_below_what_is_listed_links_included),
        cmocka_unit_test(test_the_socket_of_the_engine_is_not_mounted_nor_its_folder),
        cmocka_unit_test(test_what_is_not_exactly_a_policy_is_refused_with_its_line),
        cmocka_unit_test(test_lists_and_items_have_limits),
        cmocka_unit_test(test_a_file_that_cannot_be_believed_forbids_everything),
        cmocka_unit_test(test_a_file_has_a_size_and_an_edit_counts_at_once),
        cmocka_unit_test(test_people_are_told_what_it_allows),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
