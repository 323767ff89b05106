/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_haproxy_answer — what HAProxy's socket answers, by each of its readers. The first byte chooses. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "host/reach/haproxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct str text = {(const char *)data + 1, size - 1};
    struct haproxy_table t;
    struct haproxy_server s;
    struct str cells[HAPROXY_COLUMNS_MAX], value;
    uint32_t pids[HAPROXY_OLD_MAX];
    size_t n = 0;
    unsigned load = 0;
    static const char *const columns[] = {"a", "b"};
    switch (data[0] % 5) {
    case 0:
        (void)haproxy_load(text, "w1", &load, NULL);
        break;
    case 1:
        if (haproxy_servers_begin(&t, text, NULL) == 0)
            while (haproxy_servers_next(&t, &s, NULL) == 1)
                if (s.name.n > size)
                    abort();
        break;
    case 2:
        if (haproxy_old_workers(text, pids, &n, NULL) == 0 && n > HAPROXY_OLD_MAX)
            abort();
        break;
    case 3:
        (void)haproxy_info(text, "description", &value);
        break;
    default:
        if (haproxy_table_begin(&t, text, ',', columns, 2, NULL) == 0)
            while (haproxy_table_next(&t, cells, NULL) == 1)
                if (cells[0].n > size || cells[1].n > size)
                    abort();
    }
    return 0;
}
