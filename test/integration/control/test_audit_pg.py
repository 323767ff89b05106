# SPDX-License-Identifier: Apache-2.0
"""The audit log on PostgreSQL: the same entries, the same chain."""
import contextlib

import pytest
from test_audit import check, cli, fails, grpc
from test_davitd import api  # noqa: F401  (fixture)

from lib import postgres
from lib.daemon import BIN, Daemon


class PgDaemon(Daemon):
    def command(self):
        return [BIN / "davitd-pg", *super().command()[1:]]


@pytest.mark.all_tier
@pytest.mark.req("PE-7")
def test_the_same_on_postgresql(api):  # noqa: F811
    with postgres.Postgres() as pg, contextlib.closing(PgDaemon(api, ["--store", pg.url + "#audit"])) as d:
        d.start()
        with d.channel() as ch:
            stub = api.servers_grpc.ServerServiceStub(ch)
            stub.CreateServer(api.servers.CreateServerRequest(name="edge"), timeout=20)
            fails(grpc.StatusCode.ALREADY_EXISTS, stub.CreateServer, api.servers.CreateServerRequest(name="edge"))
        table = cli(d, "audit", "ls", "--object", "ed*", "--outcome", "failed").out
        assert "ServerService/CreateServer" in table and len(table.splitlines()) == 2
        assert check(cli(d, "audit", "export").out.splitlines()) == 0
        d.p.stop()
        d.start()
        assert cli(d, "audit", "verify").out.startswith("The log is whole: ")
        assert "not what it was" not in d.p.text()
