/* SPDX-License-Identifier: Apache-2.0 */
/* Proofs: a digest that another implementation computes too, no two inputs with one digest, signatures, MACs, and who is the control plane. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "ident/cert.h"
#include "ident/pki_dir.h"
#include "ident/proof.h"

#define SERVER_ID "01234567-89ab-cdef-0123-456789abcdef"

struct fixture {
    char top[64];
    char *user, *control;
    struct key *key; /* of the control plane's leaf */
    struct buf chain, root;
    uint8_t pin[32], client[32], server[32], digest[32];
};

static int setup(void **state)
{
    static const char *const names[] = {"localhost"};
    struct fixture *f = calloc(1, sizeof(*f));
    (void)snprintf(f->top, sizeof(f->top), "/tmp/davit-proof-XXXXXX");
    assert_non_null(mkdtemp(f->top));
    f->user = str_printf("%s/user", f->top);
    f->control = str_printf("%s/control", f->top);
    f->chain = BUF_INIT(CERT_PEM_MAX);
    f->root = BUF_INIT(CERT_PEM_MAX);
    assert_int_equal(pki_user_init(f->user, NULL), 0);
    assert_int_equal(pki_control_prepare(f->control, NULL), 0);
    assert_int_equal(pki_user_sign(f->user, f->control, NULL), 0);
    assert_int_equal(pki_control_leaf(f->control, names, 1, NULL), 1);
    AUTO_FREE char *path = str_printf("%s/controlplane.key", f->control);
    assert_int_equal(key_load(path, &f->key, NULL), 0);
    assert_int_equal(pki_read(f->control, "controlplane.crt", &f->chain, NULL), 0);
    assert_int_equal(pki_read(f->control, "root.crt", &f->root, NULL), 0);
    assert_int_equal(buf_append_str(&f->chain, buf_str(&f->root)), 0);
    assert_int_equal(pki_pin(f->control, f->pin, NULL), 0);
    memset(f->client, 1, 32);
    memset(f->server, 2, 32);
    proof_digest("challenge", f->client, f->server, &STR("enroll"), 1, f->digest);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(fd_remove_tree(f->top, NULL), 0);
    (void)key_free(f->key);
    buf_release(&f->chain);
    buf_release(&f->root);
    free(f->user);
    free(f->control);
    free(f);
    return 0;
}

/* hashlib.sha256(b"davit proof 1\0enroll\0" + (n32 + b"\1" * 32) + (n32 + b"\2" * 32) + (3).to_bytes(8, "big") + b"abc") with n32 the length */
static void test_digest_is_the_written_one(void **state)
{
    (void)state;
    uint8_t client[32], server[32], digest[32];
    char hex[65];
    memset(client, 1, 32);
    memset(server, 2, 32);
    proof_digest("enroll", client, server, &STR("abc"), 1, digest);
    str_hex(digest, 32, hex);
    assert_string_equal(hex, "decc90c153501d2d0fe47f58e6c667f5e2835e579381c591d9180f3335080ebb");
    AUTO_SECRET key = proof_mac_key(STR("0123456789abcdef0123456789abcdef"));
    uint8_t mac[32];
    proof_mac(key, digest, mac);
    str_hex(mac, 32, hex);
    assert_string_equal(hex, "f74ba57ecc7ccd7a14998ba8d5f710b7e871bf20c5c17f6cedf81c934dbd8215");
}

static void test_digest_tells_inputs_apart(void **state)
{
    const struct fixture *f = *state;
    uint8_t d[7][32];
    const struct str ab_c[] = {STR("ab"), STR("c")}, a_bc[] = {STR("a"), STR("bc")}, abc[] = {STR("abc"), STR("")};
    proof_digest("enroll", f->client, f->server, ab_c, 2, d[0]);
    proof_digest("enroll", f->client, f->server, a_bc, 2, d[1]);
    proof_digest("enroll", f->client, f->server, abc, 1, d[2]);
    proof_digest("enroll", f->client, f->server, abc, 2, d[3]);
    proof_digest("recover", f->client, f->server, abc, 1, d[4]);
    proof_digest("enroll", f->server, f->client, abc, 1, d[5]);
    proof_digest("enroll", f->client, f->server, NULL, 0, d[6]);
    for (unsigned i = 0; i < 7; i++)
        for (unsigned k = 0; k < i; k++)
            assert_memory_not_equal(d[i], d[k], 32);
}

static void test_signature(void **state)
{
    const struct fixture *f = *state;
    AUTO_KEY key = NULL;
    AUTO_KEY other = NULL;
    AUTO_BUF sig = BUF_INIT(PROOF_SIGNATURE_MAX), spki = BUF_INIT(PROOF_SPKI_MAX), foreign = BUF_INIT(PROOF_SPKI_MAX);
    uint8_t changed[32];
    assert_int_equal(key_generate(&key, NULL), 0);
    assert_int_equal(key_generate(&other, NULL), 0);
    assert_int_equal(key_spki(key, &spki, NULL), 0);
    assert_int_equal(key_spki(other, &foreign, NULL), 0);
    assert_int_equal(proof_sign(key, f->digest, &sig, NULL), 0);
    assert_int_equal(proof_verify(buf_str(&spki), f->digest, buf_str(&sig), NULL), 0);
    memcpy(changed, f->digest, 32);
    changed[31] ^= 1;
    assert_int_equal(proof_verify(buf_str(&spki), changed, buf_str(&sig), NULL), -ERR_UNAUTHENTICATED);
    assert_int_equal(proof_verify(buf_str(&foreign), f->digest, buf_str(&sig), NULL), -ERR_UNAUTHENTICATED);
    assert_int_equal(proof_verify(STR(""), f->digest, buf_str(&sig), NULL), -ERR_UNAUTHENTICATED);
    assert_int_equal(proof_verify(STR("no key"), f->digest, buf_str(&sig), NULL), -ERR_UNAUTHENTICATED);
    assert_int_equal(proof_verify(buf_str(&spki), f->digest, STR(""), NULL), -ERR_UNAUTHENTICATED);
    struct str cut = buf_str(&sig);
    cut.n--;
    assert_int_equal(proof_verify(buf_str(&spki), f->digest, cut, NULL), -ERR_UNAUTHENTICATED);
    struct str short_key = buf_str(&spki);
    short_key.n--;
    assert_int_equal(proof_verify(short_key, f->digest, buf_str(&sig), NULL), -ERR_UNAUTHENTICATED);
    AUTO_BUF longer = BUF_INIT(PROOF_SPKI_MAX + 8);
    assert_int_equal(buf_append_str(&longer, buf_str(&spki)), 0);
    assert_int_equal(buf_append_byte(&longer, 0), 0);
    assert_int_equal(proof_verify(buf_str(&longer), f->digest, buf_str(&sig), NULL), -ERR_UNAUTHENTICATED);
    AUTO_BUF small = BUF_INIT(PROOF_SIGNATURE_MAX - 1);
    assert_int_equal(proof_sign(key, f->digest, &small, NULL), -ERR_EXHAUSTED);
}

static void test_mac(void **state)
{
    const struct fixture *f = *state;
    AUTO_SECRET key = proof_mac_key(STR("secret"));
    AUTO_SECRET other = proof_mac_key(STR("secreT"));
    uint8_t mac[32], changed[32];
    proof_mac(key, f->digest, mac);
    struct str m = {(const char *)mac, 32};
    assert_true(proof_mac_holds(key, f->digest, m));
    assert_false(proof_mac_holds(other, f->digest, m));
    memcpy(changed, f->digest, 32);
    changed[0] ^= 0x80;
    assert_false(proof_mac_holds(key, changed, m));
    m.n = 31;
    assert_false(proof_mac_holds(key, f->digest, m));
    assert_false(proof_mac_holds(key, f->digest, STR("")));
}

static int judge(const struct fixture *f, struct str chain, const struct proof_trust *trust, usec_t when,
                 const struct key *signer, struct buf *root, struct err *err)
{
    AUTO_BUF sig = BUF_INIT(PROOF_SIGNATURE_MAX);
    assert_int_equal(proof_sign(signer, f->digest, &sig, NULL), 0);
    return proof_control_plane(chain, trust, when, f->digest, buf_str(&sig), root, err);
}

static void test_control_plane(void **state)
{
    struct fixture *f = *state;
    AUTO_BUF root = BUF_INIT(CERT_PEM_MAX), none = BUF_INIT(CERT_PEM_MAX);
    AUTO_KEY other = NULL;
    uint8_t wrong[32] = {0};
    usec_t now = clock_real();
    const struct proof_trust by_pin = {.pin = f->pin}, by_root = {.roots_pem = buf_str(&f->root)}, not_ours = {.pin = wrong},
                             nobody = {0};
    assert_int_equal(judge(f, buf_str(&f->chain), &by_pin, now, f->key, &root, NULL), 0);
    assert_int_equal(root.len, f->root.len);
    assert_memory_equal(root.data, f->root.data, root.len);
    assert_int_equal(judge(f, buf_str(&f->chain), &by_root, now, f->key, &none, NULL), 0);
    assert_int_equal(none.len, 0);
    assert_int_equal(judge(f, buf_str(&f->chain), &not_ours, now, f->key, NULL, NULL), -ERR_UNAUTHENTICATED);
    assert_int_equal(judge(f, buf_str(&f->chain), &nobody, now, f->key, NULL, NULL), -ERR_UNAUTHENTICATED);
    assert_int_equal(judge(f, STR(""), &by_pin, now, f->key, NULL, NULL), -ERR_UNAUTHENTICATED);
    assert_int_equal(judge(f, buf_str(&f->root), &by_pin, now, f->key, NULL, NULL), -ERR_UNAUTHENTICATED);
    assert_int_equal(judge(f, buf_str(&f->chain), &by_pin, now + 100 * USEC_DAY, f->key, NULL, NULL), -ERR_UNAUTHENTICATED);
    assert_int_equal(judge(f, buf_str(&f->chain), &by_pin, now - USEC_DAY, f->key, NULL, NULL), -ERR_UNAUTHENTICATED);
    assert_int_equal(key_generate(&other, NULL), 0);
    assert_int_equal(judge(f, buf_str(&f->chain), &by_pin, now, other, NULL, NULL), -ERR_UNAUTHENTICATED);
}

/* An enrolled server has a certificate of the same root: it is not the control plane. */
static void test_a_server_is_not_the_control_plane(void **state)
{
    struct fixture *f = *state;
    AUTO_KEY key = NULL;
    AUTO_BUF csr = BUF_INIT(CSR_MAX), chain = BUF_INIT(CERT_PEM_MAX), spki = BUF_INIT(256);
    struct pki_issued issued;
    const struct proof_trust trust = {.pin = f->pin};
    assert_int_equal(key_generate(&key, NULL), 0);
    assert_int_equal(csr_make(key, "x", &csr, NULL), 0);
    assert_int_equal(pki_control_sign_agent(f->control, buf_str(&csr), SERVER_ID, 1, USEC_DAY, &chain, &issued, NULL), 0);
    assert_int_equal(buf_append_str(&chain, buf_str(&f->root)), 0);
    assert_int_equal(judge(f, buf_str(&chain), &trust, clock_real(), key, NULL, NULL), -ERR_UNAUTHENTICATED);
    AUTO_BUF sig = BUF_INIT(PROOF_SIGNATURE_MAX);
    assert_int_equal(proof_sign(key, f->digest, &sig, NULL), 0);
    assert_int_equal(proof_verify_cert(buf_str(&chain), f->digest, buf_str(&sig), NULL), 0);
    assert_int_equal(proof_verify_cert(buf_str(&f->chain), f->digest, buf_str(&sig), NULL), -ERR_UNAUTHENTICATED);
    assert_int_equal(proof_verify_cert(STR("none"), f->digest, buf_str(&sig), NULL), -ERR_UNAUTHENTICATED);
    assert_int_equal(cert_pem_spki(buf_str(&chain), &spki, NULL), 0);
    assert_int_equal(proof_verify(buf_str(&spki), f->digest, buf_str(&sig), NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digest_is_the_written_one),
        cmocka_unit_test(test_digest_tells_inputs_apart),
        cmocka_unit_test(test_signature),
        cmocka_unit_test(test_mac),
        cmocka_unit_test(test_control_plane),
        cmocka_unit_test(test_a_server_is_not_the_control_plane),
    };
    return cmocka_run_group_tests_name("proof", tests, setup, teardown);
}
