# SPDX-License-Identifier: Apache-2.0
"""tunnel: an agent in tunnel mode, written from doc/tunnel.md with python3-cryptography, python3-grpcio and python3-websockets and nothing of ours
but the messages: what a second implementation would be. It can also be the edge that does what an edge must not."""
import asyncio
import hashlib
import hmac
import json
import os
import queue
import ssl
import struct
import threading

import grpc
import websockets
from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag  # noqa: F401
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ECDSA = ec.ECDSA(hashes.SHA256())
POINT = (serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def proof_digest(purpose, client_nonce, server_nonce, *parts):
    h = hashlib.sha256(b"davit proof 1\0" + purpose.encode() + b"\0")
    for p in (client_nonce, server_nonce, *parts):
        h.update(len(p).to_bytes(8, "big") + p)
    return h.digest()


def unpadded(text):
    import base64
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Refused(Exception):
    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Host:
    """A server's machine: its key, and what enrolment gave it."""

    def __init__(self, daemon, port):
        self.daemon, self.api, self.port = daemon, daemon.modules, port
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.token = self.server_id = None

    def channel(self):
        return grpc.secure_channel(f"127.0.0.1:{self.port}", grpc.ssl_channel_credentials(self.daemon.root()),
                                   [("grpc.ssl_target_name_override", "localhost")])

    def csr(self):
        return (x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(self.key, hashes.SHA256())
                .public_bytes(serialization.Encoding.DER))

    def challenge(self, channel, purpose, subject=""):
        """(client nonce, server nonce) of a control plane that proved who it is."""
        nonce = os.urandom(32)
        stub = self.api.link_grpc.IdentityServiceStub(channel)
        r = stub.Challenge(self.api.link.ChallengeRequest(client_nonce=nonce, purpose=purpose, subject=subject), timeout=20)
        leaf = x509.load_pem_x509_certificate(r.certificate_pem.encode())
        leaf.public_key().verify(r.signature, proof_digest("challenge", nonce, r.server_nonce, purpose.encode()), ECDSA)
        return nonce, r.server_nonce

    def request(self, join, client_nonce, server_nonce, secret=None, csr=None):
        _, token_id, own, _ = join.split(".")
        csr = csr or self.csr()
        mac_key = hmac.new(secret or unpadded(own), b"davit token mac 1", "sha256").digest()
        mac = hmac.new(mac_key, proof_digest("enroll", client_nonce, server_nonce, csr), "sha256").digest()
        return self.api.link.EnrollRequest(token_id=token_id, csr_der=csr, client_nonce=client_nonce, server_nonce=server_nonce, token_mac=mac)

    def enroll(self, join):
        with self.channel() as ch:
            nonces = self.challenge(ch, "enroll", join.split(".")[1])
            r = self.api.link_grpc.EnrollServiceStub(ch).Enroll(self.request(join, *nonces), timeout=20)
        self.token, self.server_id, self.generation = r.access_token, r.server_id, r.generation
        return r

    def recover(self, generation=0, signed=None):
        """@generation 0: as an agent that does not tell it; @signed: what it signed, if that is something else."""
        with self.channel() as ch:
            cn, sn = self.challenge(ch, "recover", self.server_id)
            told = generation if signed is None else signed
            digest = proof_digest("recover", cn, sn, self.server_id.encode(), b"", *([b"%d" % told] if told else []))
            r = self.api.link_grpc.IdentityServiceStub(ch).Recover(self.api.link.RecoverRequest(
                server_id=self.server_id, client_nonce=cn, server_nonce=sn, generation=generation,
                signature=self.key.sign(digest, ECDSA)), timeout=20)
        self.token, self.generation = r.credential.access_token, r.credential.generation
        return r


class GrpcWire:
    """Messages as gRPC."""

    def __init__(self, host, token):
        self.out, self.api = queue.Queue(), host.api
        self.channel = host.channel()
        metadata = [("authorization", f"Bearer {token}")] if token is not None else []
        self.call = host.api.link_grpc.LinkServiceStub(self.channel).Connect(iter(self.out.get, None), metadata=metadata)

    def send(self, message):
        self.out.put(message)

    def recv(self, timeout=20):
        box = queue.Queue()

        def read():
            try:
                box.put(next(self.call))
            except StopIteration:
                box.put(Refused("ok", "the end"))
            except grpc.RpcError as e:
                box.put(Refused(e.code().name.lower(), e.details()))
        threading.Thread(target=read, daemon=True).start()
        m = box.get(timeout=timeout)
        if isinstance(m, Refused):
            raise m
        return m

    def close(self):
        self.out.put(None)
        self.call.cancel()
        self.channel.close()


class WsWire:
    """Messages as Connect's envelopes in WebSocket messages."""

    def __init__(self, host, token, path="/davit.link.v1.LinkService/Connect"):
        self.api = host.api
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        tls = ssl.create_default_context(cadata=host.daemon.root().decode())
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}

        async def connect():
            return await websockets.connect(f"wss://127.0.0.1:{host.port}{path}?encoding=proto", ssl=tls, server_hostname="localhost",
                                            subprotocols=["davit.connect.v1"], extra_headers=headers, max_size=None, open_timeout=20)
        try:
            self.ws = self._run(connect())
        except websockets.InvalidStatusCode as e:
            raise Refused("unauthenticated" if e.status_code == 401 else str(e.status_code), "") from None

    def _run(self, body, timeout=20):
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(body, timeout), self.loop).result(timeout + 5)

    def send(self, message):
        data = message.SerializeToString()
        self._run(self.ws.send(struct.pack(">BI", 0, len(data)) + data))

    def recv(self, timeout=20):
        try:
            data = self._run(self.ws.recv(), timeout)
        except websockets.ConnectionClosed as e:
            raise Refused("closed", str(e)) from None
        if data[0] & 2:
            error = json.loads(data[5:]).get("error", {})
            raise Refused(error.get("code", "ok"), error.get("message", ""))
        m = self.api.link.ControlMessage()
        m.ParseFromString(data[5:])
        return m

    def close(self):
        self._run(self.ws.close())
        self.loop.call_soon_threadsafe(self.loop.stop)


class Link:
    """One connection: handshake() until it is open, then put() and get(). What is passed by keyword is a lie of the edge or of a thief."""

    def __init__(self, host, wire=GrpcWire, token=None):
        self.host, self.api = host, host.api
        self.token = host.token if token is None else token
        self.wire = wire(host, self.token)
        self.ephemeral = ec.generate_private_key(ec.SECP256R1())
        self.nonce = os.urandom(32)
        self.sent = self.received = 0

    def hello(self, server_id=None, ephemeral=None):
        point = self.ephemeral.public_key().public_bytes(*POINT)
        self.wire.send(self.api.link.AgentMessage(tunnel_hello=self.api.link.TunnelHello(
            server_id=server_id or self.host.server_id, ephemeral=ephemeral or point, nonce=self.nonce)))
        c = self.wire.recv()
        assert c.WhichOneof("body") == "tunnel_challenge", c
        self.c = c.tunnel_challenge
        self.parts = [(server_id or self.host.server_id).encode(), point, self.c.ephemeral, self.c.certificate_pem.encode()]
        leaf = x509.load_pem_x509_certificate(self.c.certificate_pem.encode())
        leaf.public_key().verify(self.c.signature, proof_digest("tunnel-control", self.nonce, self.c.nonce, *self.parts), ECDSA)

    def prove(self, key=None, signature=None):
        digest = proof_digest("tunnel-agent", self.nonce, self.c.nonce, *self.parts, self.c.signature,
                              hashlib.sha256(self.token.encode()).digest())
        shared = self.ephemeral.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.c.ephemeral))
        self.keys = {way: AESGCM(HKDF(hashes.SHA256(), 32, digest, f"davit tunnel 1 {way}".encode()).derive(shared))
                     for way in ("agent", "control")}
        self.signature = signature or (key or self.host.key).sign(digest, ECDSA)
        self.wire.send(self.api.link.AgentMessage(tunnel_proof=self.api.link.TunnelProof(signature=self.signature)))

    def handshake(self, **lies):
        self.hello()
        self.prove(**lies)
        return self

    def seal(self, data):
        box = self.keys["agent"].encrypt(b"\0\0\0\0" + self.sent.to_bytes(8, "big"), data, b"agent")
        self.sent += 1
        return box

    def put(self, **body):
        self.put_box(self.seal(self.api.link.AgentMessage(**body).SerializeToString()))

    def put_box(self, box):
        self.wire.send(self.api.link.AgentMessage(sealed=box))

    def get(self, kind=None, timeout=20):
        """The next message (of this kind); each came in a box that holds."""
        while True:
            m = self.wire.recv(timeout)
            assert m.WhichOneof("body") == "sealed", m
            try:
                plain = self.keys["control"].decrypt(b"\0\0\0\0" + self.received.to_bytes(8, "big"), m.sealed, b"control")
            except InvalidTag:
                raise AssertionError("a box of the control plane does not open") from None
            self.received += 1
            inner = self.api.link.ControlMessage()
            inner.ParseFromString(plain)
            if kind is None or inner.WhichOneof("body") == kind:
                return getattr(inner, kind) if kind else inner

    def greet(self, epoch=1, instance="a", last=0):
        """Hello to Welcome."""
        self.put(hello=self.api.link.Hello(protocol_min=1, protocol_max=1, epoch=epoch, instance_id=instance, last_received_seq=last,
                                           system={"hostname": "box", "arch": "amd64", "docker_version": "20.10"}))
        return self.get("welcome")

    def refusal(self):
        """How it ends: Refused."""
        try:
            while True:
                self.wire.recv()
        except Refused as e:
            return e

    def close(self):
        self.wire.close()
