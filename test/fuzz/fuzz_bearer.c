/* SPDX-License-Identifier: Apache-2.0 */
/* What an issuer answers to the CLI: what is taken can be sent as a field. */
#include <stdint.h>

#include "cli/cli.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct secret *token = NULL;
    usec_t life = 0;
    struct err err = ERR_INIT;
    if (bearer_parse((struct str){(const char *)data, size}, &token, &life, &err) != 0) {
        BUG_ON(err.msg[0] == '\0' || token);
        return 0;
    }
    struct str s = secret_reveal(token);
    BUG_ON(s.n == 0 || s.n > BEARER_TOKEN_MAX || life < USEC_SEC || life > BEARER_LIFE_MAX);
    for (size_t i = 0; i < s.n; i++)
        BUG_ON(s.p[i] <= 0x20 || s.p[i] > 0x7e);
    (void)secret_free(token);
    return 0;
}
