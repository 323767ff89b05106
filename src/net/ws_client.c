/* SPDX-License-Identifier: Apache-2.0 */
/* ws_client — see ws_client.h. */
#include "net/ws_client.h"

#include <string.h>

#include "base/clock.h"
#include "net/ws_internal.h"

enum { OWN_FIELDS = 3, FIELDS_MAX = 64 };

#define REFUSAL_WAIT (2 * USEC_SEC)

void ws_refusal_release(struct ws_refusal *r)
{
    buf_release(&r->body);
    *r = (struct ws_refusal){0};
}

int ws_check_answer(const struct http_head *head, const char *key, const char *protocol, struct err *err)
{
    AUTO_FREE char *wanted = ws_proof(key);
    const char *proof = http_field_once(head, "sec-websocket-accept"),
               *chosen = http_field_once(head, "sec-websocket-protocol"), *to = http_field_once(head, "upgrade");
    if (head->status != 101 || !to || !str_eq_ci(str_from(to), STR("websocket")) ||
        !http_lists(head, "connection", STR("upgrade"), str_eq_ci))
        return err_set(err, ERR_UNIMPLEMENTED, "the answer is none to the handshake of a WebSocket");
    if (!proof || strcmp(proof, wanted) != 0)
        return err_set(err, ERR_UNIMPLEMENTED, "the answer does not prove that the handshake was read");
    if (http_field(head, "sec-websocket-extensions"))
        return err_set(err, ERR_UNIMPLEMENTED, "the answer chooses an extension that was not offered");
    if (!chosen || strcmp(chosen, protocol) != 0)
        return err_set(err, ERR_UNIMPLEMENTED, "the answer does not choose the sub-protocol %s", protocol);
    return 0;
}

/* What can be had of a refusal; its body is a courtesy that nothing waits for long. */
static void read_refusal(struct http_exchange *x, usec_t deadline, struct ws_refusal *r)
{
    const struct http_head *head = http_head(x);
    const char *type = http_field(head, "content-type"), *hint = http_field(head, "davit-hint");
    struct str rest = str_from(type ? type : "");
    usec_t limit = deadline_in(REFUSAL_WAIT);
    ws_refusal_release(r);
    r->status = head->status;
    r->json = str_eq_ci(str_trim(str_cut(&rest, ';')), STR("application/json"));
    if (hint)
        (void)str_copy(r->hint, sizeof(r->hint), str_from(hint));
    r->body = BUF_INIT(WS_REFUSAL_MAX);
    if (http_read_all(x, &r->body, deadline < limit ? deadline : limit, NULL) < 0)
        r->json = false; /* a part says nothing */
}

int ws_dial(struct http_client *client, const struct ws_request *req, const struct ws_handler *h, void *arg, usec_t deadline,
            struct ws **ret, struct ws_refusal *refusal, struct err *err)
{
    uint8_t nonce[WS_KEY_SIZE];
    struct http_field fields[FIELDS_MAX];
    struct http_exchange *x = NULL;
    struct conn *c = NULL;
    BUG_ON(req->n_fields > FIELDS_MAX - OWN_FIELDS);
    rng_bytes(nonce, sizeof(nonce));
    AUTO_FREE char *key = str_base64(nonce, sizeof(nonce));
    fields[0] = (struct http_field){"sec-websocket-key", key};
    fields[1] = (struct http_field){"sec-websocket-version", "13"};
    fields[2] = (struct http_field){"sec-websocket-protocol", req->protocol};
    for (size_t i = 0; i < req->n_fields; i++)
        fields[OWN_FIELDS + i] = req->fields[i];
    const struct http_request get = {
        .method = "GET", .target = req->target, .fields = fields, .n_fields = OWN_FIELDS + req->n_fields, .upgrade = true, .upgrade_to = "websocket"};
    int rc = http_request(client, &get, deadline, &x, err);
    if (rc < 0)
        return rc;
    if (http_head(x)->status != 101) {
        read_refusal(x, deadline, refusal);
        (void)http_finish(x);
        return 1;
    }
    rc = ws_check_answer(http_head(x), key, req->protocol, err);
    if (rc < 0) {
        (void)http_finish(x);
        return rc;
    }
    rc = http_take_conn(x, &c, err);
    if (rc < 0) {
        (void)http_finish(x);
        return rc;
    }
    *ret = ws_on(c, true, req->message_max, h, arg);
    return 0;
}
