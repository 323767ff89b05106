/* SPDX-License-Identifier: Apache-2.0 */
/* assets — the files of the dashboard as they were built into this program; a table that web/ generates (meson option -Dweb). With -Dweb=none
 * there is one page that says how to build it.  Thread: any, all of it is constant.  Trust: ours. */
#ifndef DAVIT_CONTROL_ASSETS_H
#define DAVIT_CONTROL_ASSETS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

struct asset {
    const char *path;  /* "/index.html", "/assets/app-3f2a.js" */
    const char *type;  /* content-type */
    const char *etag;  /* quoted, of the plain bytes */
    bool immutable;    /* its name holds a hash of its content */
    struct str plain;
    struct str gzip;   /* empty: not kept compressed */
};

/* Sorted by path. */
extern const struct asset assets[];
extern const size_t n_assets;
/* Was a dashboard built in? */
extern const bool assets_built;

#endif
