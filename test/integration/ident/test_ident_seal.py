# SPDX-License-Identifier: Apache-2.0
"""Secrets at rest: environment values are in no file of davitd in plain text, also not after an update from a version that wrote them so; what was
changed, moved or belongs to another key is refused with advice, and nothing is lost by it."""
import contextlib
import queue
import sqlite3
import subprocess

import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("cryptography")

from lib import daemon as daemon_lib  # noqa: E402
from lib import pki, proc  # noqa: E402

PLANTED = "planted-value-1c8f6d2b0e"


@pytest.fixture(scope="module")
def control(api):
    """One for all tests here: each leaves behind what it found."""
    d = daemon_lib.Daemon(api).start()
    d.agent = None
    yield d
    d.close()


@pytest.fixture(autouse=True)
def runs(control):
    if not control.p.running():
        control.start()


def deploy(control, name):
    with control.channel() as ch:
        work = control.modules.work
        spec = {"project": "shop", "name": name, "image": "web:1", "env": [{"name": "DB_PASSWORD", "value": f"{PLANTED}-{name}"}]}
        return control.modules.work_grpc.WorkloadServiceStub(ch).Deploy(work.DeployRequest(spec=spec, server="edge"), timeout=20).deployment_id


@pytest.fixture(scope="module")
def planted(control):
    """A davitd with two deployments that wait for their server: {service: deployment id}."""
    control.token = control.add("edge")
    return {name: deploy(control, name) for name in ("web", "db")}


def deployments(control):
    """{service: (environment names, values)} as the API shows them."""
    with control.channel() as ch:
        stub = control.modules.work_grpc.WorkloadServiceStub(ch)
        listed = stub.ListDeployments(control.modules.work.ListDeploymentsRequest(), timeout=20).deployments
    return {d.spec.name: [(e.name, e.value) for e in d.spec.env] for d in listed}


def enroll(control, api):
    """Key and chain of an agent, and how often it connected."""
    folder = control.dir / "agent-keys"
    folder.mkdir()
    subprocess.run([daemon_lib.BUILD / "test/unit/control/pki_tool", "agent", folder], check=True, timeout=60)
    _, name, secret, _ = control.token.split(".")
    request = api.link.EnrollRequest(token_id=name, token_secret=pki.base64.urlsafe_b64decode(secret + "="), csr_der=(folder / "agent.csr").read_bytes())
    with control.channel(control.link, False, False) as ch:
        chain = api.link_grpc.EnrollServiceStub(ch).Enroll(request, timeout=20).certificate_pem.encode()
    return [(folder / "agent.key").read_bytes(), chain, 0]


def commands(control, api, n):
    """The first @n commands, as an agent gets them that has received none: {service: value of its variable}."""
    proc.wait_for(lambda: proc.listens(control.link))
    control.agent = control.agent or enroll(control, api)
    control.agent[2] += 1
    key, chain, epoch = control.agent
    said, got = queue.SimpleQueue(), {}
    said.put(api.link.AgentMessage(hello=api.link.Hello(protocol_min=1, protocol_max=1, epoch=epoch, generation=1,
                                                        system={"hostname": "box", "arch": "amd64", "docker_version": "20.10"})))
    with control.channel(control.link, key, chain) as ch:
        for m in api.link_grpc.LinkServiceStub(ch).Connect(iter(said.get, None), timeout=20):
            if m.WhichOneof("body") == "command":
                spec = m.command.deploy.spec
                got[spec.name] = spec.env[0].value
            if len(got) == n:
                break
        said.put(None)
    return got


BOTH = {"web": f"{PLANTED}-web", "db": f"{PLANTED}-db"}
NAMES = {"web": [("DB_PASSWORD", "")], "db": [("DB_PASSWORD", "")]}


def read(control):
    return sqlite3.connect(f"file:{control.state}/control.db?mode=ro", uri=True)


def assert_nowhere(control):
    copy = control.dir / "copy.db"
    with contextlib.closing(read(control)) as db, contextlib.closing(sqlite3.connect(copy)) as to:
        db.backup(to)
    wanted = pki.shapes(PLANTED.encode())
    files = [p for p in control.state.rglob("*") if p.is_file()] + [copy, control.dir / "log"]
    assert len(files) > 8
    for path in files:
        assert pki.hits(path.read_bytes(), wanted) == [], path


def edit(control, *statements):
    """Changes the database of a davitd that does not run."""
    with contextlib.closing(sqlite3.connect(control.state / "control.db")) as db, db:
        for sql, args in statements:
            assert db.execute(sql, args).rowcount == 1


def fails_to_start(control):
    r = proc.run(control.command(), check=False)
    assert r.rc != 0 and "Sanitizer" not in r.err, str(r)
    return r.err


def test_environment_values_are_in_no_file(control, planted, api):
    assert_nowhere(control)
    assert (control.state / "master.key").stat().st_mode & 0o777 == 0o600
    assert deployments(control) == NAMES
    assert control.p.stop() == 0
    assert_nowhere(control)
    control.start()
    assert_nowhere(control)
    assert commands(control, api, 2) == BOTH


def make_old(control, planted):
    """The state directory as the first version left it: no envelopes, no audit log, no renewals, no tunnel mode, no authority of sandboxes."""
    from davit.common.v1 import service_pb2
    from davit.link.v1 import link_pb2
    assert control.p.stop() == 0
    (control.state / "master.key").unlink()
    edits = [("DELETE FROM settings WHERE key = 'master_key'", ())]
    for name, deployment in planted.items():
        spec = service_pb2.ServiceSpec(project="shop", name=name, image="web:1",
                                       env=[service_pb2.EnvVar(name="DB_PASSWORD", value=f"{PLANTED}-{name}")])
        command = link_pb2.Command(deploy=link_pb2.Deploy(deployment_id=deployment, spec=spec))
        edits.append(("UPDATE deployments SET spec = ? WHERE id = ?", (spec.SerializeToString(), deployment)))
        edits.append(("UPDATE commands SET payload = ? WHERE subject = ?", (command.SerializeToString(), deployment)))
    edit(control, *edits, ("DELETE FROM settings WHERE key = 'audit.head'", ()))
    with contextlib.closing(sqlite3.connect(control.state / "control.db")) as db:
        for later in ("DELETE FROM schema_migrations WHERE name != 'begin'", "DROP TABLE audit", "DROP TABLE rollout_steps", "DROP TABLE rollouts",
                      "ALTER TABLE certificates DROP COLUMN chain", "ALTER TABLE certificates DROP COLUMN spki",
                      "ALTER TABLE servers DROP COLUMN roots", "DROP TABLE sessions", "DROP TABLE setup_links", "DROP TABLE people",
                      "DROP TABLE api_tokens", "ALTER TABLE servers DROP COLUMN oldest", "ALTER TABLE tokens DROP COLUMN mac",
                      "DROP TABLE hostnames", "DROP TABLE variables", "DROP TABLE registries", "ALTER TABLE deployments DROP COLUMN source",
                      "ALTER TABLE deployments DROP COLUMN activated_us", "ALTER TABLE commands DROP COLUMN cancel",
                      "ALTER TABLE services DROP COLUMN replicas", "DROP TABLE used_assertions", "DROP TABLE revoked_tokens",
                      "DROP TABLE sandbox_agents", "DROP TABLE sandboxes"):
            db.execute(later)
        db.commit()
        assert [r[0] for r in db.execute("SELECT name FROM schema_migrations")] == ["begin"]
    for name in ("audit.head", "access-token.key", "sandboxes-ca.key", "sandboxes-ca.csr", "sandboxes-ca.crt"):
        (control.state / name).unlink()
    assert PLANTED.encode() in (control.state / "control.db").read_bytes()


@pytest.mark.req("PR-14")
def test_what_an_older_version_left_serves_and_is_sealed_at_the_first_start(control, planted, api):
    make_old(control, planted)
    control.start()
    assert_nowhere(control)
    assert deployments(control) == NAMES
    assert commands(control, api, 2) == BOTH
    # The steps of `davit up` add what that version did not make, also while davitd works, and change nothing else.
    before = {p.name: p.read_bytes() for p in control.state.glob("*.crt")}
    subprocess.run([daemon_lib.BUILD / "test/unit/control/pki_tool", control.user, control.state], check=True, timeout=60)
    assert {p.name: p.read_bytes() for p in control.state.glob("*.crt") if p.name != "sandboxes-ca.crt"} == before
    assert (control.state / "sandboxes-ca.crt").exists() and deployments(control) == NAMES


def test_a_key_that_is_missing_or_another_is_told_before_anything_is_written(control, planted, api):
    assert control.p.stop() == 0
    path = control.state / "master.key"
    key, before = path.read_bytes(), (control.state / "control.db").read_bytes()
    path.unlink()
    said = fails_to_start(control)
    assert "master.key is missing" in said and "backup" in said
    assert not path.exists()  # a new one would hide the loss
    path.write_bytes(b"davit-master-key-1 " + b"5a" * 32 + b"\n")
    path.chmod(0o600)
    said = fails_to_start(control)
    assert "is another one" in said and "backup" in said
    path.write_bytes(b"rubbish\n")
    assert "line 1" in fails_to_start(control)
    path.write_bytes(key)
    path.chmod(0o644)
    assert "chmod 600" in fails_to_start(control)
    path.chmod(0o600)
    assert (control.state / "control.db").read_bytes() == before
    control.start()
    assert deployments(control) == NAMES
    assert commands(control, api, 2) == BOTH


def test_a_new_key_seals_everything_anew(control, planted, api):
    assert control.p.stop() == 0
    path = control.state / "master.key"
    old = path.read_bytes()
    path.write_bytes(b"davit-master-key-1 " + b"5a" * 32 + b"\n" + old)
    control.start()
    assert control.p.stop() == 0
    path.write_bytes(b"davit-master-key-1 " + b"5a" * 32 + b"\n")  # the old one is not needed any more
    control.start()
    assert_nowhere(control)
    assert deployments(control) == NAMES
    assert commands(control, api, 2) == BOTH


def refused_list(control):
    with pytest.raises(grpc.RpcError) as e:
        deployments(control)
    assert e.value.code() == grpc.StatusCode.DATA_LOSS
    return e.value.details() + dict(e.value.trailing_metadata()).get("davit-hint", "")


def spec_of(control, deployment):
    with contextlib.closing(read(control)) as db:
        return db.execute("SELECT spec FROM deployments WHERE id = ?", (deployment,)).fetchone()[0]


def test_a_flipped_bit_swapped_rows_and_planted_text_do_not_open(control, planted):
    web, db = spec_of(control, planted["web"]), spec_of(control, planted["db"])
    flipped = web[:-1] + bytes([web[-1] ^ 1])
    put = "UPDATE deployments SET spec = ? WHERE id = ?"
    for a, b in ((flipped, db), (db, web), (b"\x0a\x04shop\x12\x03web", db)):
        assert control.p.stop() == 0
        edit(control, (put, (a, planted["web"])), (put, (b, planted["db"])))
        control.start()
        said = refused_list(control)
        assert "deployments.spec/" in said and "backup" in said
    # Nothing was lost by looking: the right bytes in the right place are good again.
    assert control.p.stop() == 0
    edit(control, (put, (web, planted["web"])), (put, (db, planted["db"])))
    control.start()
    assert deployments(control) == NAMES


def test_a_command_that_does_not_open_stops_the_start(control, planted, api):
    """It could not be sent, and what comes behind it must not be sent before it."""
    assert control.p.stop() == 0
    put = "UPDATE commands SET payload = ? WHERE subject = ?"
    with contextlib.closing(read(control)) as db:
        good = db.execute("SELECT payload FROM commands WHERE subject = ?", (planted["web"],)).fetchone()[0]
    edit(control, (put, (good[:30] + bytes([good[30] ^ 0x10]) + good[31:], planted["web"])))
    said = fails_to_start(control)
    assert "commands.payload/" in said and "backup" in said
    edit(control, (put, (good, planted["web"])))
    control.start()
    assert commands(control, api, 2) == BOTH
