/* SPDX-License-Identifier: Apache-2.0 */
/* See place.h. */
#include "store/place.h"

#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"

bool place_available(void)
{
    if (getenv("DAVIT_TEST_PG"))
        return true;
    (void)fprintf(stderr, "DAVIT_TEST_PG names no PostgreSQL\n");
    return false;
}

void place_make(struct place *p)
{
    static unsigned n;
    (void)snprintf(p->dir, sizeof(p->dir), "/tmp/davit-store-XXXXXX");
    BUG_ON(mkdtemp(p->dir) == NULL);
    (void)snprintf(p->target, sizeof(p->target), "%s#t%d_%u", getenv("DAVIT_TEST_PG"), (int)getpid(), n++);
}

static int drop_fn(struct db *db, void *arg, struct err *err)
{
    AUTO_FREE char *sql = str_printf("DROP SCHEMA IF EXISTS %s CASCADE", (const char *)arg);
    return db_exec(db, err, sql, "");
}

void place_remove(struct place *p)
{
    struct store *store = NULL;
    struct str rest = str_from(p->target);
    struct str url = str_cut(&rest, '#');
    AUTO_FREE char *janitor = str_printf(STR_FMT "#janitor%d", STR_ARG(url), (int)getpid());
    BUG_ON(store_open(NULL, janitor, NULL, 0, &store, NULL) != 0);
    BUG_ON(store_write_sync(store, drop_fn, (char *)(uintptr_t)rest.p, NULL) != 0);
    (void)store_close(store);
    BUG_ON(fd_remove_tree(p->dir, NULL) != 0);
}

bool place_is_whole(struct store *store)
{
    (void)store;
    return true;
}
