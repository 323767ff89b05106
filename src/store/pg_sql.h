/* SPDX-License-Identifier: Apache-2.0 */
/* pg_sql — our own constant SQL, which is written as SQLite reads it, as PostgreSQL reads it.
 *   anywhere      ? -> $1, $2 ...; x'00ff' -> '\x00ff'::bytea; strings, quoted names and comments stay as they are
 *   columns of CREATE TABLE and ALTER TABLE
 *                 INTEGER -> BIGINT, BLOB -> BYTEA, REAL -> DOUBLE PRECISION, TEXT -> TEXT COLLATE "C" (order by bytes, as in SQLite),
 *                 INTEGER PRIMARY KEY -> an identity column; STRICT, WITHOUT ROWID and AUTOINCREMENT are dropped
 * A table that is not STRICT and a trigger are refused: the one would take other values here, the other is another language.
 * No library, so that it is tested alone.  Thread: any.  Input trust: ours. */
#ifndef DAVIT_STORE_PG_SQL_H
#define DAVIT_STORE_PG_SQL_H

#include "base/buf.h"
#include "base/err.h"

/* Appends the translation of one or more statements. -ERR_INTERNAL: see above, or text that does not end; -ERR_EXHAUSTED: past @out->max. */
int pg_sql_translate(const char *sql, struct buf *out, struct err *err) MUST_USE;

#endif
