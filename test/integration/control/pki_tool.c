/* SPDX-License-Identifier: Apache-2.0 */
/* pki_tool — makes the keys of a user and of a control plane, as `davit up` does: pki_tool USER_DIR STATE_DIR.
 * pki_tool agent DIR writes DIR/agent.key and a request for it, DIR/agent.csr. */
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "ident/cert.h"
#include "ident/pki_dir.h"

static int make_request(const char *dir, struct err *err)
{
    AUTO_KEY key = NULL;
    AUTO_BUF der = BUF_INIT(CSR_MAX);
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/agent.key", dir);
    int rc = key_load_or_make(path, &key, err);
    if (rc == 0)
        rc = csr_make(key, "agent", &der, err);
    (void)snprintf(path, sizeof(path), "%s/agent.csr", dir);
    return rc < 0 ? rc : fd_write_file(path, der.data, der.len, 0644, err);
}

static int make_both(const char *user, const char *state, struct err *err)
{
    int rc = pki_user_init(user, err);
    if (rc >= 0)
        rc = pki_control_prepare(state, err);
    return rc < 0 ? rc : pki_user_sign(user, state, err);
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    if (argc != 3)
        return 2;
    int rc = strcmp(argv[1], "agent") == 0 ? make_request(argv[2], &err) : make_both(argv[1], argv[2], &err);
    if (rc < 0)
        (void)fprintf(stderr, "pki_tool: %s\n", err.msg);
    return rc < 0 ? 1 : 0;
}
