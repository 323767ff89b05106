/* SPDX-License-Identifier: Apache-2.0 */
/* Where things are kept, and the settings of `davit up` through the file and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/cli.h"

struct home {
    char dir[40];
    struct cli_paths paths;
    char *file;
};

static int set_up(void **state)
{
    struct home *h = calloc(1, sizeof *h);

    assert_non_null(h);
    memcpy(h->dir, "/tmp/davit-settings.XXXXXX", sizeof "/tmp/davit-settings.XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    assert_int_equal(cli_paths_init(&h->paths, h->dir, NULL), 0);
    assert_int_equal(fd_mkdir_p(h->paths.config, 0700, NULL), 0);
    h->file = str_printf("%s/cli.json", h->paths.config);
    *state = h;
    return 0;
}

static int tear_down(void **state)
{
    struct home *h = *state;

    assert_int_equal(fd_remove_tree(h->dir, NULL), 0);
    cli_paths_release(&h->paths);
    free(h->file);
    free(h);
    return 0;
}

static void put(const struct home *h, const char *text)
{
    assert_int_equal(fd_write_file(h->file, text, strlen(text), 0600, NULL), 0);
}

static void test_defaults(void **state)
{
    struct home *h = *state;
    struct cli_settings s;

    assert_int_equal(cli_settings_load(&h->paths, &s, NULL), 0);
    assert_string_equal(s.api, "127.0.0.1:7443");
    assert_string_equal(s.link, "0.0.0.0:7442");
    assert_string_equal(s.health, "127.0.0.1:7080");
    assert_string_equal(s.user, "davit");
    assert_null(s.advertise);
    assert_null(s.hostname);
    assert_null(s.docker);
    assert_false(s.systemd || s.made_user);
    cli_settings_release(&s);
}

/* An unset address must come back as unset: as "" it would become an argument of davitd. */
static void test_round_trip(void **state)
{
    struct home *h = *state;
    struct cli_settings s, back;
    struct stat st;

    assert_int_equal(cli_settings_load(&h->paths, &s, NULL), 0);
    free(s.api);
    s.api = str_dup(STR("127.0.0.1:1"));
    s.hostname = str_dup(STR("davit.example \"quoted\" \xc3\xbc"));
    s.docker = str_dup(STR("unix:///run/other.sock"));
    s.made_user = true;
    assert_int_equal(cli_settings_save(&h->paths, &s, NULL), 0);
    assert_int_equal(stat(h->file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(cli_settings_load(&h->paths, &back, NULL), 0);
    assert_string_equal(back.api, s.api);
    assert_string_equal(back.link, s.link);
    assert_string_equal(back.hostname, s.hostname);
    assert_string_equal(back.docker, s.docker);
    assert_null(back.advertise);
    assert_true(back.made_user && !back.systemd);
    cli_settings_release(&back);
    cli_settings_release(&s);
}

static void test_unknown_keys_and_nulls(void **state)
{
    struct home *h = *state;
    struct cli_settings s;

    put(h, "{\"later\":{\"a\":[1]},\"api\":null,\"advertise\":\"\",\"user\":\"u\"}");
    assert_int_equal(cli_settings_load(&h->paths, &s, NULL), 0);
    assert_string_equal(s.api, "127.0.0.1:7443");
    assert_string_equal(s.user, "u");
    assert_null(s.advertise);
    cli_settings_release(&s);
}

static void test_broken_files_are_errors(void **state)
{
    static const char *const texts[] = {"", "{", "[]", "{\"api\":1}", "{\"systemd\":\"yes\"}", "{\"api\":\"a\\u0000b\"}", "{\"api\":\"a\"} x"};
    struct home *h = *state;

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct cli_settings s;
        struct err err = ERR_INIT;
        put(h, texts[i]);
        if (cli_settings_load(&h->paths, &s, &err) != -ERR_INVALID)
            fail_msg("accepted: %s", texts[i]);
        assert_non_null(strstr(err.msg, "cli.json"));
        cli_settings_release(&s);
    }
}

static void test_places(void **state)
{
    struct home *h = *state;
    struct cli_paths p = {0};
    char here[4096];

    assert_int_equal(strncmp(h->paths.state, h->dir, strlen(h->dir)), 0);
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(cli_paths_init(&p, "rel", NULL), 0);
    AUTO_FREE char *want = str_printf("%s/rel/config", here);
    assert_string_equal(p.config, want);
    cli_paths_release(&p);
    assert_int_equal(cli_paths_init(&p, NULL, NULL), 0);
    assert_int_equal(p.config[0], '/');
    if (geteuid() == 0)
        assert_string_equal(p.state, "/var/lib/davit");
    cli_paths_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_defaults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_keys_and_nulls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_broken_files_are_errors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_places, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
