/* SPDX-License-Identifier: Apache-2.0 */
/* Access tokens: no bytes pass for one under a key that nobody has signed with; what is read as one has claims that make one. */
#include <stdint.h>
#include <string.h>

#include "ident/jwt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct key *key;
    struct jwt_claims claims = {0}, again = {0};
    struct err err = ERR_INIT;
    struct str token = {(const char *)data, size};
    if (!key)
        BUG_ON(key_generate(&key, NULL) != 0);
    BUG_ON(jwt_verify(key, token, 1700000000 * USEC_SEC, &claims, &err) != -ERR_UNAUTHENTICATED || err.msg[0] == '\0' ||
           claims.subject[0]);
    if (jwt_peek(token, &claims, &err) != 0)
        return 0;
    AUTO_BUF out = BUF_INIT(JWT_MAX);
    BUG_ON(jwt_make(key, &claims, &out, NULL) != 0);
    BUG_ON(jwt_verify(key, buf_str(&out), claims.not_before, &again, NULL) != 0);
    BUG_ON(strcmp(claims.subject, again.subject) != 0 || strcmp(claims.id, again.id) != 0 ||
           claims.generation != again.generation || claims.expires != again.expires ||
           memcmp(claims.key_hash, again.key_hash, SPKI_HASH_SIZE) != 0);
    return 0;
}
