# SPDX-License-Identifier: Apache-2.0
"""pki: certificates that nobody of ours would issue, made with python3-cryptography; a recording TLS server; and where a secret may hide."""
import base64
import contextlib
import datetime
import hashlib
import re
import socket
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lib.relay import Listener

DAY = datetime.timedelta(days=1)


def key_pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def load_key(path):
    return serialization.load_pem_private_key(path.read_bytes(), None)


def certs(pem):
    """The certificates in a PEM text."""
    return [x509.load_pem_x509_certificate(c) for c in re.findall(b"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", pem, re.S)]


class Authority:
    """A key and certificate that issues; Authority.load(dir, "agents-ca") is a real one, Authority.make() a stranger."""

    def __init__(self, key, cert):
        self.key, self.cert = key, cert

    @classmethod
    def load(cls, directory, name):
        return cls(load_key(directory / f"{name}.key"), certs((directory / f"{name}.crt").read_bytes())[0])

    @classmethod
    def make(cls, subject=None):
        key = ec.generate_private_key(ec.SECP256R1())
        name = subject or x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Davit"), x509.NameAttribute(NameOID.COMMON_NAME, "Davit root")])
        b = cls.builder(name, name, key.public_key(), 3650 * DAY)
        b = b.add_extension(x509.BasicConstraints(True, 1), critical=True)
        b = b.add_extension(cls.key_usage(sign=True), critical=True)
        b = b.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return cls(key, b.sign(key, hashes.SHA256()))

    @staticmethod
    def key_usage(sign):
        return x509.KeyUsage(not sign, False, False, False, False, sign, sign, False, False)

    @staticmethod
    def builder(subject, issuer, public, life, start=-DAY):
        now = datetime.datetime.utcnow()
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public).serial_number(x509.random_serial_number())
                .not_valid_before(now + start).not_valid_after(now + life))

    def leaf(self, uri, life=30 * DAY, start=-DAY, usage="both", key=None):
        """(key PEM, certificate PEM) of a leaf with this identity."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")])
        purposes = {"client": [ExtendedKeyUsageOID.CLIENT_AUTH], "server": [ExtendedKeyUsageOID.SERVER_AUTH],
                    "both": [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]}[usage]
        b = self.builder(subject, self.cert.subject, key.public_key(), life, start)
        b = b.add_extension(x509.BasicConstraints(False, None), critical=True)
        b = b.add_extension(self.key_usage(sign=False), critical=True)
        b = b.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        b = b.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), x509.DNSName("localhost")]), critical=False)
        b = b.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        b = b.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        return key_pem(key), b.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def pem(self):
        return self.cert.public_bytes(serialization.Encoding.PEM)


# --- Looking for a secret ---------------------------------------------------------------------------------------------------------
def shapes(secret):
    """All the ways in which these bytes may be written down: binary, reversed, hex, base64 at each of the three offsets."""
    found = {secret, secret[::-1], secret.hex().encode(), secret.hex().upper().encode(), ":".join(f"{b:02x}" for b in secret).encode()}
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * offset + secret)
            # What depends on the neighbours is left out at both ends.
            found.add(text[[0, 2, 3][offset]:len(text) - 4 if (offset + len(secret)) % 3 else None].rstrip(b"="))
    return {s for s in found if len(s) >= 10}


def shapes_of_key(path):
    """What must not be found of the private key in this file: its number, its DER forms, the lines of its PEM."""
    key = load_key(path)
    scalar = key.private_numbers().private_value.to_bytes(32, "big")
    sec1 = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    pkcs8 = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    found = shapes(scalar) | {str(int.from_bytes(scalar, "big")).encode(), b"PRIVATE KEY"}
    for der in (sec1, pkcs8):
        # Without the public part, which is in the request: it may be seen.
        found |= shapes(der[:der.index(scalar) + 32])
    body = b"".join(path.read_bytes().splitlines()[1:-1])
    return found | {body, body[:64], body[32:96]}


def shapes_of_token(token):
    """What must not be found of a join token: its text, its id, its secret and the hash of that."""
    _, name, secret, _ = token.split(".")
    raw = base64.urlsafe_b64decode(secret + "=")
    return {token.encode(), name.encode(), secret.encode()} | shapes(raw) | shapes(hashlib.sha256(raw).digest()) | shapes(name.encode())


def shapes_of_token_at_rest(token):
    """What of it the control plane may keep: the id, and the hash of the secret."""
    _, name, secret, _ = token.split(".")
    return {name.encode()} | shapes(name.encode()) | shapes(hashlib.sha256(base64.urlsafe_b64decode(secret + "=")).digest())


def hits(data, wanted):
    """Those of @wanted that are in @data."""
    return [w for w in wanted if w in data]


# --- Servers ----------------------------------------------------------------------------------------------------------------------
class TlsServer(Listener):
    """Accepts TLS with the key and chain it is given, and keeps all that it could decrypt, and all bytes of the wire.

    .said: plain text; .wire: bytes from the callers; .connections, .shaken: how many came, and shook hands to the end; .peers: their
    certificates (DER or None). @tls12: speaks no newer version. @roots: asks callers for a certificate under these. @chain None: no TLS at all,
    @greeting is sent."""

    def __init__(self, key=None, chain=None, folder=None, tls12=False, roots=None, greeting=b""):
        self.said, self.wire, self.connections, self.shaken, self.peers, self.errors = b"", b"", 0, 0, [], []
        self.greeting, self.context = greeting, None
        if chain is not None:
            (folder / "server.key").write_bytes(key)
            (folder / "server.crt").write_bytes(chain)
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(folder / "server.crt", folder / "server.key")
            self.context.set_alpn_protocols(["h2"])
            if tls12:
                self.context.maximum_version = ssl.TLSVersion.TLSv1_2
            if roots:
                self.context.load_verify_locations(cadata=roots.decode())
                self.context.verify_mode = ssl.CERT_REQUIRED
        super().__init__()

    def took(self, caller):
        self.connections += 1
        self.spawn(self.serve, caller)

    def serve(self, caller):
        caller.settimeout(10)
        try:
            if self.context:
                self.serve_tls(caller)
            else:
                caller.sendall(self.greeting)
                while data := caller.recv(65536):
                    self.wire += data
                    self.said += data
        except (OSError, ssl.SSLError) as e:
            self.errors.append(e)
        finally:
            with contextlib.suppress(OSError):
                caller.close()

    def serve_tls(self, caller):
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.context.wrap_bio(there, back, server_side=True)
        shaken = False
        while True:
            try:
                if not shaken:
                    tls.do_handshake()
                    shaken = True
                    self.shaken += 1
                    self.peers.append(tls.getpeercert(True))
                data = tls.read(65536)
                if not data:
                    return
                self.said += data
                continue
            except ssl.SSLWantReadError:
                pass
            finally:
                if back.pending:
                    caller.sendall(back.read())
            data = caller.recv(65536)
            if not data:
                return
            self.wire += data
            there.write(data)


class Relay(Listener):
    """Between a caller and @port, byte for byte; .there and .back are what went each way."""

    def __init__(self, port):
        self.to, self.there, self.back = port, b"", b""
        super().__init__()

    def took(self, caller):
        upstream = socket.create_connection(("127.0.0.1", self.to))
        self.spawn(self.pump, caller, upstream, "there")
        self.spawn(self.pump, upstream, caller, "back")

    def pump(self, a, b, name):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                setattr(self, name, getattr(self, name) + data)
                b.sendall(data)
        for s in (a, b):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
