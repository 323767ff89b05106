/* SPDX-License-Identifier: Apache-2.0 */
/* identity_fixture — servers of a test's control plane: recorded, enrolled, with key and certificate.  Thread: loop. */
#ifndef DAVIT_TEST_IDENTITY_FIXTURE_H
#define DAVIT_TEST_IDENTITY_FIXTURE_H

#include "control_fixture.h"
#include "ident/cert.h"

struct identity {
    struct key *key;
    struct buf csr, chain;
    struct secret *pem;
};

/* A key and a request for it; no certificate yet. */
void identity_make(struct identity *id);
void identity_release(struct identity *id);
/* The token of a new server, or with @renew another one of an old. The caller frees it. */
char *create(struct fixture *f, const char *name, bool renew);
/* Fills id->chain. */
int enroll(struct fixture *f, const char *token_text, struct identity *id, struct err *err);

#endif
