# SPDX-License-Identifier: Apache-2.0
"""Direct mode, davitd against davit-agent and against strangers: both sides present certificates, and whoever has none that counts is refused,
on either side."""
import contextlib
import json
import queue
import shutil
import socket
import ssl

import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("cryptography")

from lib import daemon as daemon_lib  # noqa: E402
from lib import pki, proc  # noqa: E402

DAY = pki.DAY


@pytest.fixture(scope="module")
def control(api):
    d = daemon_lib.Daemon(api)
    d.start()
    d.token = d.add("edge")
    yield d
    d.close()


@pytest.fixture(scope="module")
def agent(control):
    """The directory of an enrolled agent, with its server id."""
    directory = control.dir / "agent"
    control.enroll(control.token, directory)
    directory.joinpath("id").write_text(control.show("edge").id)
    return directory


def server_uri(agent):
    return "davit://server/" + agent.joinpath("id").read_text()


def uri_of(der):
    san = pki.x509.load_der_x509_certificate(der).extensions.get_extension_for_class(pki.x509.SubjectAlternativeName).value
    return san.get_values_for_type(pki.x509.UniformResourceIdentifier)[0]


def copy_agent(agent, control, name, port):
    """Another directory with the same identity, which dials @port."""
    twin = control.dir / name
    shutil.copytree(agent, twin, ignore=shutil.ignore_patterns("*.sock", "lock", "id", "journal*"))
    config = (twin / "config.yaml").read_text()
    assert f"127.0.0.1:{control.link}" in config
    (twin / "config.yaml").write_text(config.replace(f"127.0.0.1:{control.link}", f"127.0.0.1:{port}"))
    return twin


# --- Who may talk to davitd ---------------------------------------------------------------------------------------------------------
def connect(control, api, key, chain):
    """Connect on the link with this certificate and a good greeting: the first answer, or the status it ends with."""
    hello = api.link.AgentMessage(hello=api.link.Hello(protocol_min=1, protocol_max=1, epoch=1, generation=1,
                                                       system={"hostname": "box", "arch": "amd64", "docker_version": "20.10"}))
    said = queue.SimpleQueue()
    said.put(hello)
    with control.channel(control.link, key, chain) as ch:
        call = api.link_grpc.LinkServiceStub(ch).Connect(iter(said.get, None), timeout=20)
        try:
            return next(call).WhichOneof("body")
        except grpc.RpcError as e:
            return e.code()
        except StopIteration:
            return "nothing"
        finally:
            said.put(None)


def status(control, api, key, chain):
    """What every call there comes to, also one that strangers may make on the ports of the dashboard."""
    from davit.control.v1 import people_pb2, people_pb2_grpc
    with control.channel(control.api, key, chain) as ch:
        def answer(call, request):
            try:
                call(request, timeout=20)
                return "answer"
            except grpc.RpcError as e:
                return e.code()
        all_of_them = {answer(api.status_grpc.StatusServiceStub(ch).GetStatus, api.status.GetStatusRequest()),
                       answer(people_pb2_grpc.SessionServiceStub(ch).GetSession, people_pb2.GetSessionRequest())}
        return all_of_them.pop() if len(all_of_them) == 1 else all_of_them


NOBODY, REFUSED, UNKNOWN = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED


def issued(control, ca, uri, **more):
    """Key and chain by an authority of the control plane, as a thief of its key would make them."""
    authority = pki.Authority.load(control.state, ca)
    key, cert = authority.leaf(uri, **more)
    return key, cert + authority.pem()


def strangers(control, agent):
    """What -> (key, chain), on the link, on the API."""
    other = pki.Authority.make()
    uri = server_uri(agent)
    cli = (control.user / "cli.key").read_bytes(), (control.user / "cli.crt").read_bytes()
    mine = (agent / "client.key").read_bytes(), (agent / "client.crt").read_bytes()
    sandbox = issued(control, "sandboxes-ca", "davit://sandbox/0b7e", usage="client")
    self_signed = pki.Authority.make()
    return {
        "no certificate": ((False, False), UNKNOWN, NOBODY),
        "another CA": (other.leaf(uri), NOBODY, NOBODY),
        "another CA, the CLI's name": (other.leaf("davit://cli"), NOBODY, NOBODY),
        "self-signed": ((pki.key_pem(self_signed.key), self_signed.pem()), NOBODY, NOBODY),
        "expired": (issued(control, "agents-ca", uri, start=-3 * DAY, life=-1 * DAY, usage="client"), NOBODY, NOBODY),
        "not valid yet": (issued(control, "agents-ca", uri, start=1 * DAY, usage="client"), NOBODY, NOBODY),
        "of a server, without use as a client": (issued(control, "agents-ca", uri, usage="server"), NOBODY, NOBODY),
        "a CLI's name by the agents' authority": (issued(control, "agents-ca", "davit://cli", usage="client"), NOBODY, NOBODY),
        "a CLI's name by the server's authority": (issued(control, "server-ca", "davit://cli"), NOBODY, NOBODY),
        "a server's name by the sandboxes' authority": (issued(control, "sandboxes-ca", uri, usage="client"), NOBODY, NOBODY),
        "of the right authority, but never recorded": (issued(control, "agents-ca", uri, usage="client"), UNKNOWN, REFUSED),
        "the CLI's, without a token": (cli, REFUSED, UNKNOWN),
        "a sandbox's": (sandbox, REFUSED, REFUSED),
        "the agent's own": (mine, "welcome", REFUSED),
    }


@pytest.mark.req("CL-23")
def test_davitd_refuses_every_client_without_a_valid_certificate(control, api, agent):
    got = {what: (connect(control, api, *pair), status(control, api, *pair)) for what, (pair, _, _) in strangers(control, agent).items()}
    assert got == {what: (link, on_api) for what, (_, link, on_api) in strangers(control, agent).items()}


def test_davitd_speaks_no_older_tls_and_no_plain_text(control, agent):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=control.root().decode())
    context.load_cert_chain(agent / "client.crt", agent / "client.key")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    for port in (control.link, control.api):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as s, pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(s)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
            s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
            said = b""
            with contextlib.suppress(OSError):
                while data := s.recv(4096):
                    said += data
            assert b"\0\0\0\4" not in said and len(said) < 16  # at most an alert


# --- Both present certificates ------------------------------------------------------------------------------------------------------
def test_davitds_side_is_seen_from_the_agents_end(control, agent):
    """What an agent gets to see: davitd's name under its root, and the question for a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=control.root().decode())
    context.load_cert_chain(agent / "client.crt", agent / "client.key")
    with socket.create_connection(("127.0.0.1", control.link), timeout=10) as s, context.wrap_socket(s) as tls:
        assert tls.version() == "TLSv1.3"
        assert uri_of(tls.getpeercert(True)) == "davit://controlplane"


@pytest.mark.req("CL-21")
def test_both_sides_present_certificates(control, agent, tmp_path):
    # From the server's end: davitd's own key and chain, in a program that shows which certificate the agent presents and proves to own.
    chain = (control.state / "controlplane.crt").read_bytes()
    server = pki.TlsServer((control.state / "controlplane.key").read_bytes(), chain, tmp_path, roots=control.root())
    twin = copy_agent(agent, control, "twin", server.port)
    p = control.run_agent(twin)
    proc.wait_for(lambda: server.said, text=f"a greeting; {p.text()}")
    p.stop()
    server.close()
    assert [uri_of(peer) for peer in server.peers[:1]] == [server_uri(agent)]
    presented = pki.x509.load_der_x509_certificate(server.peers[0]).public_key().public_numbers()
    assert presented == pki.load_key(agent / "client.key").public_key().public_numbers()
    assert server.said.startswith(b"PRI * HTTP/2.0")
    # From the agent's end: it is online only with the davitd that its root signed, and davitd names the server of its certificate.
    p = control.run_agent(agent)
    proc.wait_for(lambda: control.show("edge").state == control.modules.servers.SERVER_STATE_ONLINE, text=f"online; {p.text()}")
    health = proc.run([daemon_lib.BIN / "davit-agent", "status", "--json", "--config-dir", agent], env=control.env)
    assert json.loads(health.out)["server_id"] == control.show("edge").id
    assert p.stop() == 0


# --- Whom an agent talks to ---------------------------------------------------------------------------------------------------------
def impostors(control, agent):
    """What -> (key, chain) of a server that an agent must not talk to."""
    other, root = pki.Authority.make(), pki.Authority.load(control.user, "root")
    twin = pki.Authority.make(subject=root.cert.subject)
    right = "davit://controlplane"
    foreign, forged = other.leaf(right), twin.leaf(right)
    wrong_name = issued(control, "server-ca", "davit://other")
    expired = issued(control, "server-ca", right, start=-3 * DAY, life=-1 * DAY)
    client_only = issued(control, "server-ca", right, usage="client")
    direct = root.leaf("davit://cli")
    return {
        "another CA": (foreign[0], foreign[1] + other.pem()),
        "another CA that calls itself like ours": (forged[0], forged[1] + twin.pem()),
        "another CA, our root in its chain": (forged[0], forged[1] + control.root()),
        "self-signed": (pki.key_pem(other.key), other.pem()),
        "our CA, another name": (wrong_name[0], wrong_name[1] + control.root()),
        "our root, the CLI's name": (direct[0], direct[1] + control.root()),
        "our CA, expired": (expired[0], expired[1] + control.root()),
        "our CA, a client's certificate": (client_only[0], client_only[1] + control.root()),
        "an agent's certificate": ((agent / "client.key").read_bytes(), (agent / "client.crt").read_bytes() + control.root()),
    }


@pytest.mark.req("CL-23")
def test_an_agent_refuses_a_server_that_its_ca_did_not_sign_for_this(control, agent, tmp_path):
    servers, agents = {}, {}
    for i, (what, (key, chain)) in enumerate(impostors(control, agent).items()):
        folder = tmp_path / str(i)
        folder.mkdir()
        servers[what] = pki.TlsServer(key, chain, folder)
    for i, (what, server) in enumerate(servers.items()):
        agents[what] = control.run_agent(copy_agent(agent, control, f"lured-{i}", server.port))
    for what, server in servers.items():
        p = agents[what]
        proc.wait_for(lambda p=p: "was not reached" in p.text(), 60, text=f"{what}: a refusal")
        assert p.running() and server.connections >= 1, f"{what}: {p.text()}"
        assert "certificate" in p.text() or "identity" in p.text(), f"{what}: {p.text()}"
        assert server.said == b"", f"{what} was told {server.said!r}"
    for what, p in agents.items():
        assert p.stop() == 0, f"{what}: {p.text()}"
        servers[what].close()
        # To the end of the connection: not a byte, nor a handshake that the server could take for one.
        assert servers[what].said == b"" and servers[what].shaken == 0, what
