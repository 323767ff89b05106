# SPDX-License-Identifier: Apache-2.0
"""The first contact of a server: what leaves it, what an impostor gets to see, and two who come with one token."""
import concurrent.futures
import contextlib
import os
import pathlib
import socket
import sqlite3
import struct
import subprocess
import threading
import time

import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("cryptography")

from lib import daemon as daemon_lib  # noqa: E402
from lib import pki, proc  # noqa: E402

ENROLL = "/davit.link.v1.EnrollService/Enroll"


@pytest.fixture(scope="module")
def control(api):
    d = daemon_lib.Daemon(api).start()
    yield d
    d.close()


# --- What leaves the server -------------------------------------------------------------------------------------------------------
class Capture:
    """Every frame that crosses loopback, with the kernel's word that it dropped none. Root's only: for others the relay's record must do."""

    def __init__(self):
        self.frames, self.ending, self.s = [], 0.0, None
        if os.geteuid() != 0:
            return
        self.s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.s.setsockopt(socket.SOL_SOCKET, 33, 256 << 20)  # SO_RCVBUFFORCE
        self.s.bind(("lo", 0))
        self.s.settimeout(0.2)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while True:
            try:
                self.frames.append(self.s.recv(1 << 17))
            except socket.timeout:
                if self.ending:
                    return
            if self.ending and time.monotonic() > self.ending + 1:  # others may use loopback too
                return

    def end(self):
        if self.s is None:
            return b""
        self.ending = time.monotonic()
        self.thread.join(20)
        _, dropped = struct.unpack("II", self.s.getsockopt(263, 6, 8))  # SOL_PACKET, PACKET_STATISTICS
        self.s.close()
        assert dropped == 0
        return b"\0\0".join(self.frames)


class Recorder(grpc.GenericRpcHandler):
    """Stands in davitd's place with davitd's own key: reads each message in plain text, and passes it on."""

    def __init__(self, control):
        self.control, self.said, self.answered = control, [], []
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), handlers=[self])
        chain = (control.state / "controlplane.crt").read_bytes() + control.root()
        pair = ((control.state / "controlplane.key").read_bytes(), chain)
        self.port = self.server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        self.server.start()

    def service(self, details):
        self.said.append(repr((details.method, details.invocation_metadata)).encode())
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self.forward(details.method, request))

    def forward(self, method, request):
        self.said.append(request)
        with self.control.channel(self.control.link, False, False) as ch:
            self.answered.append(ch.unary_unary(method)(request, timeout=20))
        return self.answered[-1]


def read(control):
    return sqlite3.connect(f"file:{control.state}/control.db?mode=ro", uri=True)


def files_of(control):
    """Everything that davitd keeps or wrote: {path: bytes}; a copy of the database as a backup would have it is among it."""
    copy = control.dir / "copy.db"
    with contextlib.closing(read(control)) as db, contextlib.closing(sqlite3.connect(copy)) as to:
        db.backup(to)
    found = {p: p.read_bytes() for p in control.state.rglob("*") if p.is_file()}
    return found | {copy: copy.read_bytes(), control.dir / "log": (control.dir / "log").read_bytes()}


@pytest.mark.req("CB-1")
def test_the_private_key_never_leaves_the_server(control, api):
    token = control.add("keeps-its-key")
    recorder, directory = Recorder(control), control.dir / "keeps-its-key"
    relay, capture = pki.Relay(recorder.port), Capture()
    try:
        control.enroll(token, directory, port=relay.port)
    finally:
        frames = capture.end()
        relay.close()
        recorder.server.stop(0)
    wire = relay.there + b"\0\0" + relay.back + b"\0\0" + frames
    key = pki.shapes_of_key(directory / "client.key")
    secret = pki.shapes_of_token(token)
    # What is looked for is found where it is: in the key's own file, and the token in what was said.
    assert pki.hits((directory / "client.key").read_bytes(), key)
    said = b"\0".join(recorder.said)
    assert pki.hits(said, secret) and len(relay.there) > 1000 and len(relay.back) > 2000 and relay.there[:1000] in wire
    assert os.geteuid() != 0 or relay.there[:64] in frames
    # Said: a request that its own key signed. Not said, nor answered: anything of that key.
    request = next(api.link.EnrollRequest.FromString(m) for m in recorder.said if pki.hits(m, secret))
    csr = pki.x509.load_der_x509_csr(request.csr_der)
    assert csr.is_signature_valid
    assert csr.public_key().public_numbers() == pki.load_key(directory / "client.key").public_key().public_numbers()
    assert pki.hits(said, key) == [] and pki.hits(b"\0".join(recorder.answered), key) == []
    # On the wire: neither the key nor the token.
    assert pki.hits(wire, key | secret) == []
    # With davitd: nothing of the key in database, log of the database, backup, log, other files; of the token its id and its hash at most.
    files = files_of(control)
    assert {control.state / "control.db", control.dir / "log"} < set(files)
    kept = pki.shapes_of_token(token) - pki.shapes_of_token_at_rest(token)
    for path, content in files.items():
        assert pki.hits(content, key - {b"PRIVATE KEY"}) == [], path  # davitd has keys of its own
        assert pki.hits(content, kept) == [], path


# --- Impostors --------------------------------------------------------------------------------------------------------------------
def impostors(control, folder):
    """What -> a server that is not the control plane of the token, though it tries to look like it."""
    other = pki.Authority.make()
    twin = pki.Authority.make(subject=pki.certs(control.root())[0].subject)
    uri = "davit://controlplane"
    key, leaf = other.leaf(uri)
    twin_key, twin_leaf = twin.leaf(uri)
    real = (control.state / "controlplane.key").read_bytes(), (control.state / "controlplane.crt").read_bytes()
    agents = pki.Authority.load(control.state, "agents-ca")
    agent_key, agent_leaf = agents.leaf("davit://server/0b7e", usage="both")
    expired = pki.Authority.load(control.state, "server-ca")
    old_key, old_leaf = expired.leaf(uri, start=-3 * pki.DAY, life=-1 * pki.DAY)
    where = iter(range(100))

    def tls(key, chain, **more):
        place = folder / str(next(where))
        place.mkdir()
        return pki.TlsServer(key, chain, place, **more)

    return {
        "another root": tls(key, leaf + other.pem()),
        "self-signed, the subject of the right root": tls(pki.key_pem(twin.key), twin.pem()),
        "a leaf below a root of the same name": tls(twin_key, twin_leaf + twin.pem()),
        "the right root in its chain, without its key": tls(twin_key, twin_leaf + control.root()),
        "the right root in a chain that does not lead there": tls(key, leaf + other.pem() + control.root()),
        "the right key, its root left out": tls(*real),
        "the right key, TLS 1.2": tls(real[0], real[1] + control.root(), tls12=True),
        "an agent's authority": tls(agent_key, agent_leaf + agents.pem() + control.root()),
        "expired": tls(old_key, old_leaf + expired.pem() + control.root()),
        "plain TCP that speaks HTTP/2": pki.TlsServer(greeting=b"\0\0\0\4\0\0\0\0\0"),
        "plain TCP that speaks HTTP/1": pki.TlsServer(greeting=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    }


PLAIN = ("plain TCP that speaks HTTP/2", "plain TCP that speaks HTTP/1")


@pytest.mark.req("CB-2", "CB-1")
def test_an_impostor_gets_no_byte_of_the_token(control, tmp_path):
    token = control.add("lured")
    wanted = pki.shapes_of_token(token)
    servers = impostors(control, tmp_path)
    place = {what: control.dir / f"lured-{i}" for i, what in enumerate(servers)}
    with concurrent.futures.ThreadPoolExecutor(len(servers)) as pool:
        ran = {what: pool.submit(control.enroll, token, place[what], port=s.port, check=False) for what, s in servers.items()}
        got = {what: f.result() for what, f in ran.items()}
    for what, s in servers.items():
        s.close()
        assert s.connections >= 1, what
        assert pki.hits(s.said, wanted) == [] and pki.hits(s.wire, wanted) == [], what
        # It decrypts what reaches it, so this is all there was: not even a greeting. Plain listeners see the first packet of TLS.
        assert s.shaken == 0 and (s.said == b"" or s.context is None), f"{what}: {s.said!r}"
        # Of a key that was made for it nothing was sent, and whoever was refused keeps none.
        keys = list(place[what].glob("client.key*"))
        assert all(pki.hits(s.said + s.wire, pki.shapes_of_key(key)) == [] for key in keys) and (what in PLAIN or keys == []), f"{what}: {keys}"
        said = str(got[what])
        # Documented: 4 another control plane answers, 5 none that can be talked to; and what to do, and that the token is still good.
        assert got[what].rc == (5 if what in PLAIN else 4), f"{what}: {said}"
        assert "nothing of the token was sent" in said or "the token was not used" in said, f"{what}: {said}"
        assert "check the address" in said or "is davitd running there" in said, f"{what}: {said}"
        assert not (place[what] / "config.yaml").exists(), what
    # And so it is: the token opens the door of its own control plane.
    control.enroll(token, control.dir / "lured-0")


# --- Two at once ------------------------------------------------------------------------------------------------------------------
class Pair:
    """Two callers with a key each, which ask for a certificate with one token at the same moment."""

    def __init__(self, control, api, name):
        self.control, self.api, self.name = control, api, name
        self.csr = []
        for who in ("a", "b"):
            folder = control.dir / f"{name}-{who}"
            folder.mkdir(exist_ok=True)
            subprocess.run([daemon_lib.BUILD / "test/unit/control/pki_tool", "agent", folder], check=True, timeout=60)
            self.csr.append((folder / "agent.csr").read_bytes())
        control.add(name)
        self.mine = control.channel()
        self.servers = api.servers_grpc.ServerServiceStub(self.mine)
        self.channels = []

    def token(self):
        return self.servers.CreateToken(self.api.servers.CreateTokenRequest(server=self.name), timeout=60).token

    def connect(self):
        for ch in self.channels:
            ch.close()
        self.channels = [self.control.channel(self.control.link, False, False) for _ in range(2)]
        for ch in self.channels:
            grpc.channel_ready_future(ch).result(20)

    def race(self, csr):
        """How each of the two ended: a response or a status."""
        _, name, secret, _ = self.token().split(".")
        requests = [self.api.link.EnrollRequest(token_id=name, token_secret=pki.base64.urlsafe_b64decode(secret + "="), csr_der=c) for c in csr]
        running = [self.api.link_grpc.EnrollServiceStub(ch).Enroll.future(r, timeout=60) for ch, r in zip(self.channels, requests)]
        ended = []
        for f in running:
            try:
                ended.append(f.result())
            except grpc.RpcError as e:
                ended.append(e.code())
        return ended

    def close(self):
        for ch in [*self.channels, self.mine]:
            ch.close()


def key_of(response):
    return pki.certs(response.certificate_pem.encode())[0].public_key().public_numbers()


def rows(control, sql, *args):
    with contextlib.closing(read(control)) as db:
        return db.execute(sql, args).fetchall()


def races(control, api, name, times):
    pair = Pair(control, api, name)
    keys = [pki.x509.load_der_x509_csr(c).public_key().public_numbers() for c in pair.csr]
    won = [0, 0]
    for i in range(times):
        if i % 50 == 0:
            pair.connect()
        # By turns: who is sent first shall not decide.
        order = (0, 1) if i % 2 else (1, 0)
        ended = pair.race([pair.csr[k] for k in order])
        winners = [k for k, r in zip(order, ended) if not isinstance(r, grpc.StatusCode)]
        losers = [r for r in ended if isinstance(r, grpc.StatusCode)]
        assert len(winners) == 1 and losers == [grpc.StatusCode.UNAUTHENTICATED], f"{i}: {ended}"
        response = next(r for r in ended if not isinstance(r, grpc.StatusCode))
        assert key_of(response) == keys[winners[0]] and response.generation == i + 1
        won[winners[0]] += 1
    pair.close()
    server = rows(control, "SELECT id, generation FROM servers WHERE name = ?", name)[0]
    assert server[1] == times
    assert rows(control, "SELECT count(*) FROM certificates WHERE server_id = ?", server[0]) == [(times,)]
    assert rows(control, "SELECT count(*) FROM tokens WHERE server_id = ? AND used_us > 0", server[0]) == [(times,)]
    return won


def test_of_two_with_one_token_one_wins(control, api):
    assert sum(races(control, api, "raced", 20)) == 20


@pytest.mark.all_tier
@pytest.mark.req("CB-3")
def test_of_two_with_one_token_one_wins_a_thousand_times(control, api):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        won = list(pool.map(lambda i: races(control, api, f"raced-{i}", 250), range(4)))
    assert sum(map(sum, won)) == 1000
    # Both had a chance, or it was no race.
    assert all(sum(w[k] for w in won) > 100 for k in (0, 1)), won


def test_the_same_key_twice_at_once_gets_one_certificate(control, api):
    pair = Pair(control, api, "twice")
    pair.connect()
    for i in range(5):
        ended = pair.race([pair.csr[0], pair.csr[0]])
        assert not any(isinstance(r, grpc.StatusCode) for r in ended), f"{i}: {ended}"
        assert ended[0].certificate_pem == ended[1].certificate_pem and ended[0].generation == ended[1].generation == i + 1
    pair.close()
    server = rows(control, "SELECT id FROM servers WHERE name = 'twice'")[0][0]
    assert rows(control, "SELECT count(*) FROM certificates WHERE server_id = ?", server) == [(5,)]


def test_the_store_knows_of_an_enrolment_that_davitd_does_not(control, api):
    """As after a commit of unknown outcome: the next token is as good as any."""
    pair = Pair(control, api, "ahead")
    pair.connect()
    with contextlib.closing(sqlite3.connect(control.state / "control.db")) as db, db:
        assert db.execute("UPDATE servers SET generation = 3 WHERE name = 'ahead'").rowcount == 1
    for generation in (4, 5):
        ended = pair.race([pair.csr[0]])
        assert not isinstance(ended[0], grpc.StatusCode) and ended[0].generation == generation, ended
    pair.close()


def test_a_lost_answer_of_a_token_that_was_replaced_since(control, api):
    """The first key asks again when another one has enrolled with a newer token: its certificate opens nothing, so it does not get it again."""
    pair = Pair(control, api, "late")
    pair.connect()
    _, name, secret, _ = pair.token().split(".")
    secret = pki.base64.urlsafe_b64decode(secret + "=")
    first = api.link.EnrollRequest(token_id=name, token_secret=secret, csr_der=pair.csr[0])
    enroll = api.link_grpc.EnrollServiceStub(pair.channels[0]).Enroll
    certificate = enroll(first, timeout=20).certificate_pem
    assert enroll(first, timeout=20).certificate_pem == certificate
    _, name, secret, _ = pair.token().split(".")
    secret = pki.base64.urlsafe_b64decode(secret + "=")
    enroll(api.link.EnrollRequest(token_id=name, token_secret=secret, csr_der=pair.csr[1]), timeout=20)
    with pytest.raises(grpc.RpcError) as e:
        enroll(first, timeout=20)
    assert e.value.code() == grpc.StatusCode.UNAUTHENTICATED and "another one" in e.value.details()
    pair.close()


def test_strangers_do_not_keep_a_server_out(control, api):
    """From the same address, which has used up all that it has: who names a token that was given out is let in."""
    token = control.add("patient")
    bogus = api.link.EnrollRequest(token_id="aaaaaaaaaa", token_secret=b"x" * 32, csr_der=b"x")
    with control.channel(control.link, False, False) as ch:
        enroll = api.link_grpc.EnrollServiceStub(ch).Enroll
        codes = []
        for _ in range(60):
            with pytest.raises(grpc.RpcError) as e:
                enroll(bogus, timeout=20)
            codes.append(e.value.code())
    assert codes[-1] == grpc.StatusCode.RESOURCE_EXHAUSTED and codes[0] == grpc.StatusCode.INVALID_ARGUMENT
    control.enroll(token, pathlib.Path(control.dir / "patient"))
    # Also after a restart, which remembers the tokens that are out.
    token = control.add("patient-2")
    assert control.p.stop() == 0
    control.start()
    proc.wait_for(lambda: proc.listens(control.link))
    with control.channel(control.link, False, False) as ch:
        enroll = api.link_grpc.EnrollServiceStub(ch).Enroll
        for _ in range(60):
            with pytest.raises(grpc.RpcError):
                enroll(bogus, timeout=20)
    control.enroll(token, pathlib.Path(control.dir / "patient-2"))
