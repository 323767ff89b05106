/* SPDX-License-Identifier: Apache-2.0 */
/* front — the listeners of 7440 and 7441, for who has no certificate of ours: people with a browser or an API token (doors.h), and on 7440 servers
 * that are to be installed or updated, and agents that come through an edge. 7440 opens with the first remote server, or where the control plane
 * has a public name. TLS with the certificate of the control plane, the root sent along; clients are known by what they say, see authz_web.
 * 7441 is plain and on loopback only. Both serve the dashboard, see web_pages.h.
 * Pages, GET and HEAD: /install.sh, that of the newest release with the address by which it was asked for put in; /releases/..., what lies in the
 * directory of releases and belongs to a release by its name. Nothing else. Symbolic links are not followed.
 * Limits: those of pages in rpc.h; FRONT_SCRIPT_MAX for the script.  Thread: loop.  Input trust: anybody. */
#ifndef DAVIT_CONTROL_FRONT_H
#define DAVIT_CONTROL_FRONT_H

#include "base/buf.h"
#include "control/control_internal.h"

enum { FRONT_SCRIPT_MAX = 256 * 1024 };

struct server;

/* Makes c->web and c->local with their pages; opens nothing. */
void front_start(struct control *c);
/* Waits: opens the listener unless it is open. */
int front_open(struct control *c, struct err *err) MUST_USE;
/* Opens 7441, unless --local-web-listen says none (control_check_options has judged it). A port that is taken is told and no failure. */
void front_open_local(struct control *c);
/* Address of 7441 as bound; "" where it is not open. Borrowed. */
const char *front_local_addr(const struct control *c);
/* Waits: takes the renewed certificate into use. */
void front_renew(struct control *c);
/* Address as bound; "" while it is not open. Borrowed. */
const char *front_addr(const struct control *c);
/* Appends "https://HOST[:PORT]" under which the agent of @s reaches it (NULL: a server that is new); @tunnel: through the edge of --hostname.
 * -ERR_PRECONDITION when it is not open, or there is no address. */
int front_base(const struct control *c, const struct server *s, bool tunnel, struct buf *out, struct err *err) MUST_USE;
/* The same for @s by its mode. */
int front_url(const struct control *c, const struct server *s, struct buf *out, struct err *err) MUST_USE;
/* Waits: appends the pin of its present key as curl wants it, "sha256//BASE64". */
int front_pin(struct control *c, struct buf *out, struct err *err) MUST_USE;

/* Which file below the directory of releases a path of /releases/ names; for tests. @path without the prefix. Parts are cut out of @path.
 * False: none. @ret_dir is empty where the file lies in the directory itself. */
bool front_release_path(struct str path, struct str *ret_dir, struct str *ret_name);
/* May this be put into the script as the host that it was asked for at? For tests. */
bool front_host_ok(struct str host);

#endif
