// SPDX-License-Identifier: Apache-2.0
// The services of interop.proto for @grpc/grpc-js.
"use strict";
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const definition = loader.loadSync("interop.proto", {
  includeDirs: [process.env.INTEROP_PROTO, process.env.DAVIT_PROTO],
  defaults: true,
});
exports.grpc = grpc;
exports.testing = grpc.loadPackageDefinition(definition).grpc.testing;
