# SPDX-License-Identifier: Apache-2.0
# client.rb HOST:PORT tls|plain CASE...: gRPC's own interop client, all cases in one process; prints "ok CASE" for each that passed.
require_relative 'common'

address, security, *cases = ARGV
host, port = address.split(':')
ARGV.clear
load File.join(GRPC_RUBY, 'pb/test/client.rb') # does nothing by itself: it is not the program

failed = 0
cases.each do |name|
  args = Args.new
  args.server_host = host
  args.server_port = port
  args.server_host_override = 'foo.test.google.fr'
  args.secure = security == 'tls'
  args.use_test_ca = true
  args.test_case = name
  begin
    NamedTests.new(create_stub(args), args).method(name).call
    puts "ok #{name}"
  rescue StandardError => e
    puts "FAILED #{name}: #{e.inspect}"
    failed = 1
  end
end
exit failed
