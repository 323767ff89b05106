/* SPDX-License-Identifier: Apache-2.0 */
/* Releases: the text up to the first NUL, signatures behind it. What is read holds to the limits of its header, and no signature of a
 * stranger is believed. */
#include <stdint.h>
#include <string.h>

#include "ident/release.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct release_keys KEYS = {.n = RELEASE_KEYS, .key = {{{1}}, {{2}}, {{3}}}};
    struct release r;
    struct err err = ERR_INIT;
    struct str signatures = {(const char *)data, size};
    struct str text = str_cut(&signatures, '\0');
    BUG_ON(release_verify(text, signatures, &KEYS, &err) != -ERR_UNAUTHENTICATED || err.msg[0] == '\0');
    err = ERR_INIT;
    if (release_parse(text, &r, &err) < 0) {
        BUG_ON(err.code != ERR_INVALID || err.msg[0] == '\0');
        return 0;
    }
    BUG_ON(r.n_files == 0 || r.n_files > RELEASE_FILES_MAX || r.expires <= r.created || r.counter == 0);
    BUG_ON(!release_version_valid(str_from(r.version)) || release_version_compare(str_from(r.version), str_from(r.version)) != 0);
    for (size_t i = 0; i < r.n_files; i++) {
        BUG_ON(strchr(r.files[i].name, '/') || r.files[i].name[0] == '.' || r.files[i].size == 0 || strlen(r.files[i].sha256) != 64);
        BUG_ON(release_file_for(&r, str_from(r.files[i].platform)) != &r.files[i]);
    }
    return 0;
}
