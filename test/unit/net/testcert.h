/* SPDX-License-Identifier: Apache-2.0 */
/* testcert — certificates made for one test run.  All text is malloc'ed and freed by testcert_free. */
#ifndef DAVIT_TEST_TESTCERT_H
#define DAVIT_TEST_TESTCERT_H

#include <stdint.h>

struct testcert {
    char *cert_pem;  /* this certificate alone */
    char *chain_pem; /* with its issuer's behind it */
    char *key_pem;
    uint8_t spki_sha256[32];
    void *x509, *key;
};

/* P-256. @issuer NULL: a self-signed root. @uri, @dns: SAN or NULL. Valid from an hour ago for @seconds from now (negative: expired).
 * Anything that fails aborts. */
void testcert_make(struct testcert *ret, const char *cn, const struct testcert *issuer, const char *uri, const char *dns,
                   long seconds);
void testcert_free(struct testcert *c);

#endif
