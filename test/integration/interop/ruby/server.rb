# SPDX-License-Identifier: Apache-2.0
# server.rb [--use_tls true]: gRPC's own interop server, on a port of loopback that it prints.
require_relative 'common'
require 'grpc'

# The server itself listens on every address and tells no port.
module OnLoopback
  def add_http2_port(host, creds)
    port = super(host.sub('0.0.0.0', '127.0.0.1'), creds)
    puts "127.0.0.1:#{port}"
    $stdout.flush
    port
  end
end
GRPC::RpcServer.prepend(OnLoopback)

ARGV.push('--port', '0')
load File.join(GRPC_RUBY, 'pb/test/server.rb')
