# SPDX-License-Identifier: Apache-2.0
"""sandboxes: the agent's part of them by work_driver, with the control plane played here: it certifies, exchanges and registers."""
import base64
import datetime
import hashlib
import os
import threading
import time
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from lib import runtime
from lib.pki import DAY, Authority
from lib.work import Driver


def thumbprint(pem):
    return hashlib.sha256(x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)).hexdigest()


class Control(Driver):
    """.rows {sandbox id: row}; .asked: kinds of questions that came; .refuse: a failure for the next registrations; .life of leaves."""

    def __init__(self, sock, folder, *args, server=None, life=90 * DAY, linked=True):
        self.ca, self.rows, self.asked, self.refuse, self.life, self.assertions = Authority.make(), {}, [], None, life, {}
        self.answered, self.folder = 0, folder
        self.on_renewal = None  # called instead of an answer, with the number of the question, when the row is written
        self.server = server or "srv-" + uuid.uuid4().hex[:8]
        self.over = False
        os.makedirs(folder, exist_ok=True)
        super().__init__(sock, "--sandboxes", folder, runtime.directory(), "--server", self.server, *args)
        threading.Thread(target=self.serve, daemon=True).start()
        if linked:
            self.link()

    def restart(self):
        """The agent is killed, and begins again."""
        self.p.kill()
        self.p.wait()
        self.reader.join()
        self.start()
        self.link()

    def __exit__(self, *exc):
        self.over = True
        super().__exit__(*exc)

    def link(self):
        self.send(welcome={"protocol": 1})
        for row in self.rows.values():
            self.send(sandboxVerdict=row)

    def unlink(self):
        self.send(fenced={"reason": "the link is down"})

    def serve(self):
        while not self.over:
            while self.answered < len(self.seen):
                m = self.seen[self.answered]
                self.answered += 1
                for s in m.get("sandboxes", {}).get("sandboxes", []):
                    row = self.rows.get(s["id"], {})
                    if s.get("session") and s.get("liveThumbprint") == row.get("thumbprint") and row.pop("previousThumbprint", None):
                        self.send(sandboxVerdict=row)
                for kind, answer in (("sandboxCertify", self.certify), ("sandboxExchange", self.exchange), ("sandboxRegister", self.register)):
                    if kind in m:
                        self.asked.append(kind)
                        answer(m[kind])
            time.sleep(0.005)

    def certify(self, q):
        csr = x509.load_der_x509_csr(base64.b64decode(q["csrDer"]))
        uris = [x509.UniformResourceIdentifier(f"davit://sandbox/{q['sandboxId']}"), x509.UniformResourceIdentifier(f"davit://container/{q['containerId']}")]
        b = Authority.builder(csr.subject, self.ca.cert.subject, csr.public_key(), self.life)
        b = b.add_extension(x509.BasicConstraints(False, None), critical=True)
        b = b.add_extension(Authority.key_usage(sign=False), critical=True)
        b = b.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        b = b.add_extension(x509.SubjectAlternativeName(uris), critical=False)
        b = b.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca.key.public_key()), critical=False)
        pem = b.sign(self.ca.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        assertion = "" if q.get("renewal") else uuid.uuid4().hex
        self.assertions[assertion] = thumbprint(pem)
        if q.get("renewal"):
            row = self.rows[q["sandboxId"]]
            row["previousThumbprint"] = q.get("liveThumbprint") or row.get("previousThumbprint") or row["thumbprint"]
            row["thumbprint"] = thumbprint(pem)
            if self.on_renewal:
                self.on_renewal(q, row)
                return
            self.send(sandboxVerdict=row)
        self.send(sandboxCertified={"requestId": q["requestId"], "certificatePem": pem.decode(), "caPem": self.ca.pem().decode(), "assertion": assertion})

    def exchange(self, q):
        good = self.assertions.pop(q["assertion"], None) == q["thumbprint"]
        self.send(sandboxExchanged={"requestId": q["requestId"], "accessToken": "token-" + q["thumbprint"], "expiresUs": "9999999999999999"} if good else
                  {"requestId": q["requestId"], "failure": {"code": 16, "message": "the assertion was used before", "reason": "unauthenticated"}})

    def register(self, q):
        if self.refuse or q["accessToken"] != "token-" + q["thumbprint"]:
            self.send(sandboxVerdict={"requestId": q["requestId"], "sandboxId": q["sandboxId"],
                                      "failure": self.refuse or {"code": 16, "message": "no such token", "reason": "unauthenticated"}})
            return
        now = int(datetime.datetime.now().timestamp() * 1e6)
        row = {"sandboxId": q["sandboxId"], "containerId": q["containerId"], "thumbprint": q["thumbprint"], "registeredAtUs": str(now)}
        self.rows[q["sandboxId"]] = row
        self.send(sandboxVerdict={"requestId": q["requestId"], **row})

    # --- What a user does
    def create(self, image, name=None, wait=True, **spec):
        box = {"id": str(uuid.uuid4()), "name": name or "s" + uuid.uuid4().hex[:8], "image": image, **spec}
        r = self.command(createSandbox={"spec": box}, wait=wait, timeout=25)
        return box, r

    def act(self, box, action, **more):
        return self.command(sandboxAction={"sandboxId": box["id"], "action": action, **more}, timeout=60)

    def states(self, box):
        return [s for m in list(self.seen) for s in m.get("sandboxes", {}).get("sandboxes", []) if s["id"] == box["id"]]

    def state(self, box, timeout=30, **want):
        """The first that came or comes, of those after the last look, and has all of @want."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            found = [s for s in self.states(box) if all(s.get(k) == v for k, v in want.items())]
            if found:
                return found[-1]
            time.sleep(0.02)
        raise AssertionError(f"no state {want}; they were {self.states(box)[-6:]}")


def name_of(box):
    return ".".join(x for x in ("davit", box.get("project"), box["name"]) if x)


def clean(docker, server):
    label = f"davit.server={server}"
    for c in docker.containers(label):
        docker.remove(c["Id"])
    for v in docker.volumes(label):
        docker.call("DELETE", f"/volumes/{v['Name']}")
    for n in docker.networks(label):
        docker.call("DELETE", f"/networks/{n['Id']}")
