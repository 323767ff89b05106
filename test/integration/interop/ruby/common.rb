# SPDX-License-Identifier: Apache-2.0
# The folder of the gRPC gem of Debian, which ships the interop client and server, and the keys they use.
GRPC_RUBY = File.join(Gem::Specification.find_by_name('grpc').gem_dir, 'src/ruby')
