/* SPDX-License-Identifier: Apache-2.0 */
/* dashboard — where the dashboard of this control plane is, and the one-time link by which its owner's password is set.  Thread: loop, on a fiber. */
#ifndef DAVIT_CLI_DASHBOARD_H
#define DAVIT_CLI_DASHBOARD_H

#include "cli/cli.h"

struct dashboard {
    char *url;   /* "http://127.0.0.1:7441/"; NULL: it is served nowhere */
    char *setup; /* the link, or NULL: there is an owner */
    usec_t expires;
    bool owner;
};

/* Waits: asks for the address; where there is no owner, or with @reset, makes a link. dashboard_release, also after a failure. */
int dashboard_find(struct cli *cli, bool reset, struct dashboard *ret, struct err *err) MUST_USE;
/* For people, on stdout. */
void dashboard_print(const struct dashboard *d);
/* "dashboard":...,"setup":... without braces. */
void dashboard_print_json(const struct dashboard *d);
void dashboard_release(struct dashboard *d);

#endif
