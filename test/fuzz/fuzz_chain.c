/* SPDX-License-Identifier: Apache-2.0 */
/* Chains of certificates in PEM: what an enrolment is answered with, and what lies in files. The first half of the bytes, up to a NUL, is the
 * chain, the rest the roots; without a NUL it is both. */
#include <stdint.h>
#include <string.h>

#include "ident/cert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str all = {(const char *)data, size}, rest = all;
    struct str chain = str_cut(&rest, '\0');
    struct str roots = rest.n > 0 ? rest : chain;
    static const char *const names[] = {"localhost", "127.0.0.1"};
    AUTO_CERT cert = NULL;
    AUTO_BUF again = BUF_INIT(2 * CERT_PEM_MAX);
    struct cert_info info = {0};
    uint8_t pin[SPKI_HASH_SIZE], pin_again[SPKI_HASH_SIZE];
    if (cert_verify_chain(chain, roots, CERT_CLIENT, 1800000000 * USEC_SEC, &info, NULL) == 0)
        BUG_ON(strlen(info.uri) >= CERT_URI_SIZE || info.not_after < info.not_before);
    (void)!cert_verify_chain(chain, roots, CERT_SERVER, 0, NULL, NULL);
    if (cert_from_pem(chain, &cert, NULL) < 0)
        return 0;
    (void)!cert_info(cert, &info, NULL);
    (void)!cert_has_names(cert, info.uri, names, 2);
    /* What was read can be written and is then the same certificate. */
    BUG_ON(cert_to_pem(cert, &again, NULL) != 0);
    if (cert_pem_pin(chain, pin, NULL) == 0)
        BUG_ON(cert_pem_pin(buf_str(&again), pin_again, NULL) != 0 || memcmp(pin, pin_again, sizeof(pin)) != 0);
    return 0;
}
