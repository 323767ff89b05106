/* SPDX-License-Identifier: Apache-2.0 */
/* settings.yaml: what is read, what has no effect, what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/settings_file.h"

struct read {
    struct cli_settings s;
    char told[4096];
    struct err err;
    int rc;
};

static void parse(const char *text, struct read *r)
{
    AUTO_BUF told = BUF_INIT(4096);
    *r = (struct read){.err = ERR_INIT};
    r->rc = settings_file_parse(str_from(text), "settings.yaml", &r->s, &told, &r->err);
    (void)str_copy(r->told, sizeof(r->told), buf_str(&told));
}

static void forget(struct read *r)
{
    free(r->s.api);
    free(r->s.health);
    free(r->s.token);
    free(r->s.gate);
    free(r->s.idle_exit);
    free(r->s.log_size);
    free(r->s.log_age);
    free(r->s.log_backups);
}

/* req: CW-69 */
static void test_all_nine_keys(void **state)
{
    struct read r;
    (void)state;
    parse("control_plane:\n  admin_port: 17443\n  health_port: 17080\n  agent_port: 7444\n  hydra_public_port: 4444\n  hydra_admin_port: 4445\n"
          "  oathkeeper_port: 4456\n  oathkeeper_api_port: 4457\n  kratos_public_port: 4433\n  kratos_admin_port: 4434\nfirewall:\n  enable: true\n",
          &r);
    assert_int_equal(r.rc, 0);
    assert_string_equal(r.s.api, "127.0.0.1:17443");
    assert_string_equal(r.s.health, "127.0.0.1:17080");
    assert_string_equal(r.s.token, "127.0.0.1:4444");
    assert_string_equal(r.s.gate, "127.0.0.1:4456");
    assert_null(strstr(r.told, "agent_port"));
    assert_non_null(strstr(r.told, "control_plane.kratos_admin_port has no effect"));
    assert_null(strstr(r.told, "admin_port has no effect: nothing listens there\nsettings.yaml: control_plane.health"));
    forget(&r);
}

static void test_nothing_is_nothing(void **state)
{
    struct read r;
    (void)state;
    const char *const texts[] = {"", "control_plane:\n", "control_plane: {}\n", "logging:\n  compress: false\n", "telemetry:\n  x: 1\n"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        parse(texts[i], &r);
        assert_int_equal(r.rc, 0);
        assert_null(r.s.api);
        assert_string_equal(r.told, "");
        forget(&r);
    }
}

static void test_the_log_and_the_end_of_an_idle_one(void **state)
{
    struct read r;
    (void)state;
    parse("control_plane:\n  idle_exit: never\nlogging:\n  file_enabled: false\n  max_size_mb: 50\n  max_age_days: 7\n  max_backups: 3\n"
          "  compress: true\n  otel:\n    enabled: true\n    timeout_seconds: 5\n"
          "firewall:\n  enable: false\n",
          &r);
    assert_int_equal(r.rc, 0);
    assert_string_equal(r.s.idle_exit, "never");
    assert_true(r.s.log_off && r.s.firewall_off);
    assert_string_equal(r.s.log_size, "50m");
    assert_string_equal(r.s.log_age, "7d");
    assert_string_equal(r.s.log_backups, "3");
    assert_non_null(strstr(r.told, "logging.compress has no effect"));
    assert_non_null(strstr(r.told, "logging.otel has no effect"));
    forget(&r);
    parse("logging:\n  file_enabled: true\nfirewall:\n  enable: true\n", &r);
    assert_true(r.rc == 0 && !r.s.log_off && !r.s.firewall_off);
    forget(&r);
}

static void test_what_is_refused_names_its_line(void **state)
{
    struct read r;
    (void)state;
    const struct {
        const char *text, *said;
    } bad[] = {
        {"control_plane:\n  admin_port: 0\n", "line 2: \"admin_port\" is no port"},
        {"control_plane:\n  admin_port: 65536\n", "is no port"},
        {"control_plane:\n  admin_port: -1\n", "is no port"},
        {"control_plane:\n  admin_port: [1]\n", "is no port"},
        {"control_plane:\n  admin_port:\n", "is no port"},
        {"control_plane:\n  adminport: 1\n", "line 2: \"adminport\" is no key"},
        {"control_plane: 7443\n", "holds keys"},
        {"controlplane:\n  admin_port: 1\n", "line 1: \"controlplane\" is no section"},
        {"- a\n", "holds sections"},
        {"control_plane:\n  admin_port: 7080\n  health_port: 7080\n", "line 3: \"health_port\" is the port of admin_port already"},
        {"control_plane:\n  admin_port: 1\n  admin_port: 2\n", "settings.yaml"},
        {"control_plane:\n  idle_exit: maybe\n", "line 2: \"idle_exit\" is one of auto|never|always"},
        {"logging:\n  max_size_mb: 0\n", "line 2: \"max_size_mb\" is a number from 1 to 100000"},
        {"logging:\n  max_size_mb: 100001\n", "is a number from"},
        {"logging:\n  max_backups: [1]\n", "has one value"},
        {"logging:\n  compress: 1\n", "is true or false"},
        {"logging:\n  admin_port: 1\n", "\"admin_port\" is no key of logging"},
        {"firewall:\n  enable: \"true\"\n", "is true or false"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        parse(bad[i].text, &r);
        assert_int_equal(r.rc, -ERR_INVALID);
        if (!strstr(r.err.msg, bad[i].said))
            fail_msg("%s: %s", bad[i].text, r.err.msg);
        forget(&r);
    }
    parse("control_plane:\n  admin_port: 65535\n", &r);
    assert_string_equal(r.s.api, "127.0.0.1:65535");
    forget(&r);
}

/* What only the file moves is as if it was never said once the file says it no more. */
static void test_what_is_not_said_any_more_is_undone(void **state)
{
    char dir[] = "/tmp/settings-XXXXXX";
    struct err err = ERR_INIT;
    struct cli cli = {0};
    (void)state;
    assert_non_null(mkdtemp(dir));
    cli.paths.config = dir;
    cli.settings.token = str_dup(STR("127.0.0.1:4444"));
    cli.settings.idle_exit = str_dup(STR("never"));
    cli.settings.log_off = true;
    assert_int_equal(settings_file_apply(&cli, &cli.settings, &err), 0);
    assert_null(cli.settings.token);
    assert_null(cli.settings.idle_exit);
    assert_false(cli.settings.log_off);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_nine_keys),
        cmocka_unit_test(test_nothing_is_nothing),
        cmocka_unit_test(test_the_log_and_the_end_of_an_idle_one),
        cmocka_unit_test(test_what_is_refused_names_its_line),
        cmocka_unit_test(test_what_is_not_said_any_more_is_undone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
