# SPDX-License-Identifier: Apache-2.0
"""edges: what stands before davitd in tunnel mode: the proxies of doc/tunnel.md as they stand there, and a relay that ends TLS and misbehaves."""
import asyncio
import datetime
import ipaddress
import os
import pathlib
import re
import signal
import socket
import ssl
import struct
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lib import proc

DOC = pathlib.Path(__file__).resolve().parents[2] / "doc/tunnel.md"
NAME = "davit.example.org"


class Certificates:
    """A root of somebody's and a leaf for localhost: folder/root.pem, edge.pem, edge.key, edge.both."""

    def __init__(self, folder, *addresses):
        self.folder = folder
        now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
        root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

        def builder(subject, public):
            return x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])).issuer_name(
                x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root of an edge")])).public_key(public).serial_number(
                x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=2))
        root = builder("root of an edge", root_key.public_key()).add_extension(x509.BasicConstraints(True, None), True).add_extension(
            x509.KeyUsage(False, False, False, False, False, True, True, False, False), True).add_extension(
            x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()), False).sign(root_key, hashes.SHA256())
        names = [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_address(a)) for a in ("127.0.0.1", *addresses))]
        leaf = builder("localhost", key.public_key()).add_extension(x509.SubjectAlternativeName(names), False).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), False).sign(root_key, hashes.SHA256())
        pem = leaf.public_bytes(serialization.Encoding.PEM)
        key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / "root.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
        (folder / "edge.pem").write_bytes(pem)
        (folder / "edge.key").write_bytes(key_pem)
        (folder / "edge.both").write_bytes(pem + key_pem)

    @property
    def root(self):
        return self.folder / "root.pem"


def from_doc(kind, marker=""):
    """The configuration of doc/tunnel.md for @kind that has @marker in it."""
    blocks = re.findall(rf"```{kind}\n(.*?)```", DOC.read_text(), re.S)
    return next(b for b in blocks if marker in b)


class Proxy:
    """nginx, caddy or haproxy with a configuration of the page; changes: (text, other text) pairs."""

    def __init__(self, certificates, web, kind, marker="", changes=(), address="127.0.0.1"):
        self.port, self.kind, self.folder = proc.free_port(), kind, certificates.folder / f"{kind}-{proc.free_port()}"
        self.folder.mkdir()
        self.folder.chmod(0o755)
        text = from_doc(kind, marker)
        for a, b in (("127.0.0.1:7440", f"127.0.0.1:{web}"), (f"/etc/ssl/{NAME}.", f"{certificates.folder}/edge."), *changes):
            assert a in text, (a, text)
            text = text.replace(a, b)
        self.p = proc.Background(self.command(text, address), self.folder / "log", env={"HOME": str(self.folder), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        proc.wait_for(lambda: proc.listens(self.port, address), 20, text=f"{kind} listens")

    def command(self, text, address):
        if self.kind == "nginx":
            text = text.replace("listen 443", f"listen {address}:{self.port}").replace(NAME, "localhost")
            path = self.write("nginx.conf", f"daemon off; worker_processes 1; pid {self.folder}/pid; error_log {self.folder}/error; events {{}}\n"
                              f"http {{ access_log {self.folder}/access; client_body_temp_path {self.folder}; proxy_temp_path {self.folder};"
                              f" fastcgi_temp_path {self.folder}; uwsgi_temp_path {self.folder}; scgi_temp_path {self.folder};\n{text} }}\n")
            return ["nginx", "-p", self.folder, "-e", self.folder / "error", "-c", path]
        if self.kind == "caddy":
            path = self.write("Caddyfile", "{\nadmin off\nauto_https disable_redirects\n}\n" + text.replace(NAME + " {", f"https://localhost:{self.port} {{\n    bind {address}"))
            return ["caddy", "run", "--adapter", "caddyfile", "--config", path]
        return ["haproxy", "-W", "-db", "-f", self.write("haproxy.cfg", text.replace("bind :443", f"bind {address}:{self.port}"))]

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def stop(self):
        """At once: some would wait for links to end."""
        if self.p.running():
            os.killpg(self.p.pid, signal.SIGKILL)
            self.p.p.wait(20)


LATE = b"HTTP/1.1 524 A Timeout Occurred\r\nServer: cloudflare\r\nContent-Type: text/plain\r\nContent-Length: 15\r\n\r\nerror code: 524"


class Relay:
    """Ends TLS with HTTP/1.1 and passes bytes on to davitd. cut: how connections older than `after` seconds end ("close", "reset", "524": in the words
    of Cloudflare, and so does the next connection instead of beginning), each once.
    tamper: what becomes of the messages to the agent behind the first `spared` of a connection, as fn(list of frames) -> list of frames."""

    def __init__(self, certificates, web, after=None, cut=None, tamper=None, spared=3, address=("127.0.0.1", 0)):
        self.web, self.after, self.cut, self.tamper, self.spared, self.address = web, after, cut, tamper, spared, address
        self.connections, self.upgrades, self.late = 0, 0, False
        self.server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.server_tls.load_cert_chain(certificates.folder / "edge.pem", certificates.folder / "edge.key")
        self.server_tls.set_alpn_protocols(["http/1.1"])
        self.client_tls = ssl.create_default_context()
        self.client_tls.check_hostname = False
        self.client_tls.verify_mode = ssl.CERT_NONE
        self.client_tls.set_alpn_protocols(["http/1.1"])
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        assert self.ready.wait(20)

    def run(self):
        asyncio.set_event_loop(self.loop)
        self.server = self.loop.run_until_complete(asyncio.start_server(self.serve, *self.address, ssl=self.server_tls))
        self.port = self.server.sockets[0].getsockname()[1]
        self.ready.set()
        self.loop.run_forever()

    def stop(self):
        def end():
            self.server.close()
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.call_later(0.1, self.loop.stop)
        self.loop.call_soon_threadsafe(end)
        self.thread.join(20)

    async def serve(self, reader, writer):
        self.connections += 1
        if self.late:
            self.late = False
            await reader.readuntil(b"\r\n\r\n")
            writer.write(LATE)
            writer.close()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.web, ssl=self.client_tls)
        except OSError:
            writer.close()
            return
        jobs = [asyncio.ensure_future(self.pump(reader, up_writer, None)), asyncio.ensure_future(self.pump(up_reader, writer, self.tamper))]
        done, rest = await asyncio.wait(jobs, timeout=self.after, return_when=asyncio.FIRST_COMPLETED)
        for job in rest:
            job.cancel()
        for job in done:
            job.exception()  # whoever went away: the others hear of it
        if not done and self.cut == "524":
            self.late = True
            writer.write(LATE)
        raw = writer.get_extra_info("socket")
        if rest and self.cut == "reset" and raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        writer.close()
        up_writer.close()

    async def pump(self, reader, writer, tamper):
        data, head, seen = b"", tamper is not None, 0
        while chunk := await reader.read(65536):
            self.upgrades += chunk.startswith(b"HTTP/1.1 101 ")
            if tamper is None:
                writer.write(chunk)
                await writer.drain()
                continue
            data += chunk
            if head:
                if b"\r\n\r\n" not in data:
                    continue
                first, _, data = data.partition(b"\r\n\r\n")
                writer.write(first + b"\r\n\r\n")
                head = False
            frames, data = self.frames(data)
            seen += len(frames)
            for f in tamper(frames) if seen > self.spared else frames:
                writer.write(f)
            await writer.drain()

    @staticmethod
    def frames(data):
        """Whole frames of a server, and what is left."""
        found = []
        while len(data) >= 2:
            n, at = data[1] & 0x7f, 2
            if n >= 126:
                size = 2 if n == 126 else 8
                if len(data) < 2 + size:
                    break
                n, at = int.from_bytes(data[2:2 + size], "big"), 2 + size
            if len(data) < at + n:
                break
            found.append(data[:at + n])
            data = data[at + n:]
        return found, data


def tinyproxy(folder, address, user="agent", password="s3cretx"):
    """A real proxy that wants credentials: (process, URL)."""
    port = proc.free_port()
    path = folder / "tinyproxy.conf"
    path.write_text(f"Port {port}\nListen {address}\nTimeout 600\nLogLevel Connect\nLogFile \"{folder}/tinyproxy.log\"\nMaxClients 20\n"
                    f"BasicAuth {user} {password}\n")
    p = proc.Background(["tinyproxy", "-d", "-c", path], folder / "tinyproxy.out")
    proc.wait_for(lambda: proc.listens(port, address), 20, text="tinyproxy listens")
    return p, f"http://{user}:{password}@{address}:{port}"
