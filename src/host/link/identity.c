/* SPDX-License-Identifier: Apache-2.0 */
/* identity — the credentials of an enrolled agent as agent_config.h tells of them: read from the bundle that is active, and checked. */
#include <stdio.h>

#include "base/fd.h"
#include "host/link/bundle.h"
#include "host/link/floor_time.h"
#include "ident/cert.h"

void agent_identity_release(struct agent_identity *id)
{
    id->key_pem = secret_free(id->key_pem);
    buf_release(&id->cert_pem);
    buf_release(&id->ca_pem);
}

static int misfit(struct err *err, const char *what)
{
    (void)err_set(err, ERR_PRECONDITION, "%s", what);
    err_hint(err, "make a token on the control plane with \"davit server token NAME\" and enroll again with --force");
    return -(int)ERR_PRECONDITION;
}

/* For one that is out of date the chain is judged as of its last moment. */
static usec_t judged_at(const struct agent_identity *id)
{
    usec_t when = floor_time_judge(id->not_before);
    return when < id->not_after ? when : id->not_after - USEC_SEC;
}

static int check(const struct agent_config *c, const struct key *key, struct agent_identity *id, struct err *err)
{
    AUTO_CERT cert = NULL;
    AUTO_FREE char *uri = str_printf("davit://server/%s", c->server_id);
    struct cert_info info;
    char until[CLOCK_TEXT_SIZE];
    struct err why = ERR_INIT;
    if (cert_from_pem(buf_str(&id->cert_pem), &cert, err) < 0)
        return misfit(err, "client.crt is no certificate");
    if (!cert_fits_key(cert, key))
        return misfit(err, "client.key is not the key of client.crt");
    if (cert_info(cert, &info, err) < 0 || !str_eq(str_from(info.uri), str_from(uri)))
        return misfit(err, "client.crt is not the certificate of the server in config.yaml");
    id->not_before = info.not_before;
    id->not_after = info.not_after;
    if (cert_verify_chain(buf_str(&id->cert_pem), buf_str(&id->ca_pem), CERT_CLIENT, judged_at(id), NULL, &why) < 0) {
        AUTO_FREE char *text = str_printf("client.crt does not lead to ca.crt: %s", why.msg);
        return misfit(err, text);
    }
    if (info.not_after > clock_checked())
        return 0;
    clock_format(info.not_after, 0, until);
    (void)err_set(err, ERR_PRECONDITION, "the certificate of this server expired at %s", until);
    err_hint(err, "the agent asks for a new one by itself while it runs; if it is refused, make a token with \"davit server token NAME\" and "
                  "enroll again with --force");
    return AGENT_IDENTITY_EXPIRED;
}

static int load_from(const struct agent_config *c, const char *dir, struct agent_identity *id, struct err *err)
{
    AUTO_FREE char *key_path = str_printf("%s/client.key", dir);
    AUTO_FREE char *cert_path = str_printf("%s/client.crt", dir);
    AUTO_FREE char *ca_path = str_printf("%s/ca.crt", dir);
    AUTO_KEY key = NULL;
    int rc = key_load(key_path, &key, err);
    if (rc == 0)
        rc = fd_read_file(cert_path, &id->cert_pem, err);
    if (rc == 0)
        rc = fd_read_file(ca_path, &id->ca_pem, err);
    if (rc == -(int)ERR_NOT_FOUND)
        err_hint(err, "make a token on the control plane with \"davit server token NAME\" and enroll again with --force");
    if (rc == 0)
        rc = check(c, key, id, err);
    if (rc < 0)
        return rc;
    int made = key_to_pem(key, &id->key_pem, err);
    return made < 0 ? made : rc;
}

static int load(const struct agent_config *c, enum bundle_which which, struct agent_identity *ret, struct err *err)
{
    CLEANUP(agent_identity_release) struct agent_identity id = {.cert_pem = BUF_INIT(CERT_PEM_MAX), .ca_pem = BUF_INIT(CERT_PEM_MAX)};
    AUTO_FREE char *dir = bundle_dir(c, which, &id.generation);
    if (!dir)
        return err_set(err, ERR_NOT_FOUND, "there are no previous credentials");
    int rc = load_from(c, dir, &id, err);
    if (rc < 0)
        return rc;
    *ret = id;
    id = (struct agent_identity){0};
    return rc;
}

int agent_identity_load(const struct agent_config *c, struct agent_identity *ret, struct err *err)
{
    int rc = load(c, BUNDLE_ACTIVE, ret, err);
    if (rc == -(int)ERR_NOT_FOUND) /* exchanged by another process while it was read? */
        rc = load(c, BUNDLE_ACTIVE, ret, err);
    if (rc >= 0)
        return rc;
    int older = load(c, BUNDLE_PREVIOUS, ret, NULL);
    if (older < 0)
        return rc;
    ret->fallback = true;
    return older;
}

int agent_identity_load_previous(const struct agent_config *c, struct agent_identity *ret, struct err *err)
{
    return load(c, BUNDLE_PREVIOUS, ret, err);
}
