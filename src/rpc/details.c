/* SPDX-License-Identifier: Apache-2.0 */
/* details — see details.h. */
#include "rpc/details.h"

#include <stdio.h>
#include <string.h>

#define DOMAIN   "davit"
#define INFO_URL "type.googleapis.com/" DETAILS_INFO_TYPE

enum { STATUS_CODE = 1, STATUS_MESSAGE, STATUS_DETAILS };
enum { ANY_URL = 1, ANY_VALUE };
enum { INFO_REASON = 1, INFO_DOMAIN, INFO_METADATA };
enum { ENTRY_KEY = 1, ENTRY_VALUE };
enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

/* ---- out ---- */

static int put_varint(struct buf *out, uint64_t v)
{
    int rc = 0;
    for (; rc == 0 && v >= 0x80; v >>= 7)
        rc = buf_append_byte(out, (uint8_t)(v | 0x80));
    return rc < 0 ? rc : buf_append_byte(out, (uint8_t)v);
}

static int put_bytes(struct buf *out, unsigned field, struct str bytes)
{
    int rc = put_varint(out, field << 3 | WIRE_BYTES);
    if (rc == 0)
        rc = put_varint(out, bytes.n);
    return rc < 0 ? rc : buf_append_str(out, bytes);
}

static int put_metadata(struct buf *out, const char *key, const char *value)
{
    AUTO_BUF entry = BUF_INIT(DETAILS_MAX);
    if (!*value)
        return 0;
    int rc = put_bytes(&entry, ENTRY_KEY, str_from(key));
    if (rc == 0)
        rc = put_bytes(&entry, ENTRY_VALUE, str_from(value));
    return rc < 0 ? rc : put_bytes(out, INFO_METADATA, buf_str(&entry));
}

int details_info(const struct err *failure, struct buf *out)
{
    char reason[32], origin[64] = "";
    size_t n = 0;
    for (const char *p = failure->reason ? failure->reason : err_code_name(failure->code); *p && n + 1 < sizeof(reason); p++)
        reason[n++] = (char)(*p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p);
    if (failure->file) {
        const char *slash = strrchr(failure->file, '/');
        (void)snprintf(origin, sizeof(origin), "%.48s:%d", slash ? slash + 1 : failure->file, failure->line);
    }
    int rc = put_bytes(out, INFO_REASON, (struct str){reason, n});
    if (rc == 0)
        rc = put_bytes(out, INFO_DOMAIN, STR(DOMAIN));
    if (rc == 0)
        rc = put_metadata(out, "hint", failure->hint);
    if (rc == 0)
        rc = put_metadata(out, "origin", origin);
    return rc < 0 ? rc : put_metadata(out, "retryable", failure->retryable ? "true" : "");
}

int details_status(const struct err *failure, struct buf *out)
{
    AUTO_BUF info = BUF_INIT(DETAILS_MAX), any = BUF_INIT(DETAILS_MAX);
    int rc = details_info(failure, &info);
    if (rc == 0)
        rc = put_bytes(&any, ANY_URL, STR(INFO_URL));
    if (rc == 0)
        rc = put_bytes(&any, ANY_VALUE, buf_str(&info));
    if (rc == 0)
        rc = put_varint(out, STATUS_CODE << 3 | WIRE_VARINT);
    if (rc == 0)
        rc = put_varint(out, failure->code);
    if (rc == 0 && failure->msg[0])
        rc = put_bytes(out, STATUS_MESSAGE, str_from(failure->msg));
    return rc < 0 ? rc : put_bytes(out, STATUS_DETAILS, buf_str(&any));
}

/* ---- in ---- */

static bool get_varint(struct str *in, uint64_t *ret)
{
    *ret = 0;
    for (unsigned shift = 0; in->n && shift < 64; shift += 7) {
        uint8_t b = (uint8_t)*in->p;
        in->p++;
        in->n--;
        *ret |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return true;
    }
    return false;
}

/* One field: numbers into *ret_number, bytes into *ret_bytes (empty for numbers). False at the end and for what is malformed. */
static bool get_field(struct str *in, uint64_t *ret_field, uint64_t *ret_number, struct str *ret_bytes)
{
    uint64_t tag, n = 0;
    *ret_number = 0;
    *ret_bytes = (struct str){0};
    if (!get_varint(in, &tag))
        return false;
    *ret_field = tag >> 3;
    switch (tag & 7) {
    case WIRE_VARINT: return get_varint(in, ret_number);
    case WIRE_64: n = 8; break;
    case WIRE_32: n = 4; break;
    case WIRE_BYTES:
        if (!get_varint(in, &n))
            return false;
        break;
    default: return false;
    }
    if (n > in->n)
        return false;
    *ret_bytes = (struct str){in->p, (size_t)n};
    in->p += n;
    in->n -= (size_t)n;
    return true;
}

/* The two texts of an Any, or of an entry of a map. */
static void get_pair(struct str in, struct str *ret_first, struct str *ret_second)
{
    uint64_t field, number;
    struct str bytes;
    *ret_first = *ret_second = (struct str){0};
    while (get_field(&in, &field, &number, &bytes)) {
        if (field == 1)
            *ret_first = bytes;
        else if (field == 2)
            *ret_second = bytes;
    }
}

/* Text that may be shown: UTF-8 without controls. */
static bool is_text(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return false;
    return str_is_utf8(s);
}

void details_read_info(struct str info, struct err *err)
{
    uint64_t field, number;
    struct str bytes, rest = info, key, value, hint = {0};
    bool ours = false, retryable = false;
    while (get_field(&rest, &field, &number, &bytes)) {
        if (field == INFO_DOMAIN)
            ours = str_eq(bytes, STR(DOMAIN));
        if (field != INFO_METADATA)
            continue;
        get_pair(bytes, &key, &value);
        if (str_eq(key, STR("hint")) && is_text(value))
            hint = value;
        else if (str_eq(key, STR("retryable")))
            retryable = str_eq(value, STR("true"));
    }
    if (!ours)
        return;
    err->retryable = err->retryable || retryable;
    if (hint.n && !err->hint[0])
        err_hint(err, STR_FMT, STR_ARG(hint));
}

void details_read(struct str status, struct err *err)
{
    uint64_t field, number, code = 0;
    struct str bytes, rest = status, url, value;
    while (get_field(&rest, &field, &number, &bytes))
        if (field == STATUS_CODE)
            code = number;
    if (code != (uint64_t)err->code)
        return;
    rest = status;
    while (get_field(&rest, &field, &number, &bytes)) {
        if (field != STATUS_DETAILS)
            continue;
        get_pair(bytes, &url, &value);
        if (str_ends(url, STR("/" DETAILS_INFO_TYPE)))
            details_read_info(value, err);
    }
}
