/* SPDX-License-Identifier: Apache-2.0 */
/* err — failures and the one table that maps them to Connect, HTTP and exit codes, see err.h. */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"

/* Exit codes: 2 is usage by custom, 130 what a shell reports for an interrupt; 3..8 are ours (doc/cli.md). */
static const struct {
    const char *name;
    short http;
    short exit;
} codes[ERR_CODE_MAX] = {
    [ERR_OK] = {"ok", 200, 0},
    [ERR_CANCELLED] = {"canceled", 499, 130},
    [ERR_UNKNOWN] = {"unknown", 500, 1},
    [ERR_INVALID] = {"invalid_argument", 400, 2},
    [ERR_DEADLINE] = {"deadline_exceeded", 504, 6},
    [ERR_NOT_FOUND] = {"not_found", 404, 3},
    [ERR_EXISTS] = {"already_exists", 409, 7},
    [ERR_DENIED] = {"permission_denied", 403, 4},
    [ERR_EXHAUSTED] = {"resource_exhausted", 429, 8},
    [ERR_PRECONDITION] = {"failed_precondition", 400, 7},
    [ERR_ABORTED] = {"aborted", 409, 1},
    [ERR_RANGE] = {"out_of_range", 400, 2},
    [ERR_UNIMPLEMENTED] = {"unimplemented", 501, 1},
    [ERR_INTERNAL] = {"internal", 500, 1},
    [ERR_UNAVAILABLE] = {"unavailable", 503, 5},
    [ERR_DATA_LOSS] = {"data_loss", 500, 1},
    [ERR_UNAUTHENTICATED] = {"unauthenticated", 401, 4},
};

static const struct {
    int errnum;
    enum err_code code;
} errnos[] = {
    {ENOENT, ERR_NOT_FOUND},       {ESRCH, ERR_NOT_FOUND},       {ENODEV, ERR_NOT_FOUND},
    {ENXIO, ERR_NOT_FOUND},        {EEXIST, ERR_EXISTS},         {EADDRINUSE, ERR_EXISTS},
    {EACCES, ERR_DENIED},          {EPERM, ERR_DENIED},          {EROFS, ERR_DENIED},
    {ENOSPC, ERR_EXHAUSTED},       {EDQUOT, ERR_EXHAUSTED},      {EMFILE, ERR_EXHAUSTED},
    {ENFILE, ERR_EXHAUSTED},       {ENOMEM, ERR_EXHAUSTED},      {ENOBUFS, ERR_EXHAUSTED},
    {EFBIG, ERR_EXHAUSTED},        {E2BIG, ERR_EXHAUSTED},       {EMSGSIZE, ERR_EXHAUSTED},
    {EINVAL, ERR_INVALID},         {ENAMETOOLONG, ERR_INVALID},  {EILSEQ, ERR_INVALID},
    {EBADMSG, ERR_DATA_LOSS},      {EIO, ERR_DATA_LOSS},         {EUCLEAN, ERR_DATA_LOSS},
    {ERANGE, ERR_RANGE},           {EOVERFLOW, ERR_RANGE},       {EDOM, ERR_RANGE},
    {ETIMEDOUT, ERR_DEADLINE},     {ETIME, ERR_DEADLINE},        {ECANCELED, ERR_CANCELLED},
    {EINTR, ERR_CANCELLED},        {ECONNREFUSED, ERR_UNAVAILABLE}, {ECONNRESET, ERR_UNAVAILABLE},
    {ECONNABORTED, ERR_UNAVAILABLE}, {EPIPE, ERR_UNAVAILABLE},   {ENETUNREACH, ERR_UNAVAILABLE},
    {EHOSTUNREACH, ERR_UNAVAILABLE}, {EHOSTDOWN, ERR_UNAVAILABLE}, {ENETDOWN, ERR_UNAVAILABLE},
    {EADDRNOTAVAIL, ERR_UNAVAILABLE}, {ENOTCONN, ERR_UNAVAILABLE}, {ESHUTDOWN, ERR_UNAVAILABLE},
    {EAGAIN, ERR_UNAVAILABLE},     {EBUSY, ERR_PRECONDITION},    {ENOTDIR, ERR_PRECONDITION},
    {EISDIR, ERR_PRECONDITION},    {ENOTEMPTY, ERR_PRECONDITION}, {ELOOP, ERR_PRECONDITION},
    {EXDEV, ERR_PRECONDITION},     {ETXTBSY, ERR_PRECONDITION},  {ENOSYS, ERR_UNIMPLEMENTED},
    {EOPNOTSUPP, ERR_UNIMPLEMENTED}, {EAFNOSUPPORT, ERR_UNIMPLEMENTED}, {EPROTONOSUPPORT, ERR_UNIMPLEMENTED},
};

/* A message is one line that is safe to show on a terminal and to send as UTF-8, whatever was formatted into it. */
static void scrub(char *s)
{
    bool utf8 = str_is_utf8(str_from(s));

    while (*s != '\0') {
        unsigned char c = (unsigned char)*s;
        size_t n = utf8 ? str_utf8_len((struct str){s, strnlen(s, 4)}) : 1;
        if (c < 0x20 || c == 0x7f)
            *s = ' ';
        else if ((c >= 0x80 && !utf8) || str_is_trick((struct str){s, n}))
            memset(s, '?', n);
        s += n;
    }
}

/* Formats by way of a second buffer, since the arguments may lie in @dst itself. */
static void PRINTF(3, 0) format(char *dst, size_t size, const char *fmt, va_list ap)
{
    char tmp[ERR_MSG_MAX * 2];

    if (vsnprintf(tmp, sizeof(tmp), fmt, ap) < 0)
        tmp[0] = '\0';
    (void)str_copy(dst, size, str_from(tmp));
    scrub(dst);
}

/* Appends @more, shortening what is there if both do not fit: the cause is worth more than the end of the context. */
static void append(char dst[ERR_MSG_MAX], const char *sep, const char *more)
{
    char tail[ERR_MSG_MAX / 2];
    char head[ERR_MSG_MAX];
    size_t n;

    (void)snprintf(tail, sizeof(tail), "%s%.200s", sep, more);
    n = strlen(tail);
    (void)str_copy(head, ERR_MSG_MAX - n, str_from(dst));
    (void)str_copy(dst, ERR_MSG_MAX, str_from(head));
    n = strlen(dst);
    (void)str_copy(dst + n, ERR_MSG_MAX - n, str_from(tail));
}

static enum err_code valid_code(enum err_code code)
{
    return (int)code > ERR_OK && code < ERR_CODE_MAX ? code : ERR_UNKNOWN;
}

static void begin(struct err *err, enum err_code code, int sys, const char *file, int line)
{
    err->code = code;
    err->sys = sys;
    err->retryable = code == ERR_UNAVAILABLE || code == ERR_DEADLINE;
    err->reason = NULL;
    err->file = file;
    err->line = line;
    err->hint[0] = '\0';
}

int err_set_at(struct err *err, enum err_code code, const char *file, int line, const char *fmt, ...)
{
    va_list ap;

    code = valid_code(code);
    if (err == NULL)
        return -(int)code;
    va_start(ap, fmt);
    format(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    begin(err, code, 0, file, line);
    return -(int)code;
}

int err_sys_at(struct err *err, int errnum, const char *file, int line, const char *fmt, ...)
{
    enum err_code code = err_code_from_errno(errnum);
    char text[128];
    va_list ap;

    if (err == NULL)
        return -(int)code;
    va_start(ap, fmt);
    format(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    append(err->msg, ": ", strerror_r(errnum, text, sizeof(text)));
    begin(err, code, errnum, file, line);
    return -(int)code;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    char context[ERR_MSG_MAX / 2];
    char old[ERR_MSG_MAX];
    va_list ap;

    if (err == NULL)
        return -(int)ERR_UNKNOWN;
    va_start(ap, fmt);
    format(context, sizeof(context), fmt, ap);
    va_end(ap);
    (void)str_copy(old, sizeof(old), str_from(err->msg));
    (void)snprintf(err->msg, sizeof(err->msg), "%s: ", context);
    size_t n = strlen(err->msg);
    (void)str_copy(err->msg + n, sizeof(err->msg) - n, str_from(old));
    if (err->code == ERR_OK)
        begin(err, ERR_UNKNOWN, 0, __FILE__, __LINE__);
    return -(int)err->code;
}

void err_hint(struct err *err, const char *fmt, ...)
{
    va_list ap;

    if (err == NULL)
        return;
    va_start(ap, fmt);
    format(err->hint, sizeof(err->hint), fmt, ap);
    va_end(ap);
}

int err_ensure(struct err *err, int rc)
{
    if (rc < 0 && err != NULL && err->code == ERR_OK) {
        (void)err_set(err, ERR_INTERNAL, "internal error (code %d without details)", -rc);
        err->code = valid_code((enum err_code) - rc);
    }
    return rc;
}

const char *err_code_name(enum err_code code)
{
    return (int)code >= 0 && code < ERR_CODE_MAX ? codes[code].name : codes[ERR_UNKNOWN].name;
}

enum err_code err_code_from_name(const char *name)
{
    if (name == NULL)
        return ERR_UNKNOWN;
    for (unsigned i = 0; i < ERR_CODE_MAX; i++) {
        if (strcmp(codes[i].name, name) == 0)
            return (enum err_code)i;
    }
    return ERR_UNKNOWN;
}

int err_http_status(enum err_code code)
{
    return (int)code >= 0 && code < ERR_CODE_MAX ? codes[code].http : codes[ERR_UNKNOWN].http;
}

int err_exit_status(enum err_code code)
{
    return (int)code >= 0 && code < ERR_CODE_MAX ? codes[code].exit : codes[ERR_UNKNOWN].exit;
}

enum err_code err_code_from_errno(int errnum)
{
    for (size_t i = 0; i < ARRAY_LEN(errnos); i++) {
        if (errnos[i].errnum == errnum)
            return errnos[i].code;
    }
    return ERR_UNKNOWN;
}

void err_bug(const char *file, int line, const char *what)
{
    char text[256];
    int n = snprintf(text, sizeof(text), "BUG at %s:%d: %s\n", file, line, what);

    if (n > 0)
        (void)!write(STDERR_FILENO, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
    abort();
}
