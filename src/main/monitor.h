/* SPDX-License-Identifier: Apache-2.0 */
/* monitor — PID 1 of the container davit-controlplane: starts davit-agent with the capabilities that the container has and davitd without any, as
 * another user; starts either again when it dies; ends both in order. It reads its command line, the addresses of its interfaces and nothing else:
 * no file, no socket.
 * davitd gets --inside with the address in the network that is named, and is reached nowhere else. When it ends with 0 the container ends with 0.
 * Where davitd does not live at all the container ends with 1.
 * Thread: one.  Errors: on stderr. */
#ifndef DAVIT_MAIN_MONITOR_H
#define DAVIT_MAIN_MONITOR_H

#define MONITOR_OPTION "--monitor"
#define MONITOR_USAGE  "davitd --monitor UID GID NETWORK/BITS /PATH/davitd [OPTIONS] -- /PATH/davit-agent run [OPTIONS]"

/* @argv: what stands behind MONITOR_OPTION, ended by NULL. Returns the exit status. */
int monitor_main(int argc, char **argv);

#endif
