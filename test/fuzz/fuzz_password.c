/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of hashed passwords: what is taken costs no more than it may. */
#include <stdint.h>

#include "ident/password.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct password_text t;
    struct str text = {(const char *)data, size};
    if (password_parse(text, &t) == 0)
        BUG_ON(t.n_salt < PASSWORD_SALT_SIZE || t.n_salt > PASSWORD_SALT_MAX || (128ULL << t.ln) * t.r > PASSWORD_MEMORY_MAX || t.p > 4 ||
               t.p == 0 || t.r == 0 || t.ln < 10);
    if (password_check(text, NULL) == 0)
        BUG_ON(size < PASSWORD_CHARS_MIN || size > (size_t)4 * PASSWORD_CHARS_MAX || !str_is_utf8(text));
    return 0;
}
