/* SPDX-License-Identifier: Apache-2.0 */
/* spec_internal — what the files of src/spec share about image references. Not included elsewhere.  Thread: any; pure. */
#ifndef DAVIT_SPEC_SPEC_INTERNAL_H
#define DAVIT_SPEC_SPEC_INTERNAL_H

#include "spec/spec.h"

/* [host[:port]/]path[:tag][@sha256:hex]? */
bool spec_is_image(struct str ref);
/* "sha256:" and 64 hex digits in lower case? */
bool spec_is_digest(struct str d);
/* Where the tag begins (its colon), or NULL: a colon behind the last slash. */
const char *spec_tag_at(struct str ref);

#endif
