/* SPDX-License-Identifier: Apache-2.0 */
/* Certificate requests of agents, and the same bytes as a certificate chain. */
#include <stdint.h>

#include "ident/cert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str bytes = {(const char *)data, size};
    AUTO_CSR csr = NULL;
    AUTO_CERT cert = NULL;
    uint8_t hash[SPKI_HASH_SIZE];
    struct cert_info info;
    if (csr_parse(bytes, &csr, NULL) == 0)
        BUG_ON(csr_spki_hash(csr, hash, NULL) != 0);
    if (cert_from_pem(bytes, &cert, NULL) == 0)
        (void)!cert_info(cert, &info, NULL);
    (void)!cert_verify_chain(bytes, bytes, CERT_CLIENT, 0, &info, NULL);
    return 0;
}
