/* SPDX-License-Identifier: Apache-2.0 */
/* pki_dir — the two directories of keys and certificates, and the steps that bring them from nothing to serving. */
#include "ident/pki_dir.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "ident/ident_internal.h"
#include "ident/jws.h"
#include "ident/key.h"
#include "ident/pki_internal.h"

const struct authority pki__authorities[PKI_AUTHORITIES] = {
    {"server-ca", {"Davit server CA", "controlplane", CERT_CLIENT | CERT_SERVER, CERT_CA_DAYS, NULL}},
    {"agents-ca", {"Davit agents CA", "server", CERT_CLIENT, CERT_CA_DAYS, NULL}},
    {"sandboxes-ca", {"Davit sandboxes CA", "sandbox", CERT_CLIENT | CERT_SERVER, CERT_CA_DAYS, "container"}},
};

static const char CONTROL_URI[] = "davit://controlplane";
static const char CLI_URI[] = "davit://cli";

/* --- Files --- */

char *pki__file(const char *dir, const char *name, const char *suffix)
{
    return str_printf("%s/%s%s", dir, name, suffix);
}

int pki__key(const char *dir, const char *name, struct key **ret, struct err *err)
{
    AUTO_FREE char *path = pki__file(dir, name, ".key");
    return key_load(path, ret, err);
}

int pki_read(const char *dir, const char *name, struct buf *out, struct err *err)
{
    AUTO_FREE char *path = pki__file(dir, name, "");
    return fd_read_file(path, out, err);
}

int pki__cert(const char *dir, const char *name, struct buf *pem, struct cert **ret, struct err *err)
{
    AUTO_FREE char *path = pki__file(dir, name, ".crt");
    size_t before = pem->len;
    int rc = fd_read_file(path, pem, err);
    if (rc == 0) {
        rc = cert_from_pem((struct str){pem->data + before, pem->len - before}, ret, err);
        if (rc < 0 && err)
            rc = err_wrap(err, "%s", path);
    }
    return rc;
}

int pki__save(const char *dir, const char *name, const struct cert *cert, const struct cert *issuer, struct err *err)
{
    AUTO_FREE char *path = pki__file(dir, name, ".crt");
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    int rc = cert_to_pem(cert, &pem, err);
    if (rc == 0 && issuer)
        rc = cert_to_pem(issuer, &pem, err);
    return rc < 0 ? rc : fd_write_file(path, pem.data, pem.len, 0644, err);
}

int pki_pin(const char *dir, uint8_t ret[SPKI_HASH_SIZE], struct err *err)
{
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    int rc = pki_read(dir, "root.crt", &pem, err);
    return rc < 0 ? rc : cert_pem_pin(buf_str(&pem), ret, err);
}

/* Past two thirds of its life? */
static bool aged(const struct cert_info *info)
{
    usec_t life = info->not_after - info->not_before;
    return clock_real() >= info->not_before + life / 3 * 2;
}

/* Is NAME.crt there, of the key @key, young, and valid under @roots? Whatever else it is, it has to be issued anew. */
static bool still_good(const char *dir, const char *name, const struct key *key, struct str roots, struct cert **ret)
{
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    AUTO_CERT cert = NULL;
    struct cert_info info;
    if (pki__cert(dir, name, &pem, &cert, NULL) < 0 || (key && !cert_fits_key(cert, key)) ||
        cert_verify_chain(buf_str(&pem), roots, 0, clock_real(), &info, NULL) < 0 || aged(&info))
        return false;
    if (ret)
        *ret = TAKE(cert);
    return true;
}

static int request_for(const struct key *key, const char *common_name, struct csr **ret, struct err *err)
{
    AUTO_BUF der = BUF_INIT(CSR_MAX);
    int rc = csr_make(key, common_name, &der, err);
    return rc < 0 ? rc : csr_parse(buf_str(&der), ret, err);
}

/* --- The user's side --- */

static int user_root(const char *dir, struct key **ret_key, struct cert **ret_cert, struct buf *pem, struct err *err)
{
    AUTO_FREE char *path = pki__file(dir, "root", ".key");
    AUTO_KEY key = NULL;
    AUTO_CERT cert = NULL;
    int rc = pki__cert(dir, "root", pem, &cert, err);
    bool made = rc == -ERR_NOT_FOUND;
    if (rc < 0 && !made)
        return rc;
    if (made && err)
        *err = ERR_INIT;
    /* With a certificate the key must be there: a new one would silently be another root. */
    rc = made ? key_load_or_make(path, &key, err) : key_load(path, &key, err);
    if (rc < 0)
        return rc;
    if (made) {
        rc = cert_make_root(key, "Davit root", CERT_ROOT_DAYS, &cert, err);
        if (rc == 0)
            rc = pki__save(dir, "root", cert, NULL, err);
        if (rc == 0)
            rc = cert_to_pem(cert, pem, err);
    } else if (!cert_fits_key(cert, key)) {
        rc = err_set(err, ERR_PRECONDITION, "root.key and root.crt in %s do not belong together", dir);
    }
    if (rc == 0) {
        *ret_key = TAKE(key);
        *ret_cert = TAKE(cert);
    }
    return rc;
}

static int user_cli(const char *dir, const struct key *root_key, const struct cert *root, struct str roots, struct err *err)
{
    AUTO_FREE char *path = pki__file(dir, "cli", ".key");
    AUTO_KEY key = NULL;
    AUTO_CSR csr = NULL;
    AUTO_CERT cert = NULL;
    struct leaf_spec spec = {.common_name = "Davit CLI", .uri = CLI_URI, .usage = CERT_CLIENT,
                             .not_after = clock_add(clock_real(), CERT_CLI_DAYS * USEC_DAY)};
    int rc = key_load_or_make(path, &key, err);
    if (rc < 0 || still_good(dir, "cli", key, roots, NULL))
        return rc;
    rc = request_for(key, spec.common_name, &csr, err);
    if (rc == 0)
        rc = cert_sign_leaf(root_key, root, csr, &spec, &cert, err);
    return rc < 0 ? rc : pki__save(dir, "cli", cert, NULL, err);
}

int pki__jwk(const struct key *key, struct buf *out, struct err *err)
{
    struct jwk jwk;
    struct jsonw w;
    int rc = jwk_of_key(key, &jwk, err);
    if (rc < 0)
        return rc;
    jsonw_init(&w, out);
    jwk_write(&jwk, &w);
    BUG_ON(jsonw_end(&w) < 0 || buf_append_byte(out, '\n') < 0);
    return 0;
}

/* Of the key, which is made at the user if there is none, the public half goes to the control plane, and only that. */
int pki__hand_over_assertion_key(const char *dir_user, const char *dir_control, struct err *err)
{
    AUTO_FREE char *key_path = pki__file(dir_user, PKI_ASSERTION, ".key");
    AUTO_FREE char *path = pki__file(dir_control, PKI_ASSERTION, ".jwk");
    AUTO_BUF present = BUF_INIT(JWK_MAX), text = BUF_INIT(JWK_MAX);
    AUTO_KEY key = NULL;
    int rc = key_load_or_make(key_path, &key, err);
    if (rc == 0)
        rc = pki__jwk(key, &text, err);
    if (rc < 0)
        return rc;
    if (fd_read_file(path, &present, NULL) == 0 && str_eq(buf_str(&present), buf_str(&text)))
        return 0;
    return fd_write_file(path, text.data, text.len, 0644, err);
}

int pki_user_init(const char *dir, struct err *err)
{
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    AUTO_KEY key = NULL;
    AUTO_CERT root = NULL;
    int rc = fd_mkdir_p(dir, 0700, err);
    if (rc == 0)
        rc = pki_user_settle(dir, err);
    if (rc >= 0)
        rc = user_root(dir, &key, &root, &pem, err);
    return rc < 0 ? rc : user_cli(dir, key, root, buf_str(&pem), err);
}

/* One intermediate: signed, unless what is there is still good for the key of its request. */
static int sign_authority(const struct key *root_key, const struct cert *root, struct str roots, const char *dir, const struct authority *a,
                          struct err *err)
{
    AUTO_FREE char *path = pki__file(dir, a->name, ".csr");
    AUTO_BUF der = BUF_INIT(CSR_MAX);
    AUTO_CSR csr = NULL;
    AUTO_CERT present = NULL;
    AUTO_CERT cert = NULL;
    struct cert_info info;
    uint8_t wanted[SPKI_HASH_SIZE];
    int rc = fd_read_file(path, &der, err);
    if (rc == 0)
        rc = csr_parse(buf_str(&der), &csr, err);
    if (rc == 0)
        rc = csr_spki_hash(csr, wanted, err);
    if (rc < 0)
        return err ? err_wrap(err, "request of the %s", a->name) : rc;
    if (still_good(dir, a->name, NULL, roots, &present) && cert_info(present, &info, NULL) == 0 &&
        memcmp(info.spki_hash, wanted, sizeof(wanted)) == 0)
        return 0;
    rc = cert_sign_intermediate(root_key, root, csr, &a->spec, &cert, err);
    return rc < 0 ? rc : pki__save(dir, a->name, cert, NULL, err);
}

/* Agents carry the root of their control plane: it is never exchanged for another one here. When the user's side stopped in the middle of a change
 * (pki_roots.h) that the control plane has begun, it goes on with it. */
static int same_root(const char *dir_user, const char *dir, bool *ret_present, struct err *err)
{
    uint8_t pin[SPKI_HASH_SIZE];
    int rc = pki_pin(dir, pin, err);
    *ret_present = rc == 0;
    if (rc == -ERR_NOT_FOUND) {
        if (err)
            *err = ERR_INIT;
        return 0;
    }
    if (rc == 0)
        rc = pki_user_switch(dir_user, pin, err);
    if (rc == 1) {
        rc = err_set(err, ERR_PRECONDITION, "the control plane in %s belongs to another root", dir);
        err_hint(err, "Use the configuration directory of the user who set it up.");
    }
    return rc;
}

int pki_user_sign(const char *dir_user, const char *dir_control, struct err *err)
{
    AUTO_BUF pem = BUF_INIT(CERT_PEM_MAX);
    AUTO_KEY key = NULL;
    AUTO_CERT root = NULL;
    bool present = false;
    int rc = pki_control_settle(dir_control, err);
    if (rc >= 0)
        rc = same_root(dir_user, dir_control, &present, err);
    if (rc == 0)
        rc = pki__cert(dir_user, "root", &pem, &root, err);
    if (rc == 0)
        rc = pki__key(dir_user, "root", &key, err);
    for (size_t i = 0; rc == 0 && i < PKI_AUTHORITIES; i++)
        rc = sign_authority(key, root, buf_str(&pem), dir_control, &pki__authorities[i], err);
    if (rc == 0)
        rc = pki__hand_over_assertion_key(dir_user, dir_control, err);
    /* Last: with it the directory is complete. */
    return rc < 0 || present ? rc : pki__save(dir_control, "root", root, NULL, err);
}

/* --- The control plane's side --- */

int pki__prepare_authority(const char *dir, const struct authority *a, struct err *err)
{
    AUTO_FREE char *key_path = pki__file(dir, a->name, ".key");
    AUTO_FREE char *csr_path = pki__file(dir, a->name, ".csr");
    AUTO_KEY key = NULL;
    AUTO_BUF der = BUF_INIT(CSR_MAX);
    AUTO_CSR csr = NULL;
    uint8_t own[SPKI_HASH_SIZE], asked[SPKI_HASH_SIZE];
    int rc = key_load_or_make(key_path, &key, err);
    if (rc < 0)
        return rc;
    if (fd_read_file(csr_path, &der, NULL) == 0 && csr_parse(buf_str(&der), &csr, NULL) == 0 && csr_spki_hash(csr, asked, NULL) == 0 &&
        key_spki_hash(key, own, NULL) == 0 && memcmp(own, asked, sizeof(own)) == 0)
        return 0;
    buf_clear(&der);
    rc = csr_make(key, a->spec.common_name, &der, err);
    return rc < 0 ? rc : fd_write_file(csr_path, der.data, der.len, 0644, err);
}

int pki_control_prepare(const char *dir, struct err *err)
{
    AUTO_FREE char *path = pki__file(dir, "controlplane", ".key");
    AUTO_KEY key = NULL;
    int rc = fd_mkdir_p(dir, 0700, err);
    for (size_t i = 0; rc == 0 && i < PKI_AUTHORITIES; i++)
        rc = pki__prepare_authority(dir, &pki__authorities[i], err);
    return rc < 0 ? rc : key_load_or_make(path, &key, err);
}

/* Certificate, key and text of an intermediate. */
static int authority_load(const char *dir, const struct authority *a, struct key **ret_key, struct cert **ret_cert, struct buf *pem,
                          struct err *err)
{
    int rc = pki__cert(dir, a->name, pem, ret_cert, err);
    if (rc == -ERR_NOT_FOUND) {
        rc = err_set(err, ERR_PRECONDITION, "the certificate of the %s is not signed yet", a->name);
        err_hint(err, "Run `davit up` as the user who owns this control plane.");
    }
    return rc < 0 ? rc : pki__key(dir, a->name, ret_key, err);
}

int pki_control_leaf(const char *dir, const char *const *names, size_t n_names, struct err *err)
{
    AUTO_BUF roots = BUF_INIT(CERT_PEM_MAX);
    AUTO_BUF root = BUF_INIT(CERT_PEM_MAX);
    AUTO_BUF ca_pem = BUF_INIT(CERT_PEM_MAX);
    AUTO_KEY ca_key = NULL;
    AUTO_KEY key = NULL;
    AUTO_CERT ca = NULL;
    AUTO_CERT cert = NULL;
    AUTO_CERT present = NULL;
    AUTO_CERT first = NULL;
    AUTO_CSR csr = NULL;
    struct leaf_spec spec = {.common_name = "Davit control plane", .uri = CONTROL_URI, .usage = CERT_CLIENT | CERT_SERVER, .names = names,
                             .n_names = n_names, .not_after = clock_add(clock_real(), CERT_LEAF_DAYS * USEC_DAY)};
    int rc = authority_load(dir, &pki__authorities[SERVER_CA], &ca_key, &ca, &ca_pem, err);
    if (rc == 0)
        rc = pki__key(dir, "controlplane", &key, err);
    /* One under a root that is on its way out is not good any more. */
    if (rc == 0)
        rc = pki__cert(dir, "root", &roots, &first, err);
    if (rc == 0)
        rc = cert_to_pem(first, &root, err);
    if (rc < 0)
        return rc;
    if (still_good(dir, "controlplane", key, buf_str(&root), &present) && cert_has_names(present, CONTROL_URI, names, n_names))
        return 0;
    rc = request_for(key, spec.common_name, &csr, err);
    if (rc == 0)
        rc = cert_sign_leaf(ca_key, ca, csr, &spec, &cert, err);
    if (rc == 0)
        rc = pki__save(dir, "controlplane", cert, ca, err);
    return rc < 0 ? rc : 1;
}

/* What @spec says, for the key in @csr_der, by the authority @which; leaf, intermediate and cross certificate are appended to @chain_pem. */
static int sign_chain(const char *dir, int which, struct str csr_der, const struct leaf_spec *spec, struct buf *chain_pem, struct pki_issued *ret,
                      struct err *err)
{
    AUTO_BUF ca_pem = BUF_INIT(CERT_PEM_MAX);
    AUTO_KEY ca_key = NULL;
    AUTO_CERT ca = NULL;
    AUTO_CERT cert = NULL;
    AUTO_CSR csr = NULL;
    struct cert_info info;
    int rc = csr_parse(csr_der, &csr, err);
    if (rc == 0)
        rc = authority_load(dir, &pki__authorities[which], &ca_key, &ca, &ca_pem, err);
    if (rc == 0)
        rc = cert_sign_leaf(ca_key, ca, csr, spec, &cert, err);
    if (rc == 0)
        rc = cert_info(cert, &info, err);
    AUTO_BUF chain = BUF_INIT(CERT_PEM_MAX);
    if (rc == 0)
        rc = cert_to_pem(cert, &chain, err);
    if (rc == 0)
        rc = cert_to_pem(ca, &chain, err);
    if (rc == 0)
        rc = pki_control_cross(dir, &chain, err);
    if (rc == 0 && buf_append_str(chain_pem, buf_str(&chain)) < 0)
        rc = err_set(err, ERR_EXHAUSTED, "no room for the certificate");
    if (rc < 0)
        return rc;
    (void)str_copy(ret->serial, sizeof(ret->serial), str_from(info.serial));
    ret->not_after = info.not_after; /* NOLINT(clang-analyzer-core.uninitialized.Assign): set when rc is 0 */
    memcpy(ret->spki_hash, info.spki_hash, sizeof(ret->spki_hash));
    memcpy(ret->cert_hash, info.cert_hash, sizeof(ret->cert_hash));
    return 0;
}

int pki_control_sign_agent(const char *dir, struct str csr_der, const char *server_id, uint32_t generation, usec_t lifetime,
                           struct buf *chain_pem, struct pki_issued *ret, struct err *err)
{
    if (!ident__is_uuid(server_id))
        return err_set(err, ERR_INVALID, "server id: a UUID in lower case is needed");
    AUTO_FREE char *uri = str_printf("davit://server/%s", server_id);
    AUTO_FREE char *name = str_printf("%s gen %" PRIu32, server_id, generation);
    struct leaf_spec spec = {.common_name = name, .uri = uri, .usage = CERT_CLIENT, .not_after = clock_add(clock_real(), lifetime)};
    return sign_chain(dir, AGENTS_CA, csr_der, &spec, chain_pem, ret, err);
}

int pki_control_sign_sandbox(const char *dir, struct str csr_der, const char *sandbox_id, const char *container_id, struct buf *chain_pem,
                             struct pki_issued *ret, struct err *err)
{
    if (!ident__is_uuid(sandbox_id))
        return err_set(err, ERR_INVALID, "sandbox id: a UUID in lower case is needed");
    if (strlen(container_id) != 64 || strspn(container_id, "0123456789abcdef") != 64)
        return err_set(err, ERR_INVALID, "container id: 64 hex digits are needed");
    AUTO_FREE char *uri = str_printf("davit://sandbox/%s", sandbox_id);
    AUTO_FREE char *container = str_printf("davit://container/%s", container_id);
    struct leaf_spec spec = {.common_name = sandbox_id, .uri = uri, .second_uri = container, .usage = CERT_CLIENT | CERT_SERVER,
                             .not_after = clock_add(clock_real(), CERT_SANDBOX_DAYS * USEC_DAY)};
    return sign_chain(dir, SANDBOXES_CA, csr_der, &spec, chain_pem, ret, err);
}

/* 0 there, 1 absent. */
static int file_there(const char *dir, const char *name, const char *suffix, struct err *err)
{
    AUTO_FREE char *path = pki__file(dir, name, suffix);
    struct stat st;
    if (stat(path, &st) == 0)
        return 0;
    return errno == ENOENT ? 1 : err_sys(err, errno, "cannot look at %s", path);
}

int pki_control_state(const char *dir, struct err *err)
{
    int prepared = file_there(dir, "controlplane", ".key", err);
    int signed_ = prepared < 0 ? prepared : file_there(dir, "root", ".crt", err);
    if (signed_ < 0)
        return signed_;
    /* The root is written last; where another intermediate has its certificate, the root is what is missing. */
    if (signed_ == 1 && file_there(dir, "server-ca", ".crt", NULL) != 0)
        return prepared == 1 ? 2 : 1;
    return pki_control_check(dir, err);
}
