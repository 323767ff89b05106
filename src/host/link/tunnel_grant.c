/* SPDX-License-Identifier: Apache-2.0 */
/* tunnel_grant — see tunnel.h: what of a grant an agent in tunnel mode believes. */
#include <string.h>

#include "host/link/renew.h"
#include "host/link/tunnel.h"
#include "ident/cert.h"
#include "ident/jwt.h"

int tunnel_check_token(struct str token, const char *server_id, const struct key *key, uint32_t generation, struct jwt_claims *ret,
                       struct err *err)
{
    uint8_t hash[SPKI_HASH_SIZE];
    struct jwt_claims claims;
    struct err why = ERR_INIT;
    if (jwt_peek(token, &claims, &why) < 0 || key_spki_hash(key, hash, &why) < 0)
        return err_set(err, ERR_DATA_LOSS, "the access token was not accepted: %s", why.msg);
    if (!str_eq(str_from(claims.subject), str_from(server_id)))
        return err_set(err, ERR_DATA_LOSS, "the access token was not accepted: it is for another server");
    if (memcmp(hash, claims.key_hash, sizeof(hash)) != 0)
        return err_set(err, ERR_DATA_LOSS, "the access token was not accepted: it is for another key");
    if (claims.generation < generation)
        return err_set(err, ERR_DATA_LOSS, "the access token was not accepted: its generation is an older one");
    *ret = claims;
    return 0;
}

usec_t tunnel_too_soon(const struct jwt_claims *claims)
{
    usec_t life = claims->expires > claims->issued ? claims->expires - claims->issued : 0;
    return life / 10 < TUNNEL_TOO_SOON ? life / 10 : TUNNEL_TOO_SOON;
}

int tunnel_judge(const struct tunnel_held *h, const Davit__Link__V1__Credential *c, struct jwt_claims *ret, struct buf *roots,
                 struct err *err)
{
    struct jwt_claims claims;
    struct err why = ERR_INIT;
    int rc = tunnel_check_token(str_from(c->access_token), h->server_id, h->key, h->sealed ? h->generation : 0, &claims, err);
    if (rc < 0)
        return rc;
    if (h->sealed && claims.expires <= clock_add(h->now, tunnel_too_soon(&claims)))
        return err_set(err, ERR_DATA_LOSS, "the access token was not accepted: it is too near to its end");
    if (h->sealed && *c->ca_pem && cert_roots_believed(str_from(c->ca_pem), h->roots_pem, str_from(c->cross_pem), h->now, roots, &why) < 0)
        return err_set(err, ERR_DATA_LOSS, "the roots that came with the access token were not accepted: %s", why.msg);
    *ret = claims;
    return 0;
}
