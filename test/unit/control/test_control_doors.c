/* SPDX-License-Identifier: Apache-2.0 */
/* What browsers send to 7440 and 7441, as rules over text: names, pages, cookies, API tokens, files; and how often a password may be tried. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "control/people/doors.h"
#include "control/people/logins.h"
#include "control/web/web_pages.h"

/* --- Names and pages --- */

/* req: PE-13 */
static void test_names(void **state)
{
    struct control c = {.opt = {.hostname = "cp.example", .advertise = "davit.lan:7442"}};
    static const char *const local[] = {"127.0.0.1", "127.0.0.1:7441", "localhost", "LOCALHOST:80", "[::1]", "[::1]:7441", NULL};
    static const char *const web[] = {"cp.example", "CP.example:7440", "davit.lan", "192.0.2.1:7440", "[2001:db8::1]:7440", "10.0.0.1", NULL};
    static const char *const bad[] = {"", "evil.example", "cp.example.evil.example", "xcp.example", "127.0.0.1.evil.example", "[::1", "::1]",
                                      "[::1]x", "localhost:80:80",
                                      "localhost:x", "localhost:80/", ":80", "[", "[]", "user@localhost", "127.1", "0x7f.1", NULL};
    char own[300] = "";
    (void)state;
    for (size_t i = 0; local[i]; i++)
        assert_true(doors_host_ok(&c, true, local[i]) && doors_host_ok(&c, false, local[i]));
    for (size_t i = 0; web[i]; i++)
        assert_true(doors_host_ok(&c, false, web[i]) && !doors_host_ok(&c, true, web[i]));
    for (size_t i = 0; bad[i]; i++)
        if (doors_host_ok(&c, true, bad[i]) || doors_host_ok(&c, false, bad[i]))
            fail_msg("taken: %s", bad[i]);
    assert_false(doors_host_ok(&c, false, NULL));
    assert_int_equal(gethostname(own, 250), 0);
    assert_true(doors_host_ok(&c, false, own));
    (void)snprintf(own + strlen(own), sizeof(own) - strlen(own), ".local:7440");
    assert_true(doors_host_ok(&c, false, own));
    /* A control plane without names of its own. */
    struct control plain = {0};
    assert_true(doors_host_ok(&plain, false, "192.0.2.1") && !doors_host_ok(&plain, false, "cp.example") && !doors_host_ok(&plain, false, ""));
}

/* req: PE-13 */
static void test_pages(void **state)
{
    static const struct {
        bool local;
        const char *host, *origin, *site;
        bool ok;
    } cases[] = {
        {true, "127.0.0.1:7441", NULL, NULL, true},
        {true, "127.0.0.1:7441", "http://127.0.0.1:7441", NULL, true},
        {true, "127.0.0.1:7441", "http://127.0.0.1:7441", "same-origin", true},
        {true, "127.0.0.1:7441", NULL, "none", true},
        {true, "127.0.0.1:7441", "https://127.0.0.1:7441", NULL, false},
        {true, "127.0.0.1:7441", "http://127.0.0.1:7442", NULL, false},
        {true, "127.0.0.1:7441", "http://127.0.0.1", NULL, false},
        {true, "127.0.0.1:7441", "http://localhost:7441", NULL, false},
        {true, "127.0.0.1:7441", "null", NULL, false},
        {true, "127.0.0.1:7441", "", NULL, false},
        {true, "127.0.0.1:7441", NULL, "same-site", false},
        {true, "127.0.0.1:7441", NULL, "cross-site", false},
        {true, "127.0.0.1:7441", NULL, "", false},
        {true, "127.0.0.1:7441", "http://127.0.0.1:7441", "cross-site", false},
        {false, "cp.example", "https://cp.example", "same-origin", true},
        {false, "cp.example", "https://CP.EXAMPLE", NULL, true},
        {false, "cp.example", "http://cp.example", NULL, false},
        {false, "cp.example", "https://cp.example.evil.example", NULL, false},
        {false, NULL, "https://", NULL, true}, /* no host is refused elsewhere */
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (doors_page_ok(cases[i].local, cases[i].host, cases[i].origin, cases[i].site) != cases[i].ok)
            fail_msg("case %zu", i);
}

/* req: PE-2 */
static void test_cookies(void **state)
{
    char text[DOOR_COOKIE_SIZE];
    (void)state;
    doors_set_cookie(false, "ab12", text);
    assert_string_equal(text, "__Host-davit=ab12; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000; Secure");
    doors_set_cookie(true, "ab12", text);
    assert_string_equal(text, "davit=ab12; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000");
    doors_set_cookie(true, NULL, text);
    assert_string_equal(text, "davit=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
}

/* --- API tokens --- */

/* req: PE-6 */
static void test_tokens(void **state)
{
#define S64 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
    static const char *const bad[] = {"", "davit", "davit_", "davit__", "davit_0123456789abcdef", "davit_0123456789abcdef_",
                                      "davit_0123456789abcde_" S64,
                                      "davit_0123456789abcdef0_" S64, "davit_0123456789abcdef_" S64 "0", "Davit_0123456789abcdef_" S64,
                                      "davit_0123456789abcdeF_" S64, "davit_0123456789abcdeg_" S64, "davit_0123456789abcdef_" S64 "_",
                                      " davit_0123456789abcdef_" S64, "davit_0123456789abcdef_" S64 " ", NULL};
    char id[API_TOKEN_ID_LEN + 1], hex[PASS_SECRET_TEXT + 1], again[PASS_SECRET_TEXT + 1];
    uint8_t hash[PASS_HASH_SIZE], of_secret[PASS_HASH_SIZE];
    (void)state;
    assert_true(api_token_parse(STR("davit_0123456789abcdef_" S64), id, hash));
    assert_string_equal(id, "0123456789abcdef");
    for (size_t i = 0; bad[i]; i++)
        if (api_token_parse(str_from(bad[i]), id, hash))
            fail_msg("taken: %s", bad[i]);
    pass_secret(hex, of_secret);
    pass_secret(again, hash);
    assert_string_not_equal(hex, again);
    assert_memory_not_equal(hash, of_secret, sizeof(hash));
    AUTO_FREE char *text = str_printf("davit_0123456789abcdef_%s", hex);
    assert_true(api_token_parse(str_from(text), id, hash));
    assert_memory_equal(hash, of_secret, sizeof(hash));
    assert_true(scope_of("read") < scope_of("write") && scope_of("write") < scope_of("admin"));
    assert_true(scope_of("none") == SCOPE_NONE && scope_of("") == SCOPE_NONE && scope_of("public") == SCOPE_NONE && scope_of("Admin") == SCOPE_NONE);
}

/* --- Files --- */

/* req: PE-13 */
static void test_files(void **state)
{
    (void)state;
    const struct asset *index = web_pages_find(STR("/index.html"));
    assert_non_null(index);
    assert_ptr_equal(web_pages_find(STR("/")), index);
    assert_ptr_equal(web_pages_find(STR("/servers/web-1")), index);
    assert_ptr_equal(web_pages_find(STR("")), index);
    assert_null(web_pages_find(STR("/none.js")));
    assert_null(web_pages_find(STR("/../x")));
    assert_null(web_pages_find(STR("/index.htm")));
    assert_null(web_pages_find(STR("/index.html2")));
    assert_true(web_pages_takes_gzip("gzip") && web_pages_takes_gzip("br, GZIP;q=0.5") && web_pages_takes_gzip("deflate,gzip , br"));
    assert_false(web_pages_takes_gzip(NULL) || web_pages_takes_gzip("") || web_pages_takes_gzip("br") || web_pages_takes_gzip("gzip;q=0") ||
                 web_pages_takes_gzip("gzip; q=0.0") || web_pages_takes_gzip("xgzip"));
    assert_true(web_pages_has_etag("\"a\"", "\"a\"") && web_pages_has_etag("\"b\", W/\"a\"", "\"a\"") && web_pages_has_etag("*", "\"a\""));
    assert_false(web_pages_has_etag(NULL, "\"a\"") || web_pages_has_etag("", "\"a\"") || web_pages_has_etag("a", "\"a\"") ||
                 web_pages_has_etag("\"ab\"", "\"a\""));
    for (size_t i = 1; i < n_assets; i++)
        assert_true(strcmp(assets[i - 1].path, assets[i].path) < 0);
}

/* --- How often --- */

/* req: PE-2 */
static void test_limits(void **state)
{
    struct logins *l = logins_new();
    const usec_t now = USEC_DAY;
    usec_t wait = 0;
    char host[32];
    (void)state;
    /* An account, from ever other addresses: at the limit, one beyond, and one more when time has passed. */
    for (unsigned i = 0; i < LOGINS_ACCOUNT_BURST; i++) {
        (void)snprintf(host, sizeof(host), "192.0.2.%u", i);
        assert_int_equal(logins_take(l, STR("owner"), false, host, now, &wait), 0);
    }
    assert_int_equal(logins_take(l, STR("owner"), false, "192.0.2.100", now, &wait), 1);
    assert_int_equal(wait, LOGINS_ACCOUNT_EVERY);
    assert_int_equal(logins_take(l, STR("owner"), false, "192.0.2.100", now + LOGINS_ACCOUNT_EVERY - 1, &wait), 1);
    assert_int_equal(logins_take(l, STR("owner"), false, "192.0.2.100", now + LOGINS_ACCOUNT_EVERY, &wait), 0);
    assert_int_equal(logins_take(l, STR("owner"), false, "192.0.2.100", now + LOGINS_ACCOUNT_EVERY, &wait), 1);
    /* At the machine itself it is another bucket, and so is another account's. */
    assert_int_equal(logins_take(l, STR("owner"), true, "127.0.0.1", now, &wait), 0);
    assert_int_equal(logins_take(l, STR("other"), false, "192.0.2.100", now, &wait), 0);
    /* The right password fills it. */
    logins_good(l, STR("owner"), false);
    assert_int_equal(logins_take(l, STR("owner"), false, "192.0.2.100", now, &wait), 0);
    /* An address; the nets of 64 bits of IPv6 count as one. */
    for (unsigned i = 0; i < LOGINS_ADDRESS_BURST; i++) {
        (void)snprintf(host, sizeof(host), "2001:db8::%x", i + 1);
        assert_int_equal(logins_take(l, STR(""), false, host, now, &wait), 0);
    }
    assert_int_equal(logins_take(l, STR(""), false, "2001:db8::ffff", now, &wait), 1);
    assert_int_equal(wait, LOGINS_ADDRESS_EVERY);
    assert_int_equal(logins_take(l, STR(""), false, "2001:db8:0:1::1", now, &wait), 0);
    assert_int_equal(logins_take(l, STR(""), false, "2001:db8::ffff", now + LOGINS_ADDRESS_EVERY, &wait), 0);
    l = logins_free(l);
}

/* req: PE-2 */
static void test_a_crowd_frees_nobody(void **state)
{
    struct logins *l = logins_new();
    const usec_t now = USEC_DAY;
    usec_t wait = 0;
    char text[32];
    (void)state;
    for (unsigned i = 0; i < LOGINS_ADDRESS_BURST; i++)
        assert_int_equal(logins_take(l, STR(""), false, "192.0.2.1", now, &wait), 0);
    for (unsigned i = 0; i < LOGINS_ACCOUNT_BURST; i++) {
        (void)snprintf(text, sizeof(text), "198.51.100.%u", i);
        assert_int_equal(logins_take(l, STR("owner"), false, text, now, &wait), 0);
    }
    for (unsigned i = 0; i < 3 * LOGINS_SLOTS; i++) {
        char name[32];
        (void)snprintf(text, sizeof(text), "10.%u.%u.1", i >> 8, i & 255);
        (void)snprintf(name, sizeof(name), "name-%u", i);
        assert_int_equal(logins_take(l, str_from(name), false, text, now, &wait), 0);
    }
    assert_int_equal(logins_take(l, STR("x"), false, "192.0.2.1", now, &wait), 1);
    assert_int_equal(logins_take(l, STR("owner"), false, "203.0.113.1", now, &wait), 1);
    l = logins_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),  cmocka_unit_test(test_pages),  cmocka_unit_test(test_cookies),
        cmocka_unit_test(test_tokens), cmocka_unit_test(test_files),  cmocka_unit_test(test_limits),
        cmocka_unit_test(test_a_crowd_frees_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
