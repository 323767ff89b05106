/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, requests, certificates: what is issued verifies, what was touched or comes from elsewhere does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "ident/cert.h"

#define AGENT_URI "davit://server/01234567-89ab-cdef-0123-456789abcdef"

/* A root with the intermediates of both kinds. */
struct authority {
    struct key *root_key, *server_key, *agents_key;
    struct cert *root, *server, *agents;
    struct buf roots;
};

static struct csr *request(const struct key *key)
{
    AUTO_BUF der = BUF_INIT(CSR_MAX);
    struct csr *csr = NULL;
    assert_int_equal(csr_make(key, "whatever it says", &der, NULL), 0);
    assert_int_equal(csr_parse(buf_str(&der), &csr, NULL), 0);
    return csr;
}

static struct cert *intermediate(const struct authority *a, const struct key *key, const char *host, unsigned usage)
{
    AUTO_CSR csr = request(key);
    struct cert *cert = NULL;
    struct ca_spec spec = {"CA", host, usage, CERT_CA_DAYS, NULL};
    assert_int_equal(cert_sign_intermediate(a->root_key, a->root, csr, &spec, &cert, NULL), 0);
    return cert;
}

static void authority_make(struct authority *a)
{
    assert_int_equal(key_generate(&a->root_key, NULL), 0);
    assert_int_equal(key_generate(&a->server_key, NULL), 0);
    assert_int_equal(key_generate(&a->agents_key, NULL), 0);
    assert_int_equal(cert_make_root(a->root_key, "root", CERT_ROOT_DAYS, &a->root, NULL), 0);
    a->server = intermediate(a, a->server_key, "controlplane", CERT_CLIENT | CERT_SERVER);
    a->agents = intermediate(a, a->agents_key, "server", CERT_CLIENT);
    buf_init(&a->roots, CERT_PEM_MAX);
    assert_int_equal(cert_to_pem(a->root, &a->roots, NULL), 0);
}

static void authority_release(struct authority *a)
{
    (void)key_free(a->root_key), (void)key_free(a->server_key), (void)key_free(a->agents_key);
    (void)cert_free(a->root), (void)cert_free(a->server), (void)cert_free(a->agents);
    buf_release(&a->roots);
}

static int setup(void **state)
{
    struct authority *a = calloc(1, sizeof(*a));
    authority_make(a);
    *state = a;
    return 0;
}

static int teardown(void **state)
{
    clock_fake(USEC_INFINITY, USEC_INFINITY);
    authority_release(*state);
    free(*state);
    return 0;
}

static usec_t days(unsigned n)
{
    return clock_real() + n * USEC_DAY;
}

/* Issues a leaf for a fresh key and appends leaf and issuer to @pem. */
static int issue(const struct key *ca_key, const struct cert *ca, const struct leaf_spec *spec, struct buf *pem, struct err *err)
{
    AUTO_KEY key = NULL;
    AUTO_CERT leaf = NULL;
    assert_int_equal(key_generate(&key, NULL), 0);
    AUTO_CSR csr = request(key);
    int rc = cert_sign_leaf(ca_key, ca, csr, spec, &leaf, err);
    if (rc < 0)
        return rc;
    assert_true(cert_fits_key(leaf, key));
    assert_false(cert_fits_key(leaf, ca_key));
    assert_int_equal(cert_to_pem(leaf, pem, NULL), 0);
    assert_int_equal(cert_to_pem(ca, pem, NULL), 0);
    return 0;
}

static struct leaf_spec agent_spec(void)
{
    return (struct leaf_spec){.common_name = "agent", .uri = AGENT_URI, .usage = CERT_CLIENT, .not_after = days(90)};
}

static void test_agent_leaf(void **state)
{
    struct authority *a = *state;
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    struct leaf_spec spec = agent_spec();
    struct cert_info info;
    struct err err = ERR_INIT;
    assert_int_equal(issue(a->agents_key, a->agents, &spec, &pem, NULL), 0);
    assert_int_equal(cert_verify_chain(buf_str(&pem), buf_str(&a->roots), CERT_CLIENT, clock_real(), &info, &err), 0);
    assert_string_equal(info.uri, AGENT_URI);
    assert_string_equal(info.common_name, "agent");
    assert_int_equal(info.usage, CERT_CLIENT);
    assert_false(info.ca);
    assert_in_range(strlen(info.serial), 24, 32);
    assert_true(info.not_before <= clock_real() - USEC_HOUR + USEC_SEC);
    assert_true(info.not_after > days(89) && info.not_after <= days(90));
    assert_int_equal(cert_verify_chain(buf_str(&pem), buf_str(&a->roots), CERT_SERVER, clock_real(), NULL, &err), -ERR_UNAUTHENTICATED);
    assert_int_equal(cert_verify_chain(buf_str(&pem), buf_str(&a->roots), 0, days(91), NULL, &err), -ERR_UNAUTHENTICATED);
    assert_non_null(strstr(err.msg, "expired"));
    assert_int_equal(cert_verify_chain(buf_str(&pem), buf_str(&a->roots), 0, clock_real() - 2 * USEC_HOUR, NULL, &err), -ERR_UNAUTHENTICATED);
}

static void test_control_plane_leaf(void **state)
{
    struct authority *a = *state;
    static const char *const names[] = {"davit.example.org", "localhost", "192.0.2.7", "2001:db8::1"};
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    AUTO_CERT leaf = NULL;
    struct leaf_spec spec = {"cp", "davit://controlplane", CERT_CLIENT | CERT_SERVER, names, 4, days(90), NULL};
    struct err err = ERR_INIT;
    assert_int_equal(issue(a->server_key, a->server, &spec, &pem, NULL), 0);
    assert_int_equal(cert_verify_chain(buf_str(&pem), buf_str(&a->roots), CERT_SERVER, clock_real(), NULL, &err), 0);
    assert_int_equal(cert_verify_chain(buf_str(&pem), buf_str(&a->roots), CERT_CLIENT, clock_real(), NULL, &err), 0);
    assert_int_equal(cert_from_pem(buf_str(&pem), &leaf, NULL), 0);
    assert_true(cert_has_names(leaf, "davit://controlplane", names, 4));
    assert_false(cert_has_names(leaf, "davit://controlplane", names, 3));
    assert_false(cert_has_names(leaf, "davit://cli", names, 4));
    assert_false(cert_has_names(leaf, "davit://controlplane", (const char *const[]){"a", "b", "c", "d"}, 4));
}

static void test_wrong_authority(void **state)
{
    struct authority *a = *state;
    struct authority other = {0};
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    struct leaf_spec spec = agent_spec();
    struct err err = ERR_INIT;
    authority_make(&other);
    assert_int_equal(issue(other.agents_key, other.agents, &spec, &pem, NULL), 0);
    assert_int_equal(cert_verify_chain(buf_str(&pem), buf_str(&a->roots), CERT_CLIENT, clock_real(), NULL, &err), -ERR_UNAUTHENTICATED);
    /* The same with an intermediate of ours in front of the foreign one. */
    assert_int_equal(cert_to_pem(a->agents, &pem, NULL), 0);
    assert_int_equal(cert_verify_chain(buf_str(&pem), buf_str(&a->roots), CERT_CLIENT, clock_real(), NULL, &err), -ERR_UNAUTHENTICATED);
    /* A key that is not the issuer's. */
    pem.len = 0;
    assert_int_equal(issue(other.agents_key, a->agents, &spec, &pem, &err), -ERR_PRECONDITION);
    authority_release(&other);
}

/* Who holds the key of an intermediate can mint identities of its own kind only. req: CW-10 */
static void test_audiences_do_not_mix(void **state)
{
    struct authority *a = *state;
    static const char *const uris[] = {"davit://cli", "davit://controlplane", AGENT_URI};
    for (size_t i = 0; i < ARRAY_LEN(uris); i++) {
        AUTO_BUF by_agents = BUF_INIT(CERT_PEM_MAX);
        AUTO_BUF by_server = BUF_INIT(CERT_PEM_MAX);
        struct leaf_spec spec = {.common_name = "x", .uri = uris[i], .usage = CERT_CLIENT, .not_after = days(1)};
        assert_int_equal(issue(a->agents_key, a->agents, &spec, &by_agents, NULL), 0);
        assert_int_equal(issue(a->server_key, a->server, &spec, &by_server, NULL), 0);
        assert_int_equal(cert_verify_chain(buf_str(&by_agents), buf_str(&a->roots), 0, clock_real(), NULL, NULL),
                         i == 2 ? 0 : -ERR_UNAUTHENTICATED);
        assert_int_equal(cert_verify_chain(buf_str(&by_server), buf_str(&a->roots), 0, clock_real(), NULL, NULL),
                         i == 1 ? 0 : -ERR_UNAUTHENTICATED);
    }
}

static void test_leaf_signs_nothing(void **state)
{
    struct authority *a = *state;
    AUTO_KEY key = NULL;
    AUTO_KEY second = NULL;
    AUTO_CERT leaf = NULL;
    AUTO_CERT below = NULL;
    struct leaf_spec spec = agent_spec();
    assert_int_equal(key_generate(&key, NULL), 0);
    assert_int_equal(key_generate(&second, NULL), 0);
    AUTO_CSR csr = request(key);
    AUTO_CSR csr2 = request(second);
    assert_int_equal(cert_sign_leaf(a->agents_key, a->agents, csr, &spec, &leaf, NULL), 0);
    assert_int_equal(cert_sign_leaf(key, leaf, csr2, &spec, &below, NULL), -ERR_PRECONDITION);
    /* Nor does an intermediate make another one that verifies: its path length is 0. */
    struct ca_spec ca = {"another CA", "server", CERT_CLIENT, 1, NULL};
    AUTO_CERT deep = NULL;
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    assert_int_equal(cert_sign_intermediate(a->agents_key, a->agents, csr, &ca, &deep, NULL), 0);
    assert_int_equal(issue(key, deep, &spec, &pem, NULL), 0);
    assert_int_equal(cert_to_pem(a->agents, &pem, NULL), 0);
    assert_int_equal(cert_verify_chain(buf_str(&pem), buf_str(&a->roots), 0, clock_real(), NULL, NULL), -ERR_UNAUTHENTICATED);
}

static void test_spec_is_checked(void **state)
{
    struct authority *a = *state;
    static const char *const bad[] = {"UPPER.example", "a..b", ".a", "a.", "", "*.example.org", "a b", "a,DNS:b", "-a", "1.2.3.4.5/8"};
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    struct err err = ERR_INIT;
    struct leaf_spec good = agent_spec(), spec = good;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        spec.names = &bad[i];
        spec.n_names = 1;
        assert_int_equal(issue(a->agents_key, a->agents, &spec, &pem, &err), -ERR_INVALID);
    }
    const char *many[CERT_SAN_MAX + 1];
    for (size_t i = 0; i < ARRAY_LEN(many); i++)
        many[i] = "a.example";
    spec.names = many;
    spec.n_names = CERT_SAN_MAX + 1;
    assert_int_equal(issue(a->agents_key, a->agents, &spec, &pem, &err), -ERR_INVALID);
    spec.n_names = CERT_SAN_MAX;
    assert_int_equal(issue(a->agents_key, a->agents, &spec, &pem, &err), 0);
    static const char *const uris[] = {"", "davit://", "http://x", "davit://Server/x", "davit://server/x,y"};
    spec = good;
    for (size_t i = 0; i < ARRAY_LEN(uris); i++) {
        spec.uri = uris[i];
        assert_int_equal(issue(a->agents_key, a->agents, &spec, &pem, &err), -ERR_INVALID);
    }
    spec = good, spec.usage = 0;
    assert_int_equal(issue(a->agents_key, a->agents, &spec, &pem, &err), -ERR_INVALID);
    spec = good, spec.common_name = "12345678901234567890123456789012345678901234567890123456789012345";
    assert_int_equal(issue(a->agents_key, a->agents, &spec, &pem, &err), -ERR_INVALID);
    spec = good, spec.not_after = clock_real() - 1;
    assert_int_equal(issue(a->agents_key, a->agents, &spec, &pem, &err), -ERR_INVALID);
}

static void test_leaf_ends_with_issuer(void **state)
{
    struct authority *a = *state;
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    AUTO_CERT leaf = NULL;
    struct cert_info ca, info;
    struct leaf_spec spec = agent_spec();
    spec.not_after = days(CERT_CA_DAYS + 100);
    assert_int_equal(issue(a->agents_key, a->agents, &spec, &pem, NULL), 0);
    assert_int_equal(cert_from_pem(buf_str(&pem), &leaf, NULL), 0);
    assert_int_equal(cert_info(leaf, &info, NULL), 0);
    assert_int_equal(cert_info(a->agents, &ca, NULL), 0);
    assert_true(info.not_after == ca.not_after);
    assert_true(ca.ca);
    clock_fake(clock_mono(), days(CERT_CA_DAYS + 1));
    spec.not_after = days(10);
    struct err err = ERR_INIT;
    assert_int_equal(issue(a->agents_key, a->agents, &spec, &pem, &err), -ERR_PRECONDITION);
    assert_non_null(strstr(err.msg, "expired"));
}

static void test_csr_tampered(void **state)
{
    (void)state;
    AUTO_KEY key = NULL;
    AUTO_BUF der = BUF_INIT(CSR_MAX);
    struct csr *csr = NULL;
    uint8_t own[SPKI_HASH_SIZE], asked[SPKI_HASH_SIZE];
    assert_int_equal(key_generate(&key, NULL), 0);
    assert_int_equal(csr_make(key, "me", &der, NULL), 0);
    assert_int_equal(csr_parse(buf_str(&der), &csr, NULL), 0);
    assert_int_equal(key_spki_hash(key, own, NULL), 0);
    assert_int_equal(csr_spki_hash(csr, asked, NULL), 0);
    assert_memory_equal(own, asked, sizeof(own));
    csr = csr_free(csr);
    /* Any bit of any byte, at the least one per byte. */
    for (size_t i = 0; i < der.len; i++) {
        der.data[i] ^= (char)(1 << (i % 8));
        assert_int_equal(csr_parse(buf_str(&der), &csr, NULL), -ERR_INVALID);
        assert_null(csr);
        der.data[i] ^= (char)(1 << (i % 8));
    }
    for (size_t n = 0; n < der.len; n++)
        assert_int_equal(csr_parse((struct str){der.data, n}, &csr, NULL), -ERR_INVALID);
    assert_int_equal(buf_append_byte(&der, 0), 0);
    struct err err = ERR_INIT;
    assert_int_equal(csr_parse(buf_str(&der), &csr, &err), -ERR_INVALID);
    assert_non_null(strstr(err.msg, "follow"));
    AUTO_FREE char *big = calloc(1, CSR_MAX + 1);
    assert_int_equal(csr_parse((struct str){big, CSR_MAX + 1}, &csr, &err), -ERR_INVALID);
    assert_non_null(strstr(err.msg, "8193"));
}

/* Signs a request with a key of any kind, which our own csr_make cannot. */
static int parse_for(EVP_PKEY *pkey, const EVP_MD *digest, struct err *err)
{
    unsigned char *der = NULL;
    struct csr *csr = NULL;
    X509_REQ *req = X509_REQ_new();
    assert_int_equal(X509_REQ_set_pubkey(req, pkey), 1);
    assert_true(X509_REQ_sign(req, pkey, digest) > 0);
    int n = i2d_X509_REQ(req, &der);
    int rc = csr_parse((struct str){(const char *)der, (size_t)n}, &csr, err);
    (void)csr_free(csr);
    OPENSSL_free(der);
    X509_REQ_free(req);
    EVP_PKEY_free(pkey);
    return rc;
}

static void test_csr_key_kinds(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    assert_int_equal(parse_for(EVP_EC_gen("P-256"), EVP_sha256(), &err), 0);
    assert_int_equal(parse_for(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), NULL, &err), 0);
    assert_int_equal(parse_for(EVP_EC_gen("P-384"), EVP_sha256(), &err), -ERR_INVALID);
    assert_int_equal(parse_for(EVP_EC_gen("secp256k1"), EVP_sha256(), &err), -ERR_INVALID);
    assert_int_equal(parse_for(EVP_RSA_gen(2048), EVP_sha256(), &err), -ERR_INVALID);
    assert_non_null(strstr(err.msg, "P-256"));
}

static void test_bad_pem(void **state)
{
    struct authority *a = *state;
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    struct leaf_spec spec = agent_spec();
    struct cert *cert = NULL;
    assert_int_equal(issue(a->agents_key, a->agents, &spec, &pem, NULL), 0);
    static const char *const bad[] = {"", "x", "-----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                                      "-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,"
                                      "00112233445566778899AABBCCDDEEFF\n\nAAAA\n-----END CERTIFICATE-----\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(cert_from_pem(str_from(bad[i]), &cert, NULL), -ERR_INVALID);
        assert_int_equal(cert_verify_chain(str_from(bad[i]), buf_str(&a->roots), 0, clock_real(), NULL, NULL), -ERR_UNAUTHENTICATED);
        assert_int_equal(cert_verify_chain(buf_str(&pem), str_from(bad[i]), 0, clock_real(), NULL, NULL), -ERR_UNAUTHENTICATED);
    }
    /* One certificate too many. */
    while (pem.len < 4096)
        assert_int_equal(cert_to_pem(a->agents, &pem, NULL), 0);
    assert_int_equal(cert_verify_chain(buf_str(&pem), buf_str(&a->roots), 0, clock_real(), NULL, NULL), -ERR_UNAUTHENTICATED);
}

static void test_key_files(void **state)
{
    (void)state;
    char dir[] = "/tmp/davit-key-XXXXXX";
    assert_non_null(mkdtemp(dir));
    AUTO_FREE char *path = str_printf("%s/x.key", dir);
    AUTO_KEY key = NULL;
    AUTO_KEY back = NULL;
    AUTO_KEY third = NULL;
    AUTO_BUF bytes = BUF_INIT(KEY_PEM_MAX);
    struct stat st;
    struct err err = ERR_INIT;
    uint8_t a[SPKI_HASH_SIZE], b[SPKI_HASH_SIZE];
    assert_int_equal(key_load(path, &key, &err), -ERR_NOT_FOUND);
    assert_int_equal(key_load_or_make(path, &key, &err), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(fd_read_file(path, &bytes, NULL), 0);
    assert_true(str_starts(buf_str(&bytes), STR("-----BEGIN PRIVATE KEY-----\n")));
    assert_int_equal(key_load_or_make(path, &back, &err), 0);
    assert_int_equal(key_spki_hash(key, a, NULL), 0);
    assert_int_equal(key_spki_hash(back, b, NULL), 0);
    assert_memory_equal(a, b, sizeof(a));
    assert_int_equal(key_save(key, path, &err), -ERR_EXISTS);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(key_load(path, &third, &err), -ERR_DENIED);
    assert_non_null(strstr(err.hint, "chmod 600"));
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(truncate(path, 60), 0);
    assert_int_equal(key_load_or_make(path, &third, &err), -ERR_INVALID);
    assert_null(third);
    assert_int_equal(key_from_pem(STR("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"), &third, &err), -ERR_INVALID);
    assert_int_equal(fd_remove_tree(dir, NULL), 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_agent_leaf), T(test_control_plane_leaf), T(test_wrong_authority), T(test_audiences_do_not_mix), T(test_leaf_signs_nothing),
        T(test_spec_is_checked), T(test_leaf_ends_with_issuer), T(test_csr_tampered), T(test_csr_key_kinds), T(test_bad_pem), T(test_key_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
