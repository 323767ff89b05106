# SPDX-License-Identifier: Apache-2.0
"""Tunnel mode on the control plane's side, against an agent that another implementation is (lib/tunnel.py): enrolment without the secret, links by
access token and proof, over gRPC and over WebSockets; thieves, and edges that do more than carry."""
import base64
import contextlib
import hashlib
import hmac
import json
import sqlite3
import sys
import time

import pytest

grpc = pytest.importorskip("grpc")
jwt = pytest.importorskip("jwt")

from cryptography.hazmat.primitives import serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

from lib import proc, tunnel  # noqa: E402
from lib.daemon import Daemon, generate  # noqa: E402
from lib.tunnel import GrpcWire, Host, Link, Refused, WsWire  # noqa: E402



class AliasWire(WsWire):
    def __init__(self, host, token):
        super().__init__(host, token, path="/link")


WIRES = pytest.mark.parametrize("wire", [GrpcWire, WsWire])


class TunnelDaemon(Daemon):
    def __init__(self, api, more=()):
        self.web = proc.free_port()
        super().__init__(api, ["--web-listen", f"127.0.0.1:{self.web}", "--hostname", "davit.example", *more])

    def host(self, name):
        """An enrolled one."""
        h = Host(self, self.web)
        h.enroll(self.add(name))
        return h

    def log(self):
        return (self.dir / "log").read_text()

    def audit(self):
        with sqlite3.connect(f"file:{self.state}/control.db?mode=ro", uri=True) as db:
            return db.execute("SELECT actor, action, object, outcome FROM audit ORDER BY number").fetchall()


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    out = tmp_path_factory.mktemp("stubs")
    try:
        yield generate(out)
    finally:
        sys.path.remove(str(out))


@pytest.fixture(scope="module")
def daemon(api):
    d = TunnelDaemon(api)
    try:
        yield d.start()
    finally:
        d.close()


def refused(fn, *args, **more):
    with pytest.raises(grpc.RpcError) as e:
        fn(*args, **more)
    return e.value


def access_key(daemon):
    return serialization.load_pem_private_key((daemon.state / "access-token.key").read_bytes(), None)


@pytest.mark.req("CL-86")
def test_enrolment_sends_no_secret(daemon):
    join = daemon.add("enrolled")
    h = Host(daemon, daemon.web)
    r = h.enroll(join)
    assert r.access_token and not r.certificate_pem and r.server_name == "enrolled" and r.generation == 1
    # Another implementation judges the token by the public key: what it says is what was agreed.
    claims = jwt.decode(r.access_token, access_key(daemon).public_key(), algorithms=["ES256"], audience="davit-link", issuer="davit://controlplane")
    spki = h.key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert claims["sub"] == r.server_id and claims["gen"] == 1 and 0 < claims["exp"] - claims["iat"] <= 86400
    assert claims["cnf"] == {"kid": base64.urlsafe_b64encode(hashlib.sha256(spki).digest()).rstrip(b"=").decode()}
    assert r.access_token_expires_us == claims["exp"] * 10**6
    assert daemon.show("enrolled").connection_mode == "tunnel"
    assert any(a[1:] == ("server.enrolled", "enrolled", "ok") for a in daemon.audit())
    # The same key asks again, because the answer was lost: the same answer. Another key: too late.
    assert Host.enroll(h, join).access_token == r.access_token
    assert "used already" in refused(Host(daemon, daemon.web).enroll, join).details()


@pytest.mark.req("CL-86")
def test_enrolment_is_by_proof_alone(daemon, api):
    join = daemon.add("careful")
    h = Host(daemon, daemon.web)
    _, token_id, secret, _ = join.split(".")
    with h.channel() as ch:
        enroll = api.link_grpc.EnrollServiceStub(ch).Enroll
        plain = api.link.EnrollRequest(token_id=token_id, token_secret=tunnel.unpadded(secret), csr_der=h.csr())
        assert "not to be sent" in refused(enroll, plain).details()
        nonces = h.challenge(ch, "enroll", token_id)
        wrong = refused(enroll, h.request(join, *nonces, secret=b"x" * 32))
        assert wrong.code() == grpc.StatusCode.UNAUTHENTICATED and "unknown" in wrong.details()
        # A nonce is for one try; a MAC for one request; and nobody's nonces are made up.
        assert refused(enroll, h.request(join, *nonces)).code() == grpc.StatusCode.UNAUTHENTICATED
        stolen = h.request(join, *h.challenge(ch, "enroll", token_id))
        stolen.csr_der = Host(daemon, daemon.web).csr()
        assert "unknown" in refused(enroll, stolen).details()
        assert refused(enroll, h.request(join, b"a" * 32, b"b" * 32)).code() == grpc.StatusCode.UNAUTHENTICATED
        short = h.request(join, b"a" * 32, b"b" * 32)
        short.token_mac = short.token_mac[:-1]
        assert refused(enroll, short).code() == grpc.StatusCode.INVALID_ARGUMENT
    # What lies in the database enrols nobody: neither the hash of the secret nor the sealed key of the MAC.
    with sqlite3.connect(f"file:{daemon.state}/control.db?mode=ro", uri=True) as db:
        kept, mac = db.execute("SELECT hash, mac FROM tokens WHERE id = ?", (token_id,)).fetchone()
    assert kept == hashlib.sha256(tunnel.unpadded(secret)).digest()
    assert hmac.new(tunnel.unpadded(secret), b"davit token mac 1", "sha256").digest() not in mac


@pytest.mark.parametrize("wire", [GrpcWire, WsWire, AliasWire])
@pytest.mark.req("CL-24", "CL-87")
def test_link(daemon, wire):
    name = f"linked-{wire.__name__.lower()}"
    h = daemon.host(name)
    link = Link(h, wire).handshake()
    assert link.greet().server_name == name
    link.put(heartbeat=daemon.modules.link.Heartbeat(sequence=1, clock_us=int(time.time() * 1e6)))
    assert link.get("heartbeat_ack").sequence == 1
    s = daemon.show(name)
    assert s.state == daemon.modules.servers.SERVER_STATE_ONLINE and not s.public_address
    # The next token comes over the link; then it is the one that counts.
    link.put(credential_request=daemon.modules.link.CredentialRequest())
    c = link.get("credential")
    assert c.access_token and not c.certificate_pem and c.generation == 2
    old, h.token = h.token, c.access_token
    again = Link(h, wire).handshake()
    again.greet(epoch=2)
    assert link.refusal().code in ("unavailable", "closed")
    copy = Link(h, wire, token=old).handshake()
    copy.put(hello=daemon.modules.link.Hello(protocol_min=1, protocol_max=1, epoch=3, instance_id="copy"))
    assert copy.get("fenced")
    for each in (link, again, copy):
        each.close()


def test_ends_without_noise(daemon):
    """What an edge recycles every two minutes comes back as if nothing had been."""
    h = daemon.host("recycled")
    first = Link(h, WsWire).handshake()
    first.greet()
    first.put(heartbeat=daemon.modules.link.Heartbeat(sequence=1))
    first.get("heartbeat_ack")
    audit, log = len(daemon.audit()), len(daemon.log())
    for epoch in range(2, 6):
        first.close() if epoch % 2 else first.wire.ws.transport.abort()
        first = Link(h, WsWire if epoch % 2 else GrpcWire).handshake() if epoch % 2 else Link(h, WsWire).handshake()
        first.greet(epoch=epoch)
        first.put(heartbeat=daemon.modules.link.Heartbeat(sequence=epoch))
        first.get("heartbeat_ack")
        assert daemon.show("recycled").state == daemon.modules.servers.SERVER_STATE_ONLINE
    assert len(daemon.audit()) == audit and "recycled" not in daemon.log()[log:]
    first.close()


def forge(token, key=None, alg="ES256", **claims):
    """The claims of @token, changed, under another key or algorithm."""
    old = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode({**old, **claims}, key, algorithm=alg)


@pytest.mark.req("CL-24")
def test_tokens_that_are_none(daemon):
    h = daemon.host("forged")
    public = access_key(daemon).public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head, claims, _ = h.token.split(".")
    hs = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode() + "." + claims
    hs += "." + base64.urlsafe_b64encode(hmac.new(public, hs.encode(), "sha256").digest()).rstrip(b"=").decode()
    now = int(time.time())
    bad = [forge(h.token, None, "none"), hs, forge(h.token, ec.generate_private_key(ec.SECP256R1())), h.token + "=", f"{head}.{claims}.", "x", "",
           forge(h.token, access_key(daemon), exp=now - 1, iat=now - 100, nbf=now - 100), forge(h.token, access_key(daemon), aud="davit-api"),
           forge(h.token, access_key(daemon), exp=now + 90000, iat=now, nbf=now)]
    for token in (*bad, None):
        for wire in (GrpcWire, WsWire):
            with pytest.raises(Refused) as e:
                wire(h, token).recv()
            assert e.value.code == "unauthenticated", (token, e.value)
    # One that the control plane could have made and never recorded opens nothing either.
    made = Link(h, token=forge(h.token, access_key(daemon), jti="f" * 32)).handshake()
    assert made.refusal().code == "unauthenticated"
    made.close()


@WIRES
def test_thieves(daemon, wire):
    h, other = daemon.host(f"robbed-{wire.__name__.lower()}"), daemon.host(f"thief-{wire.__name__.lower()}")
    # Its token without its key; its token under another's name; another's token under its name.
    stolen = Link(h, wire).handshake(key=other.key)
    assert "does not have the key" in stolen.refusal().message
    for token, name in ((h.token, other.server_id), (other.token, h.server_id)):
        link = Link(h, wire, token=token)
        link.wire.send(daemon.modules.link.AgentMessage(tunnel_hello=daemon.modules.link.TunnelHello(
            server_id=name, ephemeral=link.ephemeral.public_key().public_bytes(*tunnel.POINT), nonce=link.nonce)))
        assert link.refusal().code == "unauthenticated"
        link.close()
    # A proof of before.
    good = Link(h, wire).handshake()
    good.greet()
    replay = Link(h, wire)
    replay.ephemeral, replay.nonce = good.ephemeral, good.nonce
    replay.handshake(signature=good.signature)
    assert replay.refusal().code == "unauthenticated"
    good.put(heartbeat=daemon.modules.link.Heartbeat(sequence=7))
    assert good.get("heartbeat_ack").sequence == 7  # untouched by all that
    for each in (stolen, replay, good):
        each.close()


@WIRES
def test_an_edge_that_does_more_than_carry(daemon, api, wire):
    h = daemon.host(f"edge-{wire.__name__.lower()}")
    hello = api.link.Hello(protocol_min=1, protocol_max=1, epoch=1)

    def opened():
        link = Link(h, wire).handshake()
        link.greet(epoch=int(time.monotonic() * 1000))
        return link

    def clear(link):
        link.wire.send(api.link.AgentMessage(result=api.link.CommandResult(seq=1)))

    def changed(link):
        box = bytearray(link.seal(api.link.AgentMessage(hello=hello).SerializeToString()))
        box[0] ^= 1
        link.put_box(bytes(box))

    def twice(link):
        box = link.seal(api.link.AgentMessage(heartbeat=api.link.Heartbeat(sequence=1)).SerializeToString())
        link.put_box(box)
        link.put_box(box)

    def lost(link):
        link.seal(b"")
        link.put(heartbeat=api.link.Heartbeat(sequence=1))

    def nested(link):
        link.put(sealed=b"x" * 16)

    for lie in (clear, changed, twice, lost, nested):
        link = opened()
        lie(link)
        assert link.refusal().code in ("unauthenticated", "invalid_argument"), lie
        link.close()
    # The agent's key was swapped on the way: the agent sees that the control plane signed another (lib/tunnel.py raises).
    link = Link(h, wire)
    with pytest.raises(tunnel.InvalidSignature):
        link.hello(ephemeral=ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(*tunnel.POINT))
    link.close()
    # Before the proof nothing else is heard.
    for early in ({"hello": hello}, {"heartbeat": api.link.Heartbeat()}, {"sealed": b"x" * 40}, {"tunnel_proof": api.link.TunnelProof(signature=b"x")}):
        link = Link(h, wire)
        link.wire.send(api.link.AgentMessage(**early))
        assert link.refusal().code in ("invalid_argument",), early
        link.close()


def test_audiences_do_not_mix(daemon, api):
    """A token opens nothing on the port of certificates, a certificate nothing on the port of tokens; neither port serves the API."""
    h = daemon.host("apart")
    with daemon.channel(port=daemon.web) as ch:  # with the CLI's certificate
        assert refused(next, api.link_grpc.LinkServiceStub(ch).Connect(iter([]))).code() == grpc.StatusCode.UNAUTHENTICATED
    with daemon.channel(port=daemon.link, key=False) as ch:
        call = api.link_grpc.LinkServiceStub(ch).Connect(iter([]), metadata=[("authorization", f"Bearer {h.token}")])
        assert refused(next, call).code() == grpc.StatusCode.UNAUTHENTICATED
    with daemon.channel(port=daemon.link, key=False) as ch:
        join = daemon.add("by-mac")
        r = h.request(join, *h.challenge(ch, "enroll"))
        assert refused(api.link_grpc.EnrollServiceStub(ch).Enroll, r).code() == grpc.StatusCode.INVALID_ARGUMENT


def test_revocation_and_recovery(daemon, api):
    h = daemon.host("revoked")
    h.recover()
    assert h.generation == 2
    link = Link(h).handshake()
    link.greet()
    began = time.monotonic()
    with daemon.channel() as ch:
        api.servers_grpc.ServerServiceStub(ch).RemoveServer(api.servers.RemoveServerRequest(server="revoked"), timeout=20)
    assert link.refusal().code == "unauthenticated" and time.monotonic() - began < 1
    late = Link(h).handshake()
    assert late.refusal().code == "unauthenticated"
    assert refused(h.recover).code() == grpc.StatusCode.UNAUTHENTICATED
    for each in (link, late):
        each.close()


@pytest.mark.req("CB-8")
def test_a_copy_gets_no_token_while_the_server_is_connected(daemon):
    """It has the same key, and a later token would take the server's place."""
    h = daemon.host("copied")
    link = Link(h).handshake()
    link.greet()
    link.put(heartbeat=daemon.modules.link.Heartbeat(sequence=1))
    link.get("heartbeat_ack")
    assert "is connected" in refused(h.recover).details() and daemon.show("copied").generation == 1
    link.put(heartbeat=daemon.modules.link.Heartbeat(sequence=2))
    link.get("credential_rotate")
    assert daemon.show("copied").HasField("duplicate")
    link.close()

    def got_back():
        try:
            return h.recover().credential.generation == 2
        except grpc.RpcError:
            return False
    proc.wait_for(got_back, 20, every=1, text="its own recovery")


@pytest.mark.req("CB-8")
def test_an_older_copy_gets_no_token_while_the_server_is_away(daemon):
    """It has the same key: the generation that it tells gives it away."""
    h = daemon.host("restored")
    h.recover(generation=1)
    link = Link(h).handshake()
    link.greet()
    link.put(heartbeat=daemon.modules.link.Heartbeat(sequence=1))
    link.get("heartbeat_ack")
    link.close()
    assert not daemon.show("restored").HasField("duplicate")
    told = refused(lambda: h.recover(generation=1))
    assert told.code() == grpc.StatusCode.UNAUTHENTICATED and "generation 1" in told.details() and "replaced by generation 2" in told.details()
    shown = daemon.show("restored")
    assert shown.generation == 2 and shown.duplicate.generation == 1
    # An edge does not take away what is told.
    assert refused(lambda: h.recover(0, signed=1)).code() == grpc.StatusCode.UNAUTHENTICATED
    h.recover(generation=2)
    assert h.generation == 3
    h.recover()  # an agent of the version before, which does not tell
    assert h.generation == 4


def test_handshakes_of_a_server_are_limited(daemon):
    """Before anything is signed: who reads a token at the edge can begin links without end."""
    h, other = daemon.host("busy"), daemon.host("quiet")
    began, n = time.monotonic(), 0
    with contextlib.suppress(Refused), contextlib.ExitStack() as links:
        while n < 100:
            link = Link(h)
            links.callback(link.close)
            link.hello()
            n += 1
    assert 20 <= n <= 21 + time.monotonic() - began
    Link(other).handshake().close()
    time.sleep(1.1)
    Link(h).handshake().close()


def test_a_link_ends_with_its_token(api):
    d = TunnelDaemon(api, ["--agent-certificate-life", "5s"])
    try:
        d.start()
        h = d.host("short")
        assert json.loads(tunnel.unpadded(h.token.split(".")[1]))["exp"] <= time.time() + 5
        link = Link(h).handshake()
        link.greet()
        assert "expired" in link.refusal().message
        h.recover()  # with the key that it still has
        link = Link(h).handshake()
        link.greet(epoch=2)
        link.close()
    finally:
        d.close()
