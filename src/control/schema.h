/* SPDX-License-Identifier: Apache-2.0 */
/* schema — the tables of the control plane as numbered migrations.  Entries are only ever appended.  Static, any thread. */
#ifndef DAVIT_CONTROL_SCHEMA_H
#define DAVIT_CONTROL_SCHEMA_H

#include "store/store.h"

extern const struct store_migration schema_migrations[];
extern const size_t schema_n_migrations;

#endif
