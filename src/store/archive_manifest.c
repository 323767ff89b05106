/* SPDX-License-Identifier: Apache-2.0 */
/* archive_manifest — see archive.h: what a backup says of itself, and a look at all of it. */
#include <string.h>

#include "base/json.h"
#include "store/archive.h"
#include "store/engine.h"

enum { MANIFEST_MAX = 64 * 1024 };

int archive_put_manifest(struct archive_writer *w, const char *part, const char *store, const struct store_migration *migrations, size_t n,
                         struct err *err)
{
    AUTO_BUF text = BUF_INIT(MANIFEST_MAX);
    struct jsonw j;
    jsonw_init(&j, &text);
    jsonw_object(&j);
    jsonw_key(&j, "format");
    jsonw_u64(&j, ARCHIVE_FORMAT);
    jsonw_key(&j, "part");
    jsonw_string(&j, part);
    jsonw_key(&j, "version");
    jsonw_string(&j, DAVIT_VERSION);
    jsonw_key(&j, "createdUs");
    jsonw_u64(&j, clock_real());
    jsonw_key(&j, "store");
    jsonw_string(&j, store);
    jsonw_key(&j, "schema");
    jsonw_array(&j);
    for (size_t i = 0; i < n; i++)
        jsonw_string(&j, migrations[i].name);
    jsonw_array_end(&j);
    jsonw_object_end(&j);
    if (jsonw_end(&j) < 0)
        return err_set(err, ERR_EXHAUSTED, "the manifest of the backup is too large");
    const struct str payload = buf_str(&text);
    return archive_put(w, 'M', &payload, 1, err);
}

/* --- Reading ---------------------------------------------------------------------------------------------------------------------- */

static int read_text(struct json *j, char *dst, size_t size, struct err *err)
{
    struct str s;
    int rc = json_read_str(j, &s, err);
    if (rc == 0 && (s.n == 0 || s.n >= size || memchr(s.p, '\n', s.n) || memchr(s.p, '\0', s.n)))
        return err_set(err, ERR_DATA_LOSS, "the manifest of the backup is damaged");
    if (rc == 0)
        (void)str_copy(dst, size, s);
    return rc;
}

static int read_schema(struct json *j, struct archive_manifest *m, struct err *err)
{
    size_t at = 0;
    int rc = json_enter(j, JSON_ARRAY, err);
    if (rc < 0)
        return rc;
    while ((rc = json_item(j, err)) == 1) {
        char name[ARCHIVE_NAME_MAX + 1];
        if ((rc = read_text(j, name, sizeof(name), err)) < 0)
            return rc;
        if (m->n_schema == ARCHIVE_SCHEMA_MAX || at + strlen(name) + 2 > sizeof(m->schema))
            return err_set(err, ERR_PRECONDITION, "the backup has more steps of the schema than this program knows");
        memcpy(m->schema + at, name, strlen(name));
        at += strlen(name);
        m->schema[at++] = '\n';
        m->schema[at] = '\0';
        m->n_schema++;
    }
    return rc;
}

static int read_key(struct json *j, struct str key, struct archive_manifest *m, struct err *err)
{
    if (str_eq(key, STR("format")))
        return json_read_u64(j, &m->format, err);
    if (str_eq(key, STR("createdUs")))
        return json_read_u64(j, &m->created, err);
    if (str_eq(key, STR("part")))
        return read_text(j, m->part, sizeof(m->part), err);
    if (str_eq(key, STR("version")))
        return read_text(j, m->version, sizeof(m->version), err);
    if (str_eq(key, STR("store")))
        return read_text(j, m->store, sizeof(m->store), err);
    if (str_eq(key, STR("schema")) && m->n_schema == 0)
        return read_schema(j, m, err);
    return json_skip(j, err);
}

/* "1.2.3" as a number that compares; what is no version is older than all. */
static uint64_t version_number(const char *text)
{
    struct str s = str_from(text);
    uint64_t v = 0, n;
    for (int i = 0; i < 3; i++) {
        struct str field = str_cut(&s, '.');
        size_t digits = 0;
        while (digits < field.n && field.p[digits] >= '0' && field.p[digits] <= '9')
            digits++;
        v = v * 100000 + (str_to_u64((struct str){field.p, digits}, 99999, &n) == 0 ? n : 0);
    }
    return v;
}

static int check_version(const struct archive_manifest *m, struct err *err)
{
    if (m->format <= ARCHIVE_FORMAT && version_number(m->version) <= version_number(DAVIT_VERSION))
        return 0;
    (void)err_set(err, ERR_PRECONDITION, "the backup was written by Davit %s, this is " DAVIT_VERSION, m->version);
    err_hint(err, "install that version or a newer one, then restore");
    return -ERR_PRECONDITION;
}

int archive_read_manifest(struct archive_reader *r, struct archive_manifest *ret, struct err *err)
{
    AUTO_JSON j;
    struct str payload, key;
    enum json_type end;
    char kind = 0;
    int rc = archive_next(r, &kind, &payload, err);
    *ret = (struct archive_manifest){0};
    json_init(&j, rc == 1 ? payload : STR(""));
    if (rc < 0)
        return rc;
    rc = rc == 1 && kind == 'M' && payload.n <= MANIFEST_MAX ? json_enter(&j, JSON_OBJECT, NULL) : -ERR_DATA_LOSS;
    while (rc == 0 && (rc = json_key(&j, &key, NULL)) == 1) {
        rc = read_key(&j, key, ret, err);
        if (rc == -ERR_PRECONDITION)
            return rc;
    }
    if (rc == 0)
        rc = json_next(&j, &end, NULL);
    if (rc < 0 || ret->format == 0 || !ret->part[0] || !ret->version[0])
        return err_set(err, ERR_DATA_LOSS, "the manifest of the backup is damaged");
    return check_version(ret, err);
}

/* --- All of it -------------------------------------------------------------------------------------------------------------------- */

struct table {
    size_t n;
    struct value columns[VALUES_MAX];
};

static int look_at_table(struct str payload, struct table *t, struct err *err)
{
    struct str name;
    int rc = archive_table(&payload, &t->n, &name, err);
    for (size_t i = 0; rc == 0 && i < t->n; i++) {
        t->columns[i] = (struct value){0};
        rc = archive_column(&payload, &t->columns[i].letter, &name, err);
    }
    return rc;
}

static int look_at_part(struct archive_reader *r, struct err *err)
{
    struct table table = {0};
    struct str payload, name, content;
    unsigned files = 0;
    char kind = 0;
    int rc;
    while ((rc = archive_next(r, &kind, &payload, err)) == 1) {
        if (kind == 'F' && ++files <= ARCHIVE_FILES_MAX)
            rc = archive_file(payload, &name, &content, err);
        else if (kind == 'T')
            rc = look_at_table(payload, &table, err);
        else if (kind == 'R' && table.n)
            rc = archive_row(payload, table.columns, table.n, err);
        else
            rc = err_set(err, ERR_DATA_LOSS, "the backup is damaged: a record that does not belong there");
        if (rc < 0)
            return rc;
    }
    return rc;
}

static int verify(struct archive_reader *r, struct archive_manifest *ret, bool *ret_has_user, struct err *err)
{
    struct archive_manifest user;
    int rc = archive_read_manifest(r, ret, err);
    if (rc == 0 && strcmp(ret->part, "controlplane") != 0)
        rc = err_set(err, ERR_INVALID, "this is no backup of a control plane");
    if (rc == 0)
        rc = look_at_part(r, err);
    if (rc == 0)
        rc = archive_next_part(r, err);
    *ret_has_user = rc == 1;
    if (rc == 1)
        rc = archive_read_manifest(r, &user, err);
    if (rc == 0 && *ret_has_user)
        rc = look_at_part(r, err);
    if (rc == 0 && *ret_has_user && archive_next_part(r, err) != 0)
        rc = err_set(err, ERR_DATA_LOSS, "the backup is damaged: something follows its end");
    return rc;
}

int archive_verify(int fd, struct archive_manifest *ret, bool *ret_has_user, struct err *err)
{
    struct archive_reader r;
    int rc = archive_open(&r, fd, err);
    if (rc == 0)
        rc = verify(&r, ret, ret_has_user, err);
    archive_reader_release(&r);
    return rc;
}
