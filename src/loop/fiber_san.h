/* SPDX-License-Identifier: Apache-2.0 */
/* fiber_san — what the address sanitizer and valgrind must be told when the stack changes; nothing in a plain build.
 * Not included outside of src/loop. */
#ifndef DAVIT_LOOP_FIBER_SAN_H
#define DAVIT_LOOP_FIBER_SAN_H

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif

#ifdef FIBER_ASAN
#include <sanitizer/common_interface_defs.h>
#define FIBER_SAN_LEAVE(save, bottom, size) __sanitizer_start_switch_fiber((save), (bottom), (size))
#define FIBER_SAN_ENTER(saved, bottom, size) __sanitizer_finish_switch_fiber((saved), (bottom), (size))
#else
#define FIBER_SAN_LEAVE(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#define FIBER_SAN_ENTER(saved, bottom, size) ((void)(saved), (void)(bottom), (void)(size))
#endif

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define FIBER_VALGRIND_REGISTER(low, high) VALGRIND_STACK_REGISTER((low), (high))
#define FIBER_VALGRIND_DEREGISTER(id) VALGRIND_STACK_DEREGISTER(id)
#else
#define FIBER_VALGRIND_REGISTER(low, high) 0U
#define FIBER_VALGRIND_DEREGISTER(id) ((void)(id))
#endif

#endif
