/* SPDX-License-Identifier: Apache-2.0 */
/* Frames between the halves of a sandbox's supervisor: the first byte says which way. What is taken is in range and is taken again. */
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "init/facts.h"
#include "init/wire.h"

static void check_ready(const struct wire_ready *r)
{
    const char *word = r->text;

    BUG_ON(r->words > WIRE_WORDS_MAX || r->bytes > WIRE_TEXT_MAX);
    for (uint32_t i = 0; i < r->words; i++)
        word += strlen(word) + 1;
    BUG_ON(word != r->text + r->bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct facts_process p;
    union wire_frame f, again;

    if (size == 0)
        return 0;
    enum wire_way way = data[0] & 1 ? WIRE_TO_SESSION : WIRE_TO_INIT;
    (void)!facts_parse((struct str){(const char *)data + 1, size - 1}, &p);
    if (wire_parse(way, data + 1, size - 1, &f) < 0)
        return 0;
    BUG_ON(f.head.size != size - 1 || wire_size(f.head.type) != size - 1);
    BUG_ON(wire_parse(way, &f, f.head.size, &again) != 0 || memcmp(&f, &again, sizeof(f)) != 0);
    BUG_ON(wire_parse(way == WIRE_TO_INIT ? WIRE_TO_SESSION : WIRE_TO_INIT, &f, f.head.size, &again) == 0);
    if (f.head.type == WIRE_READY)
        check_ready(&f.ready);
    if (f.head.type == WIRE_SIGNAL)
        BUG_ON(!wire_signal_ok(f.signal.signo));
    if (f.head.type == WIRE_HELLO)
        BUG_ON(strlen(f.hello.user) >= sizeof(f.hello.user) || strlen(f.hello.home) >= sizeof(f.hello.home));
    return 0;
}
