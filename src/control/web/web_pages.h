/* SPDX-License-Identifier: Apache-2.0 */
/* web_pages — the files of the dashboard (assets.h) on 7440 and 7441; on 7440 also what front_pages.h serves.
 * GET and HEAD; a file by its path; index.html for every other path without a dot, for the dashboard has routes of its own. Files that have a hash in
 * their name are kept by browsers for good, others are asked for again by their ETag. Each answer says what a page may do: nothing from elsewhere, no
 * script or style that is not a file of ours, no frame around it.
 * Asked for by a name that is not ours (doors.h): 421.  Thread: loop, on a fiber.  Input trust: anybody. */
#ifndef DAVIT_CONTROL_WEB_PAGES_H
#define DAVIT_CONTROL_WEB_PAGES_H

#include "control/web/assets.h"
#include "rpc/rpc.h"

/* @ctx: the struct control. */
rpc_page_handler web_pages;
rpc_page_handler web_pages_local;

/* The file for @path (without query), or NULL; for tests. */
const struct asset *web_pages_find(struct str path);
/* Does @list of accept-encoding take gzip? For tests. */
bool web_pages_takes_gzip(const char *list);
/* Is @etag in @list of if-none-match? For tests. */
bool web_pages_has_etag(const char *list, const char *etag);

#endif
