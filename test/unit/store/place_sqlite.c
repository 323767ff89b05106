/* SPDX-License-Identifier: Apache-2.0 */
/* See place.h. */
#include "store/place.h"

#include <stdio.h>

#include "base/fd.h"

bool place_available(void)
{
    return true;
}

void place_make(struct place *p)
{
    (void)snprintf(p->dir, sizeof(p->dir), "/tmp/davit-store-XXXXXX");
    BUG_ON(mkdtemp(p->dir) == NULL);
    (void)snprintf(p->target, sizeof(p->target), "%s/x.db", p->dir);
}

void place_remove(struct place *p)
{
    BUG_ON(fd_remove_tree(p->dir, NULL) != 0);
}

static int whole_fn(struct db *db, void *arg, struct err *err)
{
    return db_get_i64(db, arg, err, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'", "");
}

bool place_is_whole(struct store *store)
{
    int64_t n = 0;
    return store_read_sync(store, whole_fn, &n, NULL) == 0 && n == 1;
}
