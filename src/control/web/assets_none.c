/* SPDX-License-Identifier: Apache-2.0 */
/* assets_none — see assets.h: what is served where no dashboard was built in. */
#include "control/web/assets.h"

static const char page[] = "<!doctype html>\n"
                           "<html lang=\"en\">\n"
                           "<meta charset=\"utf-8\">\n"
                           "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                           "<title>Davit</title>\n"
                           "<h1>Davit is running</h1>\n"
                           "<p>This control plane was built without its dashboard. The command line has all that it has:\n"
                           "<code>davit --help</code>.</p>\n"
                           "<p>To add the dashboard, build again where Node.js 18 or later and npm are installed:</p>\n"
                           "<pre>meson configure build -Dweb=build\nninja -C build</pre>\n"
                           "</html>\n";

const struct asset assets[] = {
    {"/index.html", "text/html; charset=utf-8", "\"none-1\"", false, {page, sizeof(page) - 1}, {"", 0}},
};
const size_t n_assets = sizeof(assets) / sizeof(assets[0]);
const bool assets_built = false;
