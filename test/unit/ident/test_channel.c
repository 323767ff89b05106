/* SPDX-License-Identifier: Apache-2.0 */
/* The channel of tunnel mode: both ends meet, and what an edge between them may try does not work: other keys, other certificates, the same
 * proof again, boxes that are changed, repeated, left out, turned around or cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "base/fd.h"
#include "ident/cert.h"
#include "ident/channel.h"
#include "ident/pki_dir.h"

#define SERVER "01234567-89ab-cdef-0123-456789abcdef"
#define OTHER  "11234567-89ab-cdef-0123-456789abcdef"
#define TOKEN  STR("the access token")

static struct {
    char top[64];
    struct key *leaf, *host;
    struct buf chain, spki;
    uint8_t pin[32];
} f;

static int setup(void **state)
{
    static const char *const names[] = {"localhost"};
    (void)state;
    (void)snprintf(f.top, sizeof(f.top), "/tmp/davit-channel-XXXXXX");
    assert_non_null(mkdtemp(f.top));
    AUTO_FREE char *user = str_printf("%s/user", f.top);
    AUTO_FREE char *control = str_printf("%s/control", f.top);
    AUTO_FREE char *path = str_printf("%s/controlplane.key", control);
    f.chain = BUF_INIT(CERT_PEM_MAX);
    f.spki = BUF_INIT(PROOF_SPKI_MAX);
    assert_int_equal(pki_user_init(user, NULL), 0);
    assert_int_equal(pki_control_prepare(control, NULL), 0);
    assert_int_equal(pki_user_sign(user, control, NULL), 0);
    assert_int_equal(pki_control_leaf(control, names, 1, NULL), 1);
    assert_int_equal(key_load(path, &f.leaf, NULL), 0);
    assert_int_equal(key_generate(&f.host, NULL), 0);
    assert_int_equal(key_spki(f.host, &f.spki, NULL), 0);
    assert_int_equal(pki_read(control, "controlplane.crt", &f.chain, NULL), 0);
    assert_int_equal(pki_read(control, "root.crt", &f.chain, NULL), 0);
    assert_int_equal(pki_pin(control, f.pin, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(fd_remove_tree(f.top, NULL), 0);
    f.leaf = key_free(f.leaf);
    f.host = key_free(f.host);
    buf_release(&f.chain);
    buf_release(&f.spki);
    return 0;
}

/* A handshake, with what an edge makes of it. */
struct meeting {
    struct channel *agent, *control;
    struct buf challenge, proof;
};

static void meet(struct meeting *m, const char *seen_id)
{
    *m = (struct meeting){.challenge = BUF_INIT(PROOF_SIGNATURE_MAX), .proof = BUF_INIT(PROOF_SIGNATURE_MAX)};
    assert_int_equal(channel_new(CHANNEL_AGENT, SERVER, &m->agent, NULL), 0);
    assert_int_equal(channel_new(CHANNEL_CONTROL, seen_id, &m->control, NULL), 0);
}

static void part(struct meeting *m)
{
    m->agent = channel_free(m->agent);
    m->control = channel_free(m->control);
    buf_release(&m->challenge);
    buf_release(&m->proof);
}

static struct channel_peer hello_of(const struct channel *ch)
{
    return (struct channel_peer){channel_ephemeral(ch), channel_nonce(ch)};
}

static int challenge(struct meeting *m)
{
    struct channel_peer agent = hello_of(m->agent);
    return channel_challenge(m->control, &agent, buf_str(&f.chain), f.leaf, &m->challenge, NULL);
}

static int challenged(struct meeting *m)
{
    struct channel_peer control = hello_of(m->control);
    const struct proof_trust trust = {.pin = f.pin};
    return channel_challenged(m->agent, &control, buf_str(&f.chain), buf_str(&m->challenge), &trust, clock_real(), NULL);
}

static int prove(struct meeting *m)
{
    return channel_prove(m->agent, f.host, TOKEN, &m->proof, NULL);
}

static int proved(struct meeting *m)
{
    return channel_proved(m->control, buf_str(&f.spki), TOKEN, buf_str(&m->proof), NULL);
}

static void open_both(struct meeting *m)
{
    meet(m, SERVER);
    assert_int_equal(challenge(m), 0);
    assert_int_equal(challenged(m), 0);
    assert_false(channel_is_open(m->agent));
    assert_int_equal(prove(m), 0);
    assert_int_equal(proved(m), 0);
    assert_true(channel_is_open(m->agent) && channel_is_open(m->control));
}

static void box(struct channel *ch, struct str plain, struct buf *out)
{
    buf_clear(out);
    assert_int_equal(channel_seal(ch, plain, out, NULL), 0);
    assert_int_equal(out->len, plain.n + CHANNEL_TAG_SIZE);
}

static void test_both_ways(void **state)
{
    (void)state;
    struct meeting m;
    AUTO_BUF sealed = BUF_INIT(CHANNEL_PLAIN_MAX + CHANNEL_TAG_SIZE), plain = BUF_INIT(CHANNEL_PLAIN_MAX + 1);
    AUTO_FREE char *large = calloc(1, CHANNEL_PLAIN_MAX + 1);
    open_both(&m);
    for (unsigned i = 0; i < 300; i++) {
        struct channel *from = i % 3 ? m.agent : m.control, *to = i % 3 ? m.control : m.agent;
        AUTO_FREE char *text = str_printf("message %u", i);
        box(from, i % 10 ? str_from(text) : STR(""), &sealed);
        assert_null(memmem(sealed.data, sealed.len, "message", 7));
        buf_clear(&plain);
        assert_int_equal(channel_unseal(to, buf_str(&sealed), &plain, NULL), 0);
        assert_true(str_eq(buf_str(&plain), i % 10 ? str_from(text) : STR("")));
    }
    /* At the limit and one beyond, which ends nothing. */
    box(m.agent, (struct str){large, CHANNEL_PLAIN_MAX}, &sealed);
    buf_clear(&plain);
    assert_int_equal(channel_unseal(m.control, buf_str(&sealed), &plain, NULL), 0);
    assert_int_equal(plain.len, CHANNEL_PLAIN_MAX);
    assert_int_equal(channel_seal(m.agent, (struct str){large, CHANNEL_PLAIN_MAX + 1}, &sealed, NULL), -ERR_RANGE);
    box(m.agent, STR("x"), &sealed);
    buf_clear(&plain);
    assert_int_equal(channel_unseal(m.control, buf_str(&sealed), &plain, NULL), 0);
    part(&m);
}

/* What is done to the boxes on their way; each ends the channel. */
static void test_boxes_of_an_edge(void **state)
{
    (void)state;
    enum { CHANGED, TAG, CUT, TOO_SHORT, LONGER, REPEATED, LEFT_OUT, REFLECTED, OF_ANOTHER, CASES };
    for (unsigned what = 0; what < CASES; what++) {
        struct meeting m, n;
        AUTO_BUF a = BUF_INIT(4096), b = BUF_INIT(4096), plain = BUF_INIT(4096);
        open_both(&m);
        open_both(&n);
        box(m.control, STR("deploy"), &a);
        box(m.control, STR("second"), &b);
        struct str sent = buf_str(&a);
        struct channel *to = m.agent;
        switch (what) {
        case CHANGED: a.data[0] ^= 1; break;
        case TAG: a.data[a.len - 1] ^= 1; break;
        case CUT: sent.n--; break;
        case TOO_SHORT: sent.n = CHANNEL_TAG_SIZE - 1; break;
        case LONGER: assert_int_equal(buf_append_byte(&a, 0), 0), sent = buf_str(&a); break;
        case REPEATED: assert_int_equal(channel_unseal(to, sent, &plain, NULL), 0); break;
        case LEFT_OUT: sent = buf_str(&b); break;
        case REFLECTED: to = m.control; break;
        default: to = n.agent; break;
        }
        buf_clear(&plain);
        assert_int_equal(channel_unseal(to, sent, &plain, NULL), -ERR_UNAUTHENTICATED);
        assert_int_equal(plain.len, 0);
        assert_false(channel_is_open(to));
        assert_int_equal(channel_unseal(to, buf_str(&b), &plain, NULL), -ERR_UNAUTHENTICATED);
        assert_int_equal(channel_seal(to, STR("x"), &plain, NULL), -ERR_UNAUTHENTICATED);
        part(&m);
        part(&n);
    }
}

/* An edge that puts its own key in place of the agent's: the control plane signs it, the agent sees it. */
static void test_swapped_ephemeral_of_agent(void **state)
{
    (void)state;
    struct meeting m, edge;
    meet(&m, SERVER);
    meet(&edge, SERVER);
    struct channel_peer false_hello = {channel_ephemeral(edge.agent), channel_nonce(m.agent)};
    assert_int_equal(channel_challenge(m.control, &false_hello, buf_str(&f.chain), f.leaf, &m.challenge, NULL), 0);
    assert_int_equal(challenged(&m), -ERR_UNAUTHENTICATED);
    assert_int_equal(prove(&m), -ERR_UNAUTHENTICATED);
    part(&m);
    part(&edge);
}

/* And in place of the control plane's, which signed another. */
static void test_swapped_ephemeral_of_control(void **state)
{
    (void)state;
    struct meeting m, edge;
    const struct proof_trust trust = {.pin = f.pin};
    meet(&m, SERVER);
    meet(&edge, SERVER);
    assert_int_equal(challenge(&m), 0);
    struct channel_peer false_challenge = {channel_ephemeral(edge.control), channel_nonce(m.control)};
    assert_int_equal(channel_challenged(m.agent, &false_challenge, buf_str(&f.chain), buf_str(&m.challenge), &trust, clock_real(),
                                        NULL),
                     -ERR_UNAUTHENTICATED);
    part(&m);
    part(&edge);
}

static void test_proof_is_of_one_connection(void **state)
{
    (void)state;
    struct meeting m, again;
    open_both(&m);
    /* The edge says the same hello and the same proof on a connection of its own. */
    meet(&again, SERVER);
    struct channel_peer hello = hello_of(m.agent);
    assert_int_equal(channel_challenge(again.control, &hello, buf_str(&f.chain), f.leaf, &again.challenge, NULL), 0);
    assert_int_equal(channel_proved(again.control, buf_str(&f.spki), TOKEN, buf_str(&m.proof), NULL), -ERR_UNAUTHENTICATED);
    part(&again);
    part(&m);
}

/* The token in the proof is the one that was shown, the key the one that it names, the server the one that was meant. */
static void test_proof_of_something_else(void **state)
{
    (void)state;
    AUTO_KEY thief = NULL;
    AUTO_BUF spki = BUF_INIT(PROOF_SPKI_MAX);
    assert_int_equal(key_generate(&thief, NULL), 0);
    for (unsigned what = 0; what < 4; what++) {
        struct meeting m;
        meet(&m, what == 3 ? OTHER : SERVER);
        assert_int_equal(challenge(&m), 0);
        if (what == 3) {
            assert_int_equal(challenged(&m), -ERR_UNAUTHENTICATED);
            part(&m);
            continue;
        }
        assert_int_equal(challenged(&m), 0);
        assert_int_equal(
            channel_prove(m.agent, what == 0 ? thief : f.host, what == 1 ? STR("another token") : TOKEN, &m.proof, NULL), 0);
        struct str proof = buf_str(&m.proof);
        proof.n -= what == 2; /* cut */
        assert_int_equal(channel_proved(m.control, buf_str(&f.spki), TOKEN, proof, NULL), -ERR_UNAUTHENTICATED);
        assert_false(channel_is_open(m.control));
        part(&m);
    }
}

static void test_wrong_certificate(void **state)
{
    (void)state;
    struct meeting m;
    AUTO_KEY key = NULL;
    uint8_t pin[32] = {1};
    const struct proof_trust not_ours = {.pin = pin};
    meet(&m, SERVER);
    assert_int_equal(challenge(&m), 0);
    struct channel_peer control = hello_of(m.control);
    assert_int_equal(channel_challenged(m.agent, &control, buf_str(&f.chain), buf_str(&m.challenge), &not_ours, clock_real(),
                                        NULL),
                     -ERR_UNAUTHENTICATED);
    part(&m);
    /* The right certificate, without its key. */
    assert_int_equal(key_generate(&key, NULL), 0);
    meet(&m, SERVER);
    struct channel_peer agent = hello_of(m.agent);
    assert_int_equal(channel_challenge(m.control, &agent, buf_str(&f.chain), key, &m.challenge, NULL), 0);
    assert_int_equal(challenged(&m), -ERR_UNAUTHENTICATED);
    part(&m);
}

static void test_malformed_hello(void **state)
{
    (void)state;
    static const char zeros[CHANNEL_POINT_SIZE + 1];
    char off[CHANNEL_POINT_SIZE] = {4, 1};
    struct channel *ch = NULL;
    assert_int_equal(channel_new(CHANNEL_AGENT, "", &ch, NULL), -ERR_INVALID);
    assert_int_equal(channel_new(CHANNEL_AGENT, SERVER "0", &ch, NULL), -ERR_INVALID);
    assert_int_equal(channel_new(CHANNEL_AGENT, "01234567-89ab-cdef-0123-456789abcdeG", &ch, NULL), -ERR_INVALID);
    const struct str points[] = {{zeros, CHANNEL_POINT_SIZE - 1}, {zeros, CHANNEL_POINT_SIZE + 1}, {NULL, 0}};
    for (unsigned i = 0; i < 6; i++) {
        struct meeting m;
        meet(&m, SERVER);
        struct channel_peer hello = hello_of(m.agent);
        if (i < 3)
            hello.ephemeral = points[i];
        else if (i == 3)
            hello.nonce.n = 31;
        else if (i == 4)
            hello.ephemeral = channel_ephemeral(m.control);
        else
            hello.nonce = channel_nonce(m.control);
        assert_int_equal(channel_challenge(m.control, &hello, buf_str(&f.chain), f.leaf, &m.challenge, NULL),
                         -ERR_UNAUTHENTICATED);
        part(&m);
    }
    /* No points of the curve. */
    const struct str wrong[] = {{off, sizeof(off)}, {zeros, CHANNEL_POINT_SIZE}};
    for (unsigned i = 0; i < 2; i++) {
        struct meeting m;
        meet(&m, SERVER);
        struct channel_peer hello = {wrong[i], channel_nonce(m.agent)};
        assert_int_equal(channel_challenge(m.control, &hello, buf_str(&f.chain), f.leaf, &m.challenge, NULL),
                         -ERR_UNAUTHENTICATED);
        part(&m);
    }
}

static void test_out_of_order(void **state)
{
    (void)state;
    struct meeting m;
    AUTO_BUF out = BUF_INIT(256);
    meet(&m, SERVER);
    assert_int_equal(channel_seal(m.agent, STR("x"), &out, NULL), -ERR_UNAUTHENTICATED);
    assert_int_equal(proved(&m), -ERR_UNAUTHENTICATED);
    assert_int_equal(challenge(&m), -ERR_UNAUTHENTICATED); /* it is over */
    part(&m);
    open_both(&m);
    assert_int_equal(challenge(&m), -ERR_UNAUTHENTICATED);
    part(&m);
    open_both(&m);
    assert_int_equal(challenged(&m), -ERR_UNAUTHENTICATED);
    part(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways),
        cmocka_unit_test(test_boxes_of_an_edge),
        cmocka_unit_test(test_swapped_ephemeral_of_agent),
        cmocka_unit_test(test_swapped_ephemeral_of_control),
        cmocka_unit_test(test_proof_is_of_one_connection),
        cmocka_unit_test(test_proof_of_something_else),
        cmocka_unit_test(test_wrong_certificate),
        cmocka_unit_test(test_malformed_hello),
        cmocka_unit_test(test_out_of_order),
    };
    return cmocka_run_group_tests_name("channel", tests, setup, teardown);
}
