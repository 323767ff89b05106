/* SPDX-License-Identifier: Apache-2.0 */
/* doors — 7440 and 7441 as a browser sees them: under which names they may be asked, from which pages, and with what. A page of somebody else's can
 * make a browser send requests here; what keeps them out, each by itself:
 *   the name: only those that are ours, so that no name of theirs that they point here (DNS rebinding) is answered;
 *   the page: Origin, where it is sent, must be the very host that is asked, and Sec-Fetch-Site "same-origin" or "none";
 *   the cookie: SameSite=Strict, and on 7440 with the prefix __Host-; no call has a content type that a form could send.
 * 7441 is plain HTTP, and browsers do not tell ports of a host apart in cookies: of another port of this machine the second line keeps pages out, and
 * what a service there reads in the cookie opens nothing on 7440, which others reach (session_secret).
 * Thread: loop.  Input trust: anybody. */
#ifndef DAVIT_CONTROL_DOORS_H
#define DAVIT_CONTROL_DOORS_H

#include "control/people/passes.h"

enum { DOOR_COOKIE_SIZE = 256 };

/* Is @host ("name[:port]" as asked for; NULL: none) one of our names? On 7441: 127.0.0.1, localhost, [::1]; on 7440 also the public name, the
 * advertised one, the name of this machine, and any IP address. */
bool doors_host_ok(const struct control *c, bool local, const char *host);
/* May a page of @origin (NULL: no page, or the same) make calls to @host? @site: Sec-Fetch-Site, or NULL. */
bool doors_page_ok(bool local, const char *host, const char *origin, const char *site);
/* The session's secret in the cookies of @call; empty: none, or more than one. Borrowed from @call. */
struct str doors_cookie(const struct rpc_call *call, bool local);
/* The value of set-cookie that gives @secret to the browser; @secret NULL: that takes it away. */
void doors_set_cookie(bool local, const char *secret, char dst[DOOR_COOKIE_SIZE]);

/* Is @call asked for by a name of ours and, if by a page, by one of ours? 0; -ERR_DENIED. */
int doors_judge_page(const struct control *c, const struct rpc_call *call, bool local, struct err *err) MUST_USE;
/* What @call shows: *ret NULL: nothing; *ret_scope stays unless it is a token that was exchanged (exchange.h), which may so much at most.
 * -ERR_UNAUTHENTICATED: something that does not hold. Borrowed. */
int doors_find_pass(struct control *c, struct rpc_call *call, bool local, struct pass **ret, enum pass_scope *ret_scope, struct err *err) MUST_USE;
/* Judges a call of people, binds its caller. 0; -ERR_DENIED, -ERR_UNAUTHENTICATED. */
int doors_judge(struct control *c, struct rpc_call *call, bool local, const struct rpc_method *method, struct err *err) MUST_USE;

#endif
