/* SPDX-License-Identifier: Apache-2.0 */
/* front_pages — what 7440 serves besides calls; see front.h. */
#ifndef DAVIT_CONTROL_FRONT_PAGES_H
#define DAVIT_CONTROL_FRONT_PAGES_H

#include "rpc/rpc.h"

/* @ctx: the struct control. */
rpc_page_handler front_page;

#endif
