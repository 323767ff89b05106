/* SPDX-License-Identifier: Apache-2.0 */
/* What comes to the issuer of tokens: forms, assertions in them, keys, access tokens. Nothing passes that nobody signed. The input is a form, and
 * also each of the others. */
#include <stdint.h>
#include <string.h>

#include "control/people/form.h"
#include "ident/jwt_oauth.h"

#define NOW (1700000000 * USEC_SEC)

static struct key *key;
static struct jwk jwk;

static void assertion(struct str text)
{
    static const char *const audiences[] = {"https://127.0.0.1:7443"};
    struct assertion_rules rules = {.client = "davit-cli", .audiences = audiences, .n_audiences = 1, .life_max = ASSERTION_LIFE_STORED};
    struct jws jws;
    struct oauth_claims c, again;
    struct err err = ERR_INIT;
    if (assertion_read(text, &jws, &c, &err) != 0) {
        BUG_ON(err.msg[0] == '\0');
        return;
    }
    BUG_ON(!*c.issuer || !*c.audience || !*c.id || jws.input.n >= text.n);
    BUG_ON(assertion_judge(&jws, &c, &jwk, &rules, NOW, &err) != -ERR_UNAUTHENTICATED);
    /* What is read can be written, and reads the same. */
    AUTO_BUF out = BUF_INIT(JWS_MAX);
    if (assertion_make(key, c.subject, c.audience, c.id, NOW, USEC_SEC, &out, NULL) == 0)
        BUG_ON(assertion_read(buf_str(&out), &jws, &again, NULL) != 0 || strcmp(again.id, c.id) != 0 || strcmp(again.audience, c.audience) != 0);
}

static void key_text(struct str text)
{
    struct jwk k, again;
    struct jsonw w;
    AUTO_BUF out = BUF_INIT(JWK_MAX);
    if (jwk_parse(text, &k, NULL) != 0)
        return;
    jsonw_init(&w, &out);
    jwk_write(&k, &w);
    BUG_ON(jsonw_end(&w) != 0 || jwk_parse(buf_str(&out), &again, NULL) != 0 || memcmp(&k, &again, sizeof(k)) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    struct form form;
    struct oauth_claims c;
    struct err err = ERR_INIT;
    if (!key)
        BUG_ON(key_generate(&key, NULL) != 0 || jwk_of_key(key, &jwk, NULL) != 0);
    if (form_parse(text, &form, &err) == 0) {
        const char *inner = form_get(&form, "client_assertion");
        if (inner)
            assertion(str_from(inner));
        form_release(&form);
    } else {
        BUG_ON(err.msg[0] == '\0');
    }
    assertion(text);
    key_text(text);
    BUG_ON(access_verify(&jwk, text, "https://127.0.0.1:7443", NOW, &c, NULL) != -ERR_UNAUTHENTICATED);
    return 0;
}
