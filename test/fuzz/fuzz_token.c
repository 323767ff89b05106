/* SPDX-License-Identifier: Apache-2.0 */
/* Join tokens: what is read as one must be written again as the same text. */
#include <stdint.h>

#include "ident/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct join_token token = {0};
    struct err err = ERR_INIT;
    enum token_fault fault;
    struct str text = {(const char *)data, size};
    int rc = join_token_parse(text, &token, &fault, &err);
    BUG_ON((rc == 0) != (fault == TOKEN_OK));
    BUG_ON(rc != 0 && (err.msg[0] == '\0' || err.hint[0] == '\0' || token.secret));
    if (rc != 0)
        return 0;
    AUTO_SECRET again = join_token_text(&token);
    BUG_ON(secret_len(again) != TOKEN_TEXT_LEN || memmem(data, size, secret_reveal(again).p, TOKEN_TEXT_LEN) == NULL);
    join_token_release(&token);
    return 0;
}
