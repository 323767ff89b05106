# SPDX-License-Identifier: Apache-2.0
"""fake_agent: an agent of grpcio over the published schema, for tests that need many at once or one that answers as no real one would. It enrols, keeps
the link, and does with commands what the test says."""
import base64
import contextlib
import queue
import threading
import time
import uuid

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lib import proc
from lib.release import VERSION


class FakeAgent:
    """a = FakeAgent(daemon, "web-1"); a.enroll(); a.connect(), with a lib.daemon.Daemon. Commands arrive in `commands`; answer with finish() or, for updates, updated()."""

    def __init__(self, daemon, name, version=VERSION, arch="amd64", method="slots", forbids=()):
        self.daemon, self.name, self.version, self.arch, self.method, self.forbids = daemon, name, version, arch, method, list(forbids)
        self.epoch, self.last_seq, self.out, self.call, self.channel = 0, 0, None, None, None
        self.commands, self.others = queue.Queue(), queue.Queue()  # the second: all but commands and acknowledgements
        self.answered = {}
        self.takes_calls, self.takes_sandboxes = True, False
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.chain, self.generation = None, 0

    def _channel(self, with_certificate):
        key = self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return self.daemon.channel(self.daemon.link, key if with_certificate else False, self.chain if with_certificate else False)

    def _system(self):
        return {"hostname": self.name, "os": "Debian", "arch": self.arch, "agent_version": self.version, "boot_id": "b",
                "update_method": self.method, "policy_forbids": self.forbids, "docker_version": "20.10"}

    @property
    def _link(self):
        return self.daemon.modules.link

    def enroll(self):
        link, link_grpc = self._link, self.daemon.modules.link_grpc
        token = self.daemon.add(self.name).split(".")
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])).sign(
            self.key, hashes.SHA256())
        secret = base64.urlsafe_b64decode(token[2] + "=")
        with self._channel(False) as channel:
            r = link_grpc.EnrollServiceStub(channel).Enroll(link.EnrollRequest(
                token_id=token[1], token_secret=secret, csr_der=csr.public_bytes(serialization.Encoding.DER), request_id=str(uuid.uuid4()),
                system=self._system()), timeout=20)
        self.chain, self.generation = r.certificate_pem.encode(), r.generation

    def connect(self):
        link, link_grpc = self._link, self.daemon.modules.link_grpc
        self.epoch += 1
        self.out = queue.Queue()
        self.channel = self._channel(True)
        self.out.put(link.AgentMessage(hello=link.Hello(
            protocol_min=1, protocol_max=1, boot_id="b", instance_id=str(uuid.uuid4()), epoch=self.epoch, last_received_seq=self.last_seq,
            clock_us=int(time.time() * 1e6), system=self._system(), generation=self.generation,
            takes_calls=self.takes_calls, takes_sandboxes=self.takes_sandboxes)))
        self.call = link_grpc.LinkServiceStub(self.channel).Connect(iter(self.out.get, None))
        first = next(self.call)
        assert first.WhichOneof("body") == "welcome", first
        threading.Thread(target=self._read, args=(self.call,), daemon=True).start()
        self.put(heartbeat=link.Heartbeat(sequence=1, clock_us=int(time.time() * 1e6)))
        return self

    def _read(self, call):
        with contextlib.suppress(grpc.RpcError):
            for m in call:
                if m.WhichOneof("body") == "command":
                    self._command(m.command)
                elif not m.WhichOneof("body").endswith("ack"):
                    self.others.put(m)

    def _command(self, cmd):
        link = self._link
        self.last_seq = max(self.last_seq, cmd.seq)
        if cmd.id in self.answered:  # sent again: so is its result
            self.put(result=self.answered[cmd.id])
            return
        self.put(received=link.CommandReceived(seq=cmd.seq, id=cmd.id))
        self.commands.put(cmd)

    def put(self, **body):
        link = self._link
        self.out.put(link.AgentMessage(**body))

    def wanted(self, kind, timeout=20):
        """The next message of @kind ("log_open", "usage_watch"); others before it are dropped."""
        while True:
            m = self.others.get(timeout=timeout)
            if m.WhichOneof("body") == kind:
                return getattr(m, kind)

    def take(self, timeout=20):
        """The next command."""
        return self.commands.get(timeout=timeout)

    def progress(self, cmd, step):
        link = self._link
        m = link.CommandProgress(seq=cmd.seq, id=cmd.id)
        m.progress.step = step
        self.put(progress=m)

    def finish(self, cmd, outcome="updated", failure=None):
        """Success, or failure=(code, reason, message)."""
        link = self._link
        m = link.CommandResult(seq=cmd.seq, id=cmd.id, outcome=outcome)
        if failure:
            m.failure.code, m.failure.reason, m.failure.message = failure
        self.answered[cmd.id] = m
        self.put(result=m)

    def updated(self, cmd):
        """What a real agent does: says that it is done, and comes back as the new version."""
        self.finish(cmd)
        self.version = cmd.update_agent.version
        time.sleep(0.1)
        self.disconnect()
        self.connect()

    def disconnect(self):
        if self.call:
            self.out.put(None)
            self.call.cancel()
            self.channel.close()
            self.call = None

    def reconnect(self, timeout=20):
        """After the control plane was away."""
        self.disconnect()

        def again():
            try:
                return self.connect()
            except grpc.RpcError:
                self.disconnect()
                return None
        return proc.wait_for(again, timeout, text=f"{self.name} connected again")
