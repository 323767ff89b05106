/* SPDX-License-Identifier: Apache-2.0 */
/* Variables as pasted: whatever comes, names are names, each once, within the limits; complaints are bounded. The first line is also a registry. */
#include <stdint.h>
#include <string.h>

#include "spec/env_text.h"
#include "spec/registry_name.h"
#include "spec/spec.h"

struct seen {
    unsigned taken, complaints;
};

static int take(void *arg, struct str name, struct str value)
{
    struct seen *s = arg;
    BUG_ON(!spec_is_env_name(name) || value.n > SPEC_ENV_VALUE_MAX || value.p[value.n] || memchr(value.p, '\0', value.n));
    BUG_ON(++s->taken > SPEC_ENV_MAX);
    return 0;
}

static void complain(void *arg, const char *what)
{
    struct seen *s = arg;
    BUG_ON(!str_starts(str_from(what), STR("line ")) || ++s->complaints > ENV_TEXT_ERRORS_MAX);
}

static void names(struct str s)
{
    char once[REGISTRY_NAME_SIZE], twice[REGISTRY_NAME_SIZE];
    struct str written;
    struct err err = ERR_INIT;
    registry_of_image(s, once, &written);
    BUG_ON(!*once || written.n > s.n);
    if (registry_name(s, once, &err) < 0)
        return;
    BUG_ON(registry_name(str_from(once), twice, NULL) < 0 || strcmp(once, twice) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size}, rest = text;
    struct seen seen = {0};
    const struct env_text_sink sink = {take, complain, &seen};
    int rc = env_text_parse(text, &sink);
    BUG_ON(rc < 0 || (rc == 1) != (seen.complaints > 0));
    names(str_cut(&rest, '\n'));
    return 0;
}
