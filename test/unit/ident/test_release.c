/* SPDX-License-Identifier: Apache-2.0 */
/* Releases: the order of versions, what is a release and what is not, who must have signed it, and which may follow which. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include <openssl/evp.h>

#include "base/buf.h"
#include "ident/release.h"

#define SHA "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HEAD "{\"format\":1,\"channel\":\"stable\",\"version\":\"0.2.0\"," \
             "\"counter\":7,\"min_from\":\"0.1.0\",\"created\":1790000000,\"expires\":1805000000,"
#define FILE_OF(platform, name) "{\"platform\":\"" platform "\",\"name\":\"" name "\",\"size\":1024,\"sha256\":\"" SHA "\"}"
#define FILES "\"files\":[" FILE_OF("linux-amd64", "a.tar") "," FILE_OF("linux-arm64", "b.tar") "]}\n"
#define GOOD HEAD FILES

static EVP_PKEY *pairs[RELEASE_KEYS + 1];
static struct release_keys keys = {.n = RELEASE_KEYS};
static char ids[RELEASE_KEYS + 1][RELEASE_KEY_ID_SIZE];

static int make_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < RELEASE_KEYS + 1; i++) {
        struct release_key key;
        size_t n = sizeof(key.public_key);
        pairs[i] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
        assert_int_equal(EVP_PKEY_get_raw_public_key(pairs[i], key.public_key, &n), 1);
        release_key_id(&key, ids[i]);
        if (i < RELEASE_KEYS)
            keys.key[i] = key;
    }
    return 0;
}

static int free_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < RELEASE_KEYS + 1; i++)
        EVP_PKEY_free(pairs[i]);
    return 0;
}

/* Appends the line of pair @i over @text under the id of pair @name. */
static void put_line(struct buf *out, size_t i, size_t name, struct str text)
{
    uint8_t signature[64];
    char hex[129];
    size_t n = sizeof(signature);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, NULL, NULL, pairs[i]), 1);
    assert_int_equal(EVP_DigestSign(ctx, signature, &n, (const uint8_t *)text.p, text.n), 1);
    EVP_MD_CTX_free(ctx);
    str_hex(signature, sizeof(signature), hex);
    assert_int_equal(buf_printf(out, "%s %s\n", ids[name], hex), 0);
}

static void test_versions(void **state)
{
    /* In ascending order; semver.org item 11 is among them. */
    static const char *const ORDER[] = {"0.0.0", "0.0.1", "0.1.0", "0.9.0", "0.10.0", "1.0.0-0", "1.0.0-2", "1.0.0-10", "1.0.0--", "1.0.0-alpha",
        "1.0.0-alpha.1", "1.0.0-alpha.1.0", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0",
        "1.0.1-rc.1", "1.0.1", "999999999.0.0"};
    static const char *const BAD[] = {"", "1", "1.0", "1.0.0.0", "01.0.0", "1.00.0", "1.0.0-", "1.0.0-01", "1.0.0-a..b", "1.0.0-a.", "1.0.0+b",
        "1.0.0-a+b", "v1.0.0", " 1.0.0", "1.0.0 ", "1.0.0-ä", "1000000000.0.0", "-1.0.0", "1..0", "1.0.0-1000000000", "1.0.0/../x", "1.0.0.", "."};
    uint64_t major, minor;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ORDER); i++)
        for (size_t k = 0; k < ARRAY_LEN(ORDER); k++) {
            int order = release_version_compare(str_from(ORDER[i]), str_from(ORDER[k]));
            if ((order < 0) != (i < k) || (order > 0) != (i > k))
                fail_msg("%s %s: %d", ORDER[i], ORDER[k], order);
        }
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        if (release_version_valid(str_from(BAD[i])))
            fail_msg("'%s' passes", BAD[i]);
        assert_true(release_version_compare(str_from(BAD[i]), STR("0.0.0")) < 0);
        assert_int_equal(release_version_minor(str_from(BAD[i]), &major, &minor), -ERR_INVALID);
    }
    assert_false(release_version_valid((struct str){"1.0.0\0", 6}));
    assert_int_equal(release_version_minor(STR("12.34.56-rc.1"), &major, &minor), 0);
    assert_int_equal(major, 12);
    assert_int_equal(minor, 34);
    /* At the limit and one beyond. */
    char long_one[RELEASE_VERSION_SIZE + 1];
    memset(long_one, 'a', sizeof(long_one));
    memcpy(long_one, "1.0.0-", 6);
    assert_true(release_version_valid((struct str){long_one, RELEASE_VERSION_SIZE - 1}));
    assert_false(release_version_valid((struct str){long_one, RELEASE_VERSION_SIZE}));
}

static void test_good(void **state)
{
    struct release r;
    (void)state;
    assert_int_equal(release_parse(STR(GOOD), &r, NULL), 0);
    assert_string_equal(r.channel, "stable");
    assert_string_equal(r.version, "0.2.0");
    assert_string_equal(r.min_from, "0.1.0");
    assert_int_equal(r.counter, 7);
    assert_int_equal(r.created, 1790000000 * USEC_SEC);
    assert_int_equal(r.expires, 1805000000 * USEC_SEC);
    assert_int_equal(r.n_files, 2);
    const struct release_file *f = release_file_for(&r, STR("linux-arm64"));
    assert_non_null(f);
    assert_string_equal(f->name, "b.tar");
    assert_int_equal(f->size, 1024);
    assert_string_equal(f->sha256, SHA);
    assert_null(release_file_for(&r, STR("linux-arm")));
    assert_non_null(release_file_for(&r, str_from(release_platform())));
}

static void test_bad(void **state)
{
    static const char *const BAD[] = {"", "{}", "{}\n", "null\n", "[]\n", HEAD, HEAD "\"files\":[]}\n",
        HEAD "\"files\":[" FILE_OF("linux-amd64", "a.tar") "]}",              /* no newline */
        HEAD "\"files\":[" FILE_OF("linux-amd64", "a.tar") "]}\n\n",
        HEAD "\"files\":[" FILE_OF("linux-amd64", "a.tar") "]}\r\n",
        HEAD "\"files\":[" FILE_OF("linux-amd64", "a.tar") "],\"more\":1}\n", /* a member that is not known */
        HEAD "\"files\": [" FILE_OF("linux-amd64", "a.tar") "]}\n",           /* a blank */
        HEAD "\"f\\u0069les\":[" FILE_OF("linux-amd64", "a.tar") "]}\n",      /* another way to write it */
        HEAD "\"version\":\"9.0.0\",\"files\":[" FILE_OF("linux-amd64", "a.tar") "]}\n",
        HEAD "\"files\":[" FILE_OF("linux-amd64", "a.tar") "," FILE_OF("linux-amd64", "b.tar") "]}\n",
        HEAD "\"files\":[" FILE_OF("linux-amd64", "a.tar") "," FILE_OF("linux-arm64", "a.tar") "]}\n",
        HEAD "\"files\":[" FILE_OF("linux-amd64", "../a.tar") "]}\n", HEAD "\"files\":[" FILE_OF("linux-amd64", "a/b") "]}\n",
        HEAD "\"files\":[" FILE_OF("linux-amd64", ".a") "]}\n", HEAD "\"files\":[" FILE_OF("linux-amd64", "-a") "]}\n",
        HEAD "\"files\":[" FILE_OF("linux-amd64", "") "]}\n", HEAD "\"files\":[" FILE_OF("Linux", "a") "]}\n",
        HEAD "\"files\":[" FILE_OF("linux-amd64", "a b") "]}\n", HEAD "\"files\":[" FILE_OF("linux-amd64", "a\\n") "]}\n"};
    struct release r;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct err err = ERR_INIT;
        if (release_parse(str_from(BAD[i]), &r, &err) != -ERR_INVALID || err.msg[0] == '\0')
            fail_msg("passes or is not told: %s", BAD[i]);
    }
    for (size_t n = 0; n < strlen(GOOD); n++)
        assert_int_equal(release_parse((struct str){GOOD, n}, &r, NULL), -ERR_INVALID);
}

/* A good text in which the first @from is @to. */
static int parse_with(const char *from, const char *to)
{
    struct release r;
    const char *at = strstr(GOOD, from);
    assert_non_null(at);
    AUTO_BUF b = BUF_INIT(64 * 1024);
    assert_int_equal(buf_append(&b, GOOD, (size_t)(at - GOOD)), 0);
    assert_int_equal(buf_printf(&b, "%s%s", to, at + strlen(from)), 0);
    return release_parse(buf_str(&b), &r, NULL);
}

static void test_member_limits(void **state)
{
    static const struct {
        const char *from, *to;
        int rc;
    } CASES[] = {
        {"\"format\":1", "\"format\":2", -ERR_INVALID},       {"\"format\":1", "\"format\":1e0", -ERR_INVALID},
        {"\"format\":1", "\"format\":\"1\"", -ERR_INVALID},   {"\"counter\":7", "\"counter\":0", -ERR_INVALID},
        {"\"counter\":7", "\"counter\":1", 0},                {"\"counter\":7", "\"counter\":9007199254740991", 0},
        {"\"counter\":7", "\"counter\":9007199254740992", -ERR_INVALID},
        {"\"counter\":7", "\"counter\":-1", -ERR_INVALID},    {"\"counter\":7", "\"counter\":07", -ERR_INVALID},
        {"1805000000", "1790000001", 0},                      {"1805000000", "1790000000", -ERR_INVALID},
        {"1805000000", "253402300799", 0},                    {"1805000000", "253402300800", -ERR_INVALID},
        {"1790000000", "0", -ERR_INVALID},                    {"\"size\":1024", "\"size\":0", -ERR_INVALID},
        {"\"size\":1024", "\"size\":1073741824", 0},          {"\"size\":1024", "\"size\":1073741825", -ERR_INVALID},
        {"0123456789abcdef", "0123456789ABCDEF", -ERR_INVALID}, {"0123456789abcdef", "0123456789abcde", -ERR_INVALID},
        {"0123456789abcdef", "0123456789abcdeff", -ERR_INVALID}, {"\"stable\"", "\"Stable\"", -ERR_INVALID},
        {"\"stable\"", "\"\"", -ERR_INVALID},                 {"\"stable\"", "null", -ERR_INVALID},
        {"\"0.2.0\"", "\"0.2\"", -ERR_INVALID},               {"\"0.2.0\"", "\"0.2.0-rc.1\"", 0},
        {"\"0.1.0\"", "\"../..\"", -ERR_INVALID},             {"\"channel\"", "\"version\"", -ERR_INVALID},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++)
        if (parse_with(CASES[i].from, CASES[i].to) != CASES[i].rc)
            fail_msg("%s -> %s", CASES[i].from, CASES[i].to);
    char name[RELEASE_NAME_SIZE + 1] = "";
    memset(name, 'n', RELEASE_NAME_SIZE - 1);
    assert_int_equal(parse_with("a.tar", name), 0);
    memset(name, 'n', RELEASE_NAME_SIZE);
    assert_int_equal(parse_with("a.tar", name), -ERR_INVALID);
}

static int parse_files(size_t n)
{
    struct release r;
    AUTO_BUF b = BUF_INIT(64 * 1024);
    assert_int_equal(buf_append_cstr(&b, HEAD "\"files\":["), 0);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(buf_printf(&b, "%s{\"platform\":\"p%zu\",\"name\":\"n%zu\",\"size\":1,\"sha256\":\"" SHA "\"}", i ? "," : "", i, i), 0);
    assert_int_equal(buf_append_cstr(&b, "]}\n"), 0);
    return release_parse(buf_str(&b), &r, NULL);
}

static void test_file_limit(void **state)
{
    (void)state;
    assert_int_equal(parse_files(RELEASE_FILES_MAX), 0);
    assert_int_equal(parse_files(RELEASE_FILES_MAX + 1), -ERR_INVALID);
    AUTO_FREE char *huge = str_printf("%*s", RELEASE_METADATA_MAX + 1, "x");
    struct release r;
    assert_int_equal(release_parse(str_from(huge), &r, NULL), -ERR_INVALID);
}

/* req: CL-79 */
static void test_two_of_three(void **state)
{
    struct str text = STR(GOOD);
    struct release r;
    (void)state;
    for (size_t a = 0; a < RELEASE_KEYS; a++) {
        AUTO_BUF one = BUF_INIT(RELEASE_SIGNATURES_MAX);
        put_line(&one, a, a, text);
        assert_int_equal(release_verify(text, buf_str(&one), &keys, NULL), -ERR_UNAUTHENTICATED);
        /* The same key again is one key. */
        put_line(&one, a, a, text);
        assert_int_equal(release_verify(text, buf_str(&one), &keys, NULL), -ERR_UNAUTHENTICATED);
        for (size_t b = 0; b < RELEASE_KEYS; b++) {
            AUTO_BUF two = BUF_INIT(RELEASE_SIGNATURES_MAX);
            put_line(&two, a, a, text);
            put_line(&two, b, b, text);
            assert_int_equal(release_verify(text, buf_str(&two), &keys, NULL), a == b ? -ERR_UNAUTHENTICATED : 0);
        }
    }
    AUTO_BUF two = BUF_INIT(RELEASE_SIGNATURES_MAX);
    put_line(&two, 0, 0, text);
    put_line(&two, 2, 2, text);
    assert_int_equal(release_open(text, buf_str(&two), &keys, 1804999999 * USEC_SEC, &r, NULL), 0);
    assert_int_equal(release_open(text, buf_str(&two), &keys, 1805000000 * USEC_SEC, &r, NULL), -ERR_PRECONDITION);
    /* A build without keys believes nothing. */
    assert_int_equal(release_verify(text, buf_str(&two), &(struct release_keys){0}, NULL), -ERR_UNAUTHENTICATED);
}

static void test_foreign_signatures(void **state)
{
    struct str text = STR(GOOD), other = STR("{}\n");
    (void)state;
    AUTO_BUF b = BUF_INIT(RELEASE_SIGNATURES_MAX);
    put_line(&b, 0, 0, text);
    put_line(&b, RELEASE_KEYS, RELEASE_KEYS, text); /* a key that is not ours counts for nothing and does no harm */
    assert_int_equal(release_verify(text, buf_str(&b), &keys, NULL), -ERR_UNAUTHENTICATED);
    put_line(&b, 1, 1, text);
    assert_int_equal(release_verify(text, buf_str(&b), &keys, NULL), 0);
    /* Not a byte of what is signed may be another. */
    AUTO_FREE char *changed = str_dup(text);
    for (size_t i = 0; i < text.n; i++) {
        changed[i] = (char)(changed[i] ^ 1);
        assert_int_equal(release_verify((struct str){changed, text.n}, buf_str(&b), &keys, NULL), -ERR_UNAUTHENTICATED);
        changed[i] = (char)(changed[i] ^ 1);
    }
    AUTO_BUF wrong = BUF_INIT(RELEASE_SIGNATURES_MAX);
    put_line(&wrong, 0, 0, text);
    put_line(&wrong, 1, 1, text);
    put_line(&wrong, 2, 2, other); /* a known key that signed something else */
    assert_int_equal(release_verify(text, buf_str(&wrong), &keys, NULL), -ERR_UNAUTHENTICATED);
    AUTO_BUF under = BUF_INIT(RELEASE_SIGNATURES_MAX);
    put_line(&under, 0, 0, text);
    put_line(&under, RELEASE_KEYS, 1, text); /* under another's name */
    assert_int_equal(release_verify(text, buf_str(&under), &keys, NULL), -ERR_UNAUTHENTICATED);
}

static void test_signature_text(void **state)
{
    struct str text = STR(GOOD);
    (void)state;
    AUTO_BUF b = BUF_INIT((size_t)2 * RELEASE_SIGNATURES_MAX);
    put_line(&b, 0, 0, text);
    put_line(&b, 1, 1, text);
    struct str good = buf_str(&b);
    assert_int_equal(release_verify(text, good, &keys, NULL), 0);
    for (size_t n = 0; n < good.n; n++)
        assert_int_equal(release_verify(text, (struct str){good.p, n}, &keys, NULL), -ERR_UNAUTHENTICATED);
    AUTO_FREE char *upper = str_dup(good);
    upper[20] = 'A';
    assert_int_equal(release_verify(text, str_from(upper), &keys, NULL), -ERR_UNAUTHENTICATED);
    assert_int_equal(release_verify(text, STR("\n"), &keys, NULL), -ERR_UNAUTHENTICATED);
    /* Lines up to the limit, and one beyond. */
    for (size_t i = 2; i < RELEASE_SIGNATURE_LINES_MAX; i++)
        put_line(&b, RELEASE_KEYS, RELEASE_KEYS, text);
    assert_int_equal(release_verify(text, buf_str(&b), &keys, NULL), 0);
    put_line(&b, RELEASE_KEYS, RELEASE_KEYS, text);
    assert_int_equal(release_verify(text, buf_str(&b), &keys, NULL), -ERR_UNAUTHENTICATED);
}

static void test_follow(void **state)
{
    struct release r;
    (void)state;
    assert_int_equal(release_parse(STR(GOOD), &r, NULL), 0);
    assert_int_equal(release_may_follow(&r, STR("0.1.0"), 0, NULL), 0);
    assert_int_equal(release_may_follow(&r, STR("0.1.9"), 7, NULL), 0);
    assert_int_equal(release_may_follow(&r, STR("0.1.9"), 8, NULL), -ERR_PRECONDITION);
    assert_int_equal(release_may_follow(&r, STR("0.2.0-rc.1"), 7, NULL), 0);
    assert_int_equal(release_may_follow(&r, STR("0.2.0"), 7, NULL), 1);
    assert_int_equal(release_may_follow(&r, STR("0.2.1"), 0, NULL), -ERR_PRECONDITION);
    assert_int_equal(release_may_follow(&r, STR("0.0.9"), 0, NULL), -ERR_PRECONDITION);
    assert_int_equal(release_may_follow(&r, STR("x"), 0, NULL), -ERR_INVALID);
}

static void test_builtin(void **state)
{
    (void)state;
    size_t n = release_keys_builtin()->n;
    assert_true(n == 0 || n == RELEASE_KEYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions),          cmocka_unit_test(test_good),           cmocka_unit_test(test_bad),
        cmocka_unit_test(test_member_limits),     cmocka_unit_test(test_file_limit),     cmocka_unit_test(test_two_of_three),
        cmocka_unit_test(test_foreign_signatures), cmocka_unit_test(test_signature_text), cmocka_unit_test(test_follow),
        cmocka_unit_test(test_builtin),
    };
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
