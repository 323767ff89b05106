/* SPDX-License-Identifier: Apache-2.0 */
/* What jansson says about a document; apart from the tests because its names and those of base/json.h collide. */
#include "oracle_jansson.h"

#include <jansson.h>

bool jansson_accepts(const char *text, size_t n)
{
    json_error_t error;
    json_t *value = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    bool ret = value != NULL;

    json_decref(value);
    return ret;
}
