/* SPDX-License-Identifier: Apache-2.0 */
/* json — a pull reader and a streaming writer with hard limits (RFC 8259, strict: no comments, no trailing commas, no lone
 * surrogates, valid UTF-8).
 * The reader walks a complete text in memory and allocates nothing but unescaped strings that do not fit its scratch.
 * Limits: depth JSON_DEPTH_MAX, string and text length by the caller's buffer, numbers 64 characters. Duplicate keys are the
 * caller's concern (it sees each in order).
 * Input trust: peer.  Thread: any, one at a time. */
#ifndef DAVIT_BASE_JSON_H
#define DAVIT_BASE_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

enum { JSON_DEPTH_MAX = 48 };

enum json_type {
    JSON_END, /* nothing more: end of the text, after its one value */
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_OBJECT,
    JSON_OBJECT_END,
    JSON_ARRAY,
    JSON_ARRAY_END,
    JSON_KEY
};

/* Reader: on the caller's stack. After a failure every further call fails the same way. */
struct json {
    struct str text;
    size_t pos;
    uint8_t depth;
    uint8_t state;                   /* internal: what may come next */
    uint8_t stack[JSON_DEPTH_MAX];   /* internal: '{' or '[' per level */
    struct buf scratch;              /* unescaped string of the current token */
    struct str value;                /* KEY, STRING: unescaped, valid until the next call; NUMBER: its text */
    bool boolean;                    /* BOOL */
    const char *why;                 /* internal: reason of the failure */
};

/* Starts reading @text, which must outlive the reader. End with json_release. */
void json_init(struct json *j, struct str text);
void json_release(struct json *j);
#define AUTO_JSON CLEANUP(json_release) struct json

/* The next token into *ret. 0, or -ERR_INVALID with the byte offset in the message. */
int json_next(struct json *j, enum json_type *ret, struct err *err) MUST_USE;
/* Passes over one whole value (after a KEY, or in an array). */
int json_skip(struct json *j, struct err *err) MUST_USE;

/* Iteration without state machines: json_enter expects an object or array start; json_key gives each key in turn (borrowed
 * until the next call) and 1, or 0 at the end of the object; json_item returns 1 when another element follows (not consumed),
 * 0 at the end of the array. Negative: error. */
int json_enter(struct json *j, enum json_type object_or_array, struct err *err) MUST_USE;
int json_key(struct json *j, struct str *ret_key, struct err *err) MUST_USE;
int json_item(struct json *j, struct err *err) MUST_USE;

/* One scalar value of the wanted type. `null` gives the empty/zero value. Strings: fresh memory, the caller frees; one with a
 * NUL in it is refused. */
int json_read_string(struct json *j, char **ret, struct err *err) MUST_USE;
/* The same, borrowed until the next call. */
int json_read_str(struct json *j, struct str *ret, struct err *err) MUST_USE;
int json_read_i64(struct json *j, int64_t *ret, struct err *err) MUST_USE; /* integral numbers, exponent allowed when exact */
int json_read_u64(struct json *j, uint64_t *ret, struct err *err) MUST_USE;
int json_read_bool(struct json *j, bool *ret, struct err *err) MUST_USE;
/* The text of one whole value of any type, borrowed from the reader's input. */
int json_read_raw(struct json *j, struct str *ret, struct err *err) MUST_USE;

/* Writer: appends one value to a buf; commas and quotes are its business. A misuse is a bug (aborts); running over the buf's
 * max or over JSON_DEPTH_MAX is sticky and reported once by jsonw_end. */
struct jsonw {
    struct buf *out;
    int rc;
    uint8_t depth;
    bool first;
    bool after_key;
    uint64_t objects; /* internal: bit per level, set for an object */
};

/* Starts one value at the end of @out, which must outlive the writer. Nothing to release. */
void jsonw_init(struct jsonw *w, struct buf *out);
/* Opens an object: keys and values alternate until its end. */
void jsonw_object(struct jsonw *w);
/* Closes the innermost container, which must be an object with no key left open. */
void jsonw_object_end(struct jsonw *w);
/* Opens an array. */
void jsonw_array(struct jsonw *w);
/* Closes the innermost container, which must be an array. */
void jsonw_array_end(struct jsonw *w);
/* The key of the next value; only directly inside an object. Repeats are not noticed. */
void jsonw_key(struct jsonw *w, const char *key);
/* The same from borrowed text; bytes that are not UTF-8 become U+FFFD. */
void jsonw_key_str(struct jsonw *w, struct str key);
/* Bytes that are not UTF-8 become U+FFFD, so that the output is always valid. */
void jsonw_str(struct jsonw *w, struct str s);
void jsonw_string(struct jsonw *w, const char *s); /* NULL -> null */
void jsonw_u64(struct jsonw *w, uint64_t v);
void jsonw_i64(struct jsonw *w, int64_t v);
void jsonw_bool(struct jsonw *w, bool v);
void jsonw_null(struct jsonw *w);
/* A ready JSON text as it stands. */
void jsonw_raw(struct jsonw *w, struct str json);
/* 0, or -ERR_EXHAUSTED if anything did not fit. */
int jsonw_end(struct jsonw *w) MUST_USE;

#endif
