/* SPDX-License-Identifier: Apache-2.0 */
/* Where an edge is, and which access tokens an agent keeps. The way through real ones: test/e2e/test_tunnel.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/mem.h"
#include "host/link/enroll_tunnel.h"
#include "host/link/tunnel.h"
#include "ident/cert.h"
#include "ident/jwt.h"

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *hostport;
    } cases[] = {
        {"https://davit.example.org", "davit.example.org:443"},
        {"https://davit.example.org/", "davit.example.org:443"},
        {" https://davit.example.org:8443 ", "davit.example.org:8443"},
        {"davit.example.org", "davit.example.org:443"},
        {"davit.example.org:8443", "davit.example.org:8443"},
        {"https://192.0.2.1", "192.0.2.1:443"},
        {"https://[2001:db8::1]", "[2001:db8::1]:443"},
        {"https://[2001:db8::1]:8443", "[2001:db8::1]:8443"},
        {"http://davit.example.org", NULL},
        {"https://davit.example.org/path", NULL},
        {"https://davit.example.org?x", NULL},
        {"https://user@davit.example.org", NULL},
        {"https://davit.example.org:0", NULL},
        {"https://davit.example.org:99999", NULL},
        {"https://", NULL},
        {"", NULL},
        {NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *got = NULL;
        struct err err = ERR_INIT;
        int rc = tunnel_edge_parse(cases[i].text, &got, &err);
        if (rc != (cases[i].hostport ? 0 : -(int)ERR_INVALID))
            fail_msg("%s: %d %s", cases[i].text, rc, got);
        if (cases[i].hostport)
            assert_string_equal(got, cases[i].hostport);
    }
}

static void test_roots_that_are_not_there(void **state)
{
    (void)state;
    struct tunnel_edge *e = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(tunnel_edge_new("https://localhost", "/nonexistent/roots.pem", &e, &err), -(int)ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, "the roots for the edge"));
    assert_null(e);
}

#define ID    "0a1b2c3d-0000-4000-8000-000000000001"
#define OTHER "0a1b2c3d-0000-4000-8000-000000000002"

/* req: CL-86 */
static void test_tokens_that_are_kept(void **state)
{
    (void)state;
    AUTO_KEY issuer = NULL;
    AUTO_KEY host = NULL;
    AUTO_KEY other = NULL;
    AUTO_BUF token = BUF_INIT(JWT_MAX);
    struct err err = ERR_INIT;
    struct jwt_claims c = {.subject = ID, .id = "00112233445566778899aabbccddeeff", .generation = 3}, got;
    usec_t now = clock_real() / USEC_SEC * USEC_SEC;
    assert_int_equal(key_generate(&issuer, &err), 0);
    assert_int_equal(key_generate(&host, &err), 0);
    assert_int_equal(key_generate(&other, &err), 0);
    c.issued = c.not_before = now;
    c.expires = now + USEC_HOUR;
    assert_int_equal(key_spki_hash(host, c.key_hash, &err), 0);
    if (jwt_make(issuer, &c, &token, &err) < 0)
        fail_msg("%s", err.msg);
    struct str t = buf_str(&token);
    assert_int_equal(tunnel_check_token(t, ID, host, 3, &got, &err), 0);
    assert_int_equal(got.generation, 3);
    assert_true(got.expires == c.expires);
    assert_int_equal(tunnel_check_token(t, ID, host, 4, &got, &err), -(int)ERR_DATA_LOSS);
    assert_int_equal(tunnel_check_token(t, OTHER, host, 3, &got, &err), -(int)ERR_DATA_LOSS);
    assert_int_equal(tunnel_check_token(t, ID, other, 3, &got, &err), -(int)ERR_DATA_LOSS);
    assert_int_equal(tunnel_check_token((struct str){t.p, t.n / 2}, ID, host, 3, &got, &err), -(int)ERR_DATA_LOSS);
    assert_int_equal(tunnel_check_token(STR(""), ID, host, 3, &got, &err), -(int)ERR_DATA_LOSS);
}

static void add_root(const struct key *key, struct buf *list)
{
    AUTO_CERT root = NULL;
    assert_int_equal(cert_make_root(key, "an edge", 1, &root, NULL), 0);
    assert_int_equal(cert_to_pem(root, list, NULL), 0);
}

static void add_roots(const struct key *issuer, const struct key *host, struct buf *roots, struct buf *others, struct buf *both)
{
    add_root(issuer, roots);
    add_root(host, others);
    add_root(host, both);
    add_root(issuer, both);
}

/* An answer to a recovery comes through the edge as it is: whoever ends TLS may have written it. Over a link it is the control plane's word. */
/* req: CL-86 */
static void test_grants(void **state)
{
    (void)state;
    AUTO_KEY issuer = NULL;
    AUTO_KEY host = NULL;
    AUTO_BUF token = BUF_INIT(JWT_MAX);
    AUTO_BUF roots = BUF_INIT(CERT_PEM_MAX);
    AUTO_BUF others = BUF_INIT(CERT_PEM_MAX);
    AUTO_BUF both = BUF_INIT(CERT_PEM_MAX);
    struct err err = ERR_INIT;
    struct jwt_claims c = {.subject = ID, .id = "00112233445566778899aabbccddeeff", .generation = 3}, got;
    Davit__Link__V1__Credential k = DAVIT__LINK__V1__CREDENTIAL__INIT;
    AUTO_BUF ret = BUF_INIT(CERT_PEM_MAX);
    usec_t now = clock_real() / USEC_SEC * USEC_SEC;
    assert_int_equal(key_generate(&issuer, &err), 0);
    assert_int_equal(key_generate(&host, &err), 0);
    add_roots(issuer, host, &roots, &others, &both);
    c.issued = c.not_before = now;
    c.expires = now + USEC_HOUR;
    assert_int_equal(key_spki_hash(host, c.key_hash, &err), 0);
    assert_int_equal(jwt_make(issuer, &c, &token, &err), 0);
    AUTO_FREE char *token_text = str_dup(buf_str(&token));
    AUTO_FREE char *roots_text = str_dup(buf_str(&roots));
    k.access_token = token_text;
    k.ca_pem = roots_text;
    struct tunnel_held h = {.server_id = ID, .key = host, .generation = 3, .now = now, .sealed = true, .roots_pem = buf_str(&roots)};
    assert_int_equal(tunnel_judge(&h, &k, &got, &ret, &err), 0);
    assert_int_equal(ret.len, roots.len);
    h.roots_pem = buf_str(&others); /* none of them is believed */
    assert_int_equal(tunnel_judge(&h, &k, &got, &ret, &err), -(int)ERR_DATA_LOSS);
    h.roots_pem = buf_str(&both);
    assert_int_equal(tunnel_judge(&h, &k, &got, &ret, &err), 0);
    h.generation = 4;
    assert_int_equal(tunnel_judge(&h, &k, &got, &ret, &err), -(int)ERR_DATA_LOSS);
    h.generation = 3;
    h.now = c.expires - TUNNEL_TOO_SOON;
    assert_int_equal(tunnel_judge(&h, &k, &got, &ret, &err), -(int)ERR_DATA_LOSS);
    h.now--;
    assert_int_equal(tunnel_judge(&h, &k, &got, &ret, &err), 0);
    k.ca_pem = token_text;
    assert_int_equal(tunnel_judge(&h, &k, &got, &ret, &err), -(int)ERR_DATA_LOSS);
    /* Not sealed: no roots, and neither a made-up generation of before nor a wrong clock of ours keeps out the true token. */
    h = (struct tunnel_held){.server_id = ID, .key = host, .generation = UINT32_MAX, .now = now + 30 * USEC_DAY};
    k.ca_pem = roots_text;
    buf_clear(&ret);
    assert_int_equal(tunnel_judge(&h, &k, &got, &ret, &err), 0);
    assert_int_equal(ret.len, 0);
    assert_int_equal(got.generation, 3);
    h.server_id = OTHER;
    assert_int_equal(tunnel_judge(&h, &k, &got, &ret, &err), -(int)ERR_DATA_LOSS);
    /* Tokens that live shorter than that: up to the last tenth. */
    c.expires = now + 20 * USEC_SEC;
    buf_clear(&token);
    assert_int_equal(jwt_make(issuer, &c, &token, &err), 0);
    k.access_token = token.data;
    h = (struct tunnel_held){.server_id = ID, .key = host, .generation = 3, .now = now + 17 * USEC_SEC, .sealed = true,
                             .roots_pem = buf_str(&roots)};
    assert_int_equal(tunnel_judge(&h, &k, &got, &ret, &err), 0);
    h.now += USEC_SEC;
    assert_int_equal(tunnel_judge(&h, &k, &got, &ret, &err), -(int)ERR_DATA_LOSS);
}

/* The answer to an enrolment comes as it is too: an edge that puts a root of its own beside that of the token gets nothing by it. */
/* req: CL-86 */
static void test_roots_of_an_enrolment(void **state)
{
    (void)state;
    AUTO_KEY issuer = NULL;
    AUTO_KEY edge = NULL;
    AUTO_BUF token = BUF_INIT(JWT_MAX);
    AUTO_BUF own = BUF_INIT(CERT_PEM_MAX);
    AUTO_BUF foreign = BUF_INIT(CERT_PEM_MAX);
    AUTO_BUF got = BUF_INIT(CERT_PEM_MAX);
    struct err err = ERR_INIT;
    struct jwt_claims c = {.subject = ID, .id = "00112233445566778899aabbccddeeff", .generation = 1};
    Davit__Link__V1__EnrollResponse a = DAVIT__LINK__V1__ENROLL_RESPONSE__INIT;
    struct join_token join = {.secret = NULL};
    assert_int_equal(key_generate(&issuer, &err), 0);
    assert_int_equal(key_generate(&edge, &err), 0);
    add_root(issuer, &own);
    add_root(edge, &foreign);
    assert_int_equal(key_spki_hash(issuer, join.pin, &err), 0);
    c.issued = c.not_before = clock_real() / USEC_SEC * USEC_SEC;
    c.expires = c.issued + USEC_HOUR;
    assert_int_equal(key_spki_hash(issuer, c.key_hash, &err), 0);
    assert_int_equal(jwt_make(issuer, &c, &token, &err), 0);
    AUTO_FREE char *id = str_dup(STR(ID));
    AUTO_FREE char *token_text = str_dup(buf_str(&token));
    a.server_id = id;
    a.access_token = token_text;
    for (unsigned i = 0; i < 4; i++) { /* alone, before it, behind it; the edge's alone */
        AUTO_FREE char *list = str_printf("%s%s%s", i == 2 || i == 3 ? buf_cstr(&foreign) : "", i < 3 ? buf_cstr(&own) : "",
                                          i == 1 ? buf_cstr(&foreign) : "");
        a.ca_pem = list;
        buf_clear(&got);
        assert_int_equal(enroll_tunnel_check(&a, &join, issuer, &got, &err), i < 3 ? 0 : -(int)ERR_DATA_LOSS);
        assert_true(i == 3 || str_eq(buf_str(&got), buf_str(&own)));
    }
    a.ca_pem = own.data;
    a.access_token = (char *)(uintptr_t)"";
    assert_int_equal(enroll_tunnel_check(&a, &join, issuer, &got, &err), -(int)ERR_DATA_LOSS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_addresses), cmocka_unit_test(test_roots_that_are_not_there),
                                       cmocka_unit_test(test_tokens_that_are_kept), cmocka_unit_test(test_grants),
                                       cmocka_unit_test(test_roots_of_an_enrolment)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
