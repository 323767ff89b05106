/* SPDX-License-Identifier: Apache-2.0 */
/* details — a failure as google.rpc.Status with one google.rpc.ErrorInfo: reason (the code's name), domain "davit", and hint, origin and
 * whether a retry helps as metadata. gRPC carries the former in grpc-status-details-bin, Connect the latter among its details.
 * Both are so small that they are written and read here by field numbers.  Source: googleapis google/rpc/status.proto, error_details.proto.
 * Input trust: peer.  Thread: any. */
#ifndef DAVIT_RPC_DETAILS_H
#define DAVIT_RPC_DETAILS_H

#include "base/buf.h"
#include "base/err.h"

#define DETAILS_INFO_TYPE "google.rpc.ErrorInfo"
enum { DETAILS_MAX = 2048 }; /* of either, for any struct err */

/* Each appends the wire form: 0, or -ERR_EXHAUSTED without room in @out. */
int details_info(const struct err *failure, struct buf *out) MUST_USE;
int details_status(const struct err *failure, struct buf *out) MUST_USE;
/* Adds to @err (code and message stand) what an ErrorInfo of ours in @status tells. A Status of another code is not believed; what is malformed
 * changes nothing. */
void details_read(struct str status, struct err *err);
/* The same from the ErrorInfo itself. */
void details_read_info(struct str info, struct err *err);

#endif
