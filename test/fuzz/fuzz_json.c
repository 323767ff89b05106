/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON reader on anything; what it accepts must come through the writer and be read again as the same tokens. */
#include <stdint.h>

#include "base/json.h"

/* One token to the writer. */
static void copy(struct jsonw *w, const struct json *j, enum json_type type)
{
    switch (type) {
    case JSON_NULL:
        jsonw_null(w);
        break;
    case JSON_BOOL:
        jsonw_bool(w, j->boolean);
        break;
    case JSON_NUMBER:
        jsonw_raw(w, j->value);
        break;
    case JSON_STRING:
        jsonw_str(w, j->value);
        break;
    case JSON_OBJECT:
        jsonw_object(w);
        break;
    case JSON_OBJECT_END:
        jsonw_object_end(w);
        break;
    case JSON_ARRAY:
        jsonw_array(w);
        break;
    case JSON_ARRAY_END:
        jsonw_array_end(w);
        break;
    case JSON_KEY:
        jsonw_key_str(w, j->value);
        break;
    case JSON_END:
        break;
    }
}

static void check_same(struct str a, struct str b)
{
    AUTO_JSON x, y;
    enum json_type s, t;

    json_init(&x, a);
    json_init(&y, b);
    do {
        BUG_ON(json_next(&x, &s, NULL) < 0 || json_next(&y, &t, NULL) < 0 || s != t || !str_eq(x.value, y.value));
    } while (s != JSON_END);
}

static void read_typed(struct str text)
{
    AUTO_JSON a, b, c;
    int64_t i;
    uint64_t u;
    struct str raw;

    json_init(&a, text);
    json_init(&b, text);
    json_init(&c, text);
    (void)!json_read_i64(&a, &i, NULL);
    (void)!json_read_u64(&b, &u, NULL);
    (void)!json_read_raw(&c, &raw, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    AUTO_BUF out = BUF_INIT(8 * size + 64);
    AUTO_JSON j;
    struct jsonw w;
    enum json_type type;

    read_typed(text);
    json_init(&j, text);
    jsonw_init(&w, &out);
    do {
        if (json_next(&j, &type, NULL) < 0)
            return 0;
        copy(&w, &j, type);
    } while (type != JSON_END);
    BUG_ON(jsonw_end(&w) < 0);
    check_same(text, buf_str(&out));
    return 0;
}
