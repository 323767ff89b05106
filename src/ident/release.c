/* SPDX-License-Identifier: Apache-2.0 */
/* release — reads and verifies the signed description of a release, see release.h. Versions are in release_version.c. */
#include "ident/release.h"

#include <string.h>

#include <openssl/evp.h>

#include "base/json.h"
#include "ident/ident_internal.h"

enum { SIGNATURE_SIZE = 64, KEY_ID_BYTES = 8 };
#define COUNTER_MAX ((1ULL << 53) - 1) /* what every reader of JSON keeps exactly */
#define SECONDS_MAX 253402300799ULL    /* the end of the year 9999 */

/* --- Keys and signatures --- */

void release_key_id(const struct release_key *key, char ret[RELEASE_KEY_ID_SIZE])
{
    uint8_t hash[32] = {0};
    ident__start();
    BUG_ON(EVP_Digest(key->public_key, RELEASE_KEY_SIZE, hash, NULL, EVP_sha256(), NULL) != 1);
    str_hex(hash, KEY_ID_BYTES, ret);
}

static bool signature_holds(const struct release_key *key, struct str metadata, const uint8_t signature[SIGNATURE_SIZE])
{
    EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key->public_key, RELEASE_KEY_SIZE);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = pkey && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
              EVP_DigestVerify(ctx, signature, SIGNATURE_SIZE, (const uint8_t *)metadata.p, metadata.n) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    return ok;
}

static bool is_hex(struct str s, size_t digits)
{
    for (size_t i = 0; i < s.n; i++)
        if (str_hex_digit(s.p[i]) < 0 || (s.p[i] >= 'A' && s.p[i] <= 'F'))
            return false;
    return s.n == digits;
}

/* One line: marks the key in @signed_by if it is one of ours and has signed. */
static int verify_line(struct str line, struct str metadata, const struct release_keys *keys, bool signed_by[RELEASE_KEYS],
                       struct err *err)
{
    uint8_t signature[SIGNATURE_SIZE];
    size_t n = 0;
    struct str id = str_cut(&line, ' ');
    if (!is_hex(id, RELEASE_KEY_ID_SIZE - 1) || !is_hex(line, (size_t)2 * SIGNATURE_SIZE) ||
        str_unhex(line, signature, sizeof(signature), &n) < 0)
        return err_set(err, ERR_UNAUTHENTICATED, "the signatures of the release cannot be read");
    for (size_t i = 0; i < keys->n; i++) {
        char ours[RELEASE_KEY_ID_SIZE];
        release_key_id(&keys->key[i], ours);
        if (!str_eq(id, str_from(ours)))
            continue;
        if (!signature_holds(&keys->key[i], metadata, signature))
            return err_set(err, ERR_UNAUTHENTICATED, "the signature of key %s is not one of this release", ours);
        signed_by[i] = true;
    }
    return 0;
}

int release_verify(struct str metadata, struct str signatures, const struct release_keys *keys, struct err *err)
{
    bool signed_by[RELEASE_KEYS] = {false};
    size_t lines = 0, n = 0;
    ident__start();
    if (keys->n != RELEASE_KEYS) {
        int rc = err_set(err, ERR_UNAUTHENTICATED, "this build of Davit has no release keys: it believes no release");
        err_hint(err, "Build it with -Drelease_keys=FILE; tools/release keygen makes keys.");
        return rc;
    }
    if (metadata.n == 0 || metadata.n > RELEASE_METADATA_MAX || signatures.n > RELEASE_SIGNATURES_MAX)
        return err_set(err, ERR_UNAUTHENTICATED, "a release of %zu bytes with %zu bytes of signatures", metadata.n, signatures.n);
    if (signatures.n > 0 && signatures.p[signatures.n - 1] != '\n')
        return err_set(err, ERR_UNAUTHENTICATED, "the signatures of the release are cut off");
    while (signatures.n > 0) {
        struct str line = str_cut(&signatures, '\n');
        if (++lines > RELEASE_SIGNATURE_LINES_MAX)
            return err_set(err, ERR_UNAUTHENTICATED, "more than %d signatures", RELEASE_SIGNATURE_LINES_MAX);
        int rc = verify_line(line, metadata, keys, signed_by, err);
        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < keys->n; i++)
        n += signed_by[i];
    if (n < RELEASE_THRESHOLD)
        return err_set(err, ERR_UNAUTHENTICATED, "the release is signed by %zu of the keys that this build knows; %d are needed",
                       n, RELEASE_THRESHOLD);
    return 0;
}

/* --- The text --- */

/* The next member must be @key. */
static int expect_key(struct json *j, const char *key, struct err *err)
{
    struct str got;
    int rc = json_key(j, &got, err);
    if (rc < 0)
        return rc;
    return rc == 1 && str_eq(got, str_from(key)) ? 0 : err_set(err, ERR_INVALID, "release: \"%s\" was expected", key);
}

static int read_text(struct json *j, const char *key, char *dst, size_t size, bool (*valid)(struct str), struct err *err)
{
    struct str s;
    int rc = expect_key(j, key, err);
    if (rc == 0)
        rc = json_read_str(j, &s, err);
    if (rc == 0 && (s.n == 0 || s.n >= size || !valid(s)))
        rc = err_set(err, ERR_INVALID, "release: \"%s\" is not valid", key);
    if (rc == 0)
        (void)str_copy(dst, size, s);
    return rc;
}

static int read_number(struct json *j, const char *key, uint64_t min, uint64_t max, uint64_t *ret, struct err *err)
{
    int rc = expect_key(j, key, err);
    if (rc == 0)
        rc = json_read_u64(j, ret, err);
    if (rc == 0 && (*ret < min || *ret > max))
        rc = err_set(err, ERR_INVALID, "release: \"%s\" is out of range", key);
    return rc;
}

static bool is_sha256(struct str s)
{
    return is_hex(s, RELEASE_SHA256_SIZE - 1);
}

/* A name in the release's directory, and no other place. */
static bool is_file_name(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '_' && c != '-' && c != '.')
            return false;
    }
    return s.n > 0 && s.p[0] != '.' && s.p[0] != '-';
}

/* No more members. */
static int expect_end(struct json *j, struct err *err)
{
    struct str key;
    int rc = json_key(j, &key, err);
    return rc == 1 ? err_set(err, ERR_INVALID, "release: a member that is not known") : rc;
}

static int read_file(struct json *j, struct release *ret, struct err *err)
{
    struct release_file *file = &ret->files[ret->n_files];
    int rc = json_enter(j, JSON_OBJECT, err);
    if (rc == 0)
        rc = read_text(j, "platform", file->platform, sizeof(file->platform), str_is_label, err);
    if (rc == 0)
        rc = read_text(j, "name", file->name, sizeof(file->name), is_file_name, err);
    if (rc == 0)
        rc = read_number(j, "size", 1, RELEASE_FILE_SIZE_MAX, &file->size, err);
    if (rc == 0)
        rc = read_text(j, "sha256", file->sha256, sizeof(file->sha256), is_sha256, err);
    if (rc == 0)
        rc = expect_end(j, err);
    for (size_t i = 0; rc == 0 && i < ret->n_files; i++)
        if (str_eq(str_from(ret->files[i].platform), str_from(file->platform)) ||
            str_eq(str_from(ret->files[i].name), str_from(file->name)))
            rc = err_set(err, ERR_INVALID, "release: platform or name of a file occurs twice");
    if (rc == 0)
        ret->n_files++;
    return rc;
}

static int read_files(struct json *j, struct release *ret, struct err *err)
{
    int rc = expect_key(j, "files", err);
    if (rc == 0)
        rc = json_enter(j, JSON_ARRAY, err);
    while (rc == 0 && (rc = json_item(j, err)) == 1) {
        if (ret->n_files == RELEASE_FILES_MAX)
            return err_set(err, ERR_INVALID, "release: more than %d files", RELEASE_FILES_MAX);
        rc = read_file(j, ret, err);
    }
    if (rc == 0 && ret->n_files == 0)
        rc = err_set(err, ERR_INVALID, "release: no files");
    return rc;
}

static int read_members(struct json *j, struct release *ret, struct err *err)
{
    uint64_t format = 0, created = 0, expires = 0;
    int rc = json_enter(j, JSON_OBJECT, err);
    if (rc == 0)
        rc = read_number(j, "format", 1, 1, &format, err);
    if (rc == 0)
        rc = read_text(j, "channel", ret->channel, sizeof(ret->channel), str_is_label, err);
    if (rc == 0)
        rc = read_text(j, "version", ret->version, sizeof(ret->version), release_version_valid, err);
    if (rc == 0)
        rc = read_number(j, "counter", 1, COUNTER_MAX, &ret->counter, err);
    if (rc == 0)
        rc = read_text(j, "min_from", ret->min_from, sizeof(ret->min_from), release_version_valid, err);
    if (rc == 0)
        rc = read_number(j, "created", 1, SECONDS_MAX, &created, err);
    if (rc == 0)
        rc = read_number(j, "expires", created + 1, SECONDS_MAX, &expires, err);
    if (rc == 0)
        rc = read_files(j, ret, err);
    if (rc == 0)
        rc = expect_end(j, err);
    ret->created = created * USEC_SEC;
    ret->expires = expires * USEC_SEC;
    return rc;
}

/* The one text that says what @r says. */
static int write_canonical(const struct release *r, struct buf *out)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_object(&w);
    jsonw_key(&w, "format");
    jsonw_u64(&w, 1);
    jsonw_key(&w, "channel");
    jsonw_string(&w, r->channel);
    jsonw_key(&w, "version");
    jsonw_string(&w, r->version);
    jsonw_key(&w, "counter");
    jsonw_u64(&w, r->counter);
    jsonw_key(&w, "min_from");
    jsonw_string(&w, r->min_from);
    jsonw_key(&w, "created");
    jsonw_u64(&w, r->created / USEC_SEC);
    jsonw_key(&w, "expires");
    jsonw_u64(&w, r->expires / USEC_SEC);
    jsonw_key(&w, "files");
    jsonw_array(&w);
    for (size_t i = 0; i < r->n_files; i++) {
        jsonw_object(&w);
        jsonw_key(&w, "platform");
        jsonw_string(&w, r->files[i].platform);
        jsonw_key(&w, "name");
        jsonw_string(&w, r->files[i].name);
        jsonw_key(&w, "size");
        jsonw_u64(&w, r->files[i].size);
        jsonw_key(&w, "sha256");
        jsonw_string(&w, r->files[i].sha256);
        jsonw_object_end(&w);
    }
    jsonw_array_end(&w);
    jsonw_object_end(&w);
    return jsonw_end(&w) < 0 ? -ERR_EXHAUSTED : buf_append_byte(out, '\n');
}

int release_parse(struct str metadata, struct release *ret, struct err *err)
{
    enum json_type type;
    AUTO_JSON j;
    AUTO_BUF canonical = BUF_INIT(RELEASE_METADATA_MAX);
    json_init(&j, metadata);
    *ret = (struct release){0};
    if (metadata.n > RELEASE_METADATA_MAX)
        return err_set(err, ERR_INVALID, "release: more than %d bytes", RELEASE_METADATA_MAX);
    int rc = read_members(&j, ret, err);
    if (rc == 0)
        rc = json_next(&j, &type, err);
    if (rc < 0)
        return rc;
    /* Twice-escaped letters, blanks, 1e0 for 1: what two readers might take for two things. */
    if (write_canonical(ret, &canonical) < 0 || !str_eq(buf_str(&canonical), metadata))
        return err_set(err, ERR_INVALID, "release: the text is not in its canonical form");
    return 0;
}

int release_open(struct str metadata, struct str signatures, const struct release_keys *keys, usec_t now, struct release *ret,
                 struct err *err)
{
    int rc = release_verify(metadata, signatures, keys, err);
    if (rc == 0)
        rc = release_parse(metadata, ret, err);
    if (rc == 0 && now >= ret->expires) {
        rc = err_set(err, ERR_PRECONDITION, "release %s has expired", ret->version);
        err_hint(err, "Its makers have to sign it again, or there is a newer one. Is the clock right?");
    }
    return rc;
}

/* --- Use --- */

const struct release_file *release_file_for(const struct release *release, struct str platform)
{
    for (size_t i = 0; i < release->n_files; i++)
        if (str_eq(platform, str_from(release->files[i].platform)))
            return &release->files[i];
    return NULL;
}

const char *release_platform(void)
{
#if defined(__x86_64__)
    return "linux-amd64";
#elif defined(__aarch64__)
    return "linux-arm64";
#else
#    error "Davit runs on x86-64 and arm64"
#endif
}

int release_may_follow(const struct release *release, struct str installed, uint64_t counter, struct err *err)
{
    if (!release_version_valid(installed))
        return err_set(err, ERR_INVALID, "the installed version is none");
    int order = release_version_compare(str_from(release->version), installed);
    if (order == 0)
        return 1;
    if (order < 0)
        return err_set(err, ERR_PRECONDITION, "release %s is older than the installed " STR_FMT, release->version,
                       STR_ARG(installed));
    if (release->counter < counter)
        return err_set(err, ERR_PRECONDITION,
                       "release %s has the counter %llu, but one with %llu was seen before: it is an old one", release->version,
                       (unsigned long long)release->counter, (unsigned long long)counter);
    if (release_version_compare(installed, str_from(release->min_from)) < 0) {
        int rc = err_set(err, ERR_PRECONDITION, "release %s needs at least version %s, and " STR_FMT " is installed",
                         release->version, release->min_from, STR_ARG(installed));
        err_hint(err, "Update to a version in between first.");
        return rc;
    }
    return 0;
}
