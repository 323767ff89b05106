/* SPDX-License-Identifier: Apache-2.0 */
/* connect_error — failures and ends of streams as Connect writes them in JSON, read back: what connect_server.c writes.
 * Source: connectrpc.com protocol.  Input trust: peer. */
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "rpc/client_internal.h"
#include "rpc/details.h"
#include "rpc/status.h"

enum { VALUES_MAX = 16 };

/* One of `details`: {"type", "value"} with the value in base64. Only ours tells something. */
static int read_detail(struct json *j, struct err *status, struct err *err)
{
    AUTO_FREE char *type = NULL, *value = NULL;
    struct str key;
    int rc = json_enter(j, JSON_OBJECT, err);
    while (rc == 0 && (rc = json_key(j, &key, err)) > 0) {
        char **to = str_eq(key, STR("type")) ? &type : str_eq(key, STR("value")) ? &value : NULL;
        if (to)
            free(TAKE(*to));
        rc = to ? json_read_string(j, to, err) : json_skip(j, err);
    }
    uint8_t bytes[DETAILS_MAX];
    size_t n = 0;
    if (rc == 0 && type && value && strcmp(type, DETAILS_INFO_TYPE) == 0 && str_unbase64(str_from(value), bytes, sizeof(bytes), &n) == 0)
        details_read_info((struct str){(const char *)bytes, n}, status);
    return rc;
}

static int read_details(struct json *j, struct err *status, struct err *err)
{
    int rc = json_enter(j, JSON_ARRAY, err);
    while (rc == 0 && (rc = json_item(j, err)) > 0)
        rc = read_detail(j, status, err);
    return rc;
}

static int read_failure(struct json *j, struct err *status, struct err *err)
{
    AUTO_FREE char *code = NULL, *message = NULL;
    struct err told = ERR_INIT;
    struct str key;
    int rc = json_enter(j, JSON_OBJECT, err);
    while (rc == 0 && (rc = json_key(j, &key, err)) > 0) {
        char **to = str_eq(key, STR("code")) ? &code : str_eq(key, STR("message")) ? &message : NULL;
        if (to)
            free(TAKE(*to));
        if (to)
            rc = json_read_string(j, to, err);
        else if (str_eq(key, STR("details")))
            rc = read_details(j, &told, err);
        else
            rc = json_skip(j, err);
    }
    if (rc < 0 || !code)
        return rc < 0 ? rc : err_set(err, ERR_INVALID, "a failure without a code");
    char text[ERR_MSG_MAX];
    status_unescape(message ? message : "", text, sizeof(text)); /* controls become harmless */
    (void)err_set(status, err_code_from_name(code), "%s", text);
    status->retryable = status->retryable || told.retryable;
    if (told.hint[0])
        err_hint(status, "%s", told.hint);
    return 0;
}

int connect_read_error(struct str text, struct err *status)
{
    AUTO_JSON j;
    enum json_type last;
    json_init(&j, text);
    int rc = read_failure(&j, status, NULL);
    if (rc == 0)
        rc = json_next(&j, &last, NULL);
    return rc < 0 ? -(int)ERR_INVALID : 0;
}

/* {"name": ["value", ...]}. What does not fit is left out. */
static int read_metadata(struct json *j, struct buf *trailer, struct err *err)
{
    struct str key;
    int rc = json_enter(j, JSON_OBJECT, err);
    while (rc == 0 && (rc = json_key(j, &key, err)) > 0) {
        AUTO_FREE char *name = str_dup(key);
        rc = json_enter(j, JSON_ARRAY, err);
        while (rc == 0 && (rc = json_item(j, err)) > 0) {
            struct str value;
            rc = json_read_str(j, &value, err);
            if (rc == 0)
                (void)h2_fields_add(trailer, str_from(name), value);
        }
    }
    return rc;
}

int connect_read_end(struct str text, struct err *status, struct buf *trailer)
{
    AUTO_JSON j;
    enum json_type last;
    struct str key;
    json_init(&j, text);
    int rc = json_enter(&j, JSON_OBJECT, NULL);
    while (rc == 0 && (rc = json_key(&j, &key, NULL)) > 0) {
        if (str_eq(key, STR("error")))
            rc = read_failure(&j, status, NULL);
        else if (str_eq(key, STR("metadata")))
            rc = read_metadata(&j, trailer, NULL);
        else
            rc = json_skip(&j, NULL);
    }
    if (rc == 0)
        rc = json_next(&j, &last, NULL);
    return rc < 0 ? -(int)ERR_INVALID : 0;
}
