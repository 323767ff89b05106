// SPDX-License-Identifier: Apache-2.0
// TestService and UnimplementedService for @connectrpc/connect, from the FileDescriptorSet that protoc made.
"use strict";
const fs = require("node:fs");
const { fromBinary, createFileRegistry } = require("@bufbuild/protobuf");
const { FileDescriptorSetSchema } = require("@bufbuild/protobuf/wkt");

const set = fromBinary(FileDescriptorSetSchema, fs.readFileSync(process.env.INTEROP_SET));
const registry = createFileRegistry(set);
exports.TestService = registry.getService("grpc.testing.TestService");
exports.UnimplementedService = registry.getService("grpc.testing.UnimplementedService");
