/* SPDX-License-Identifier: Apache-2.0 */
/* place — an empty place for a database of the engine that the test was linked with: a file, or a schema of the server in DAVIT_TEST_PG. */
#ifndef DAVIT_TEST_STORE_PLACE_H
#define DAVIT_TEST_STORE_PLACE_H

#include "store/store.h"

struct place {
    char dir[64]; /* for files of the test */
    char target[256];
};

/* False, with a word on stderr: this engine cannot be tested here. */
bool place_available(void);
void place_make(struct place *p);
/* Nothing may be open there. */
void place_remove(struct place *p);
/* Asks the engine whether all is well inside. */
bool place_is_whole(struct store *store);

#endif
