# SPDX-License-Identifier: Apache-2.0
"""People, sessions and API tokens on PostgreSQL: every statement once, and what outlives a restart."""
import contextlib

import pytest
from test_davitd import api  # noqa: F401  (fixture)
from test_people import PASSWORD, Plane, cookie_of

from lib import postgres
from lib.daemon import BIN


class PgPlane(Plane):
    def command(self):
        return [BIN / "davitd-pg", *super().command()[1:]]


@pytest.mark.all_tier
@pytest.mark.req("PE-1", "PE-2", "PE-6")
def test_the_same_on_postgresql(api):  # noqa: F811
    with postgres.Postgres() as pg, contextlib.closing(PgPlane(api, ["--store", pg.url + "#people"])) as p:
        p.start()
        link = p.secret()
        one = cookie_of(p.call("SessionService/SetUpOwner", {"secret": link, "password": PASSWORD}))
        assert p.call("SessionService/SetUpOwner", {"secret": link, "password": PASSWORD})[0] == 403
        two = cookie_of(p.login(cookie=one))
        token = p.good("ApiTokenService/CreateApiToken", {"name": "ci", "scope": "read"}, cookie=two)["secret"]
        assert p.call("ApiTokenService/CreateApiToken", {"name": "ci", "scope": "read"}, cookie=two)[0] == 409
        p.good("StatusService/GetStatus", token=token)
        assert p.p.stop() == 0
        p.start()
        assert "person" in p.good("SessionService/GetSession", cookie=two) and "person" not in p.good("SessionService/GetSession", cookie=one)
        assert int(p.good("ApiTokenService/ListApiTokens", cookie=two)["tokens"][0]["usedUs"]) > 0
        p.good("ApiTokenService/RevokeApiToken", {"token": "ci"}, cookie=two)
        assert p.call("StatusService/GetStatus", token=token)[0] == 401
        change = {"oldPassword": PASSWORD, "newPassword": "another " + PASSWORD}
        three = cookie_of(p.call("SessionService/ChangePassword", change, cookie=two))
        four = cookie_of(p.login(change["newPassword"]))
        assert p.good("SessionService/RevokeSession", {"allOthers": True}, cookie=three) == {"revoked": 1}
        assert "person" not in p.good("SessionService/GetSession", cookie=four)
        assert p.call("SessionService/Logout", cookie=three)[0] == 200
        five = cookie_of(p.call("SessionService/SetUpOwner", {"secret": p.secret("--reset"), "name": "me", "password": PASSWORD}))
        assert p.good("SessionService/GetSession", cookie=five)["person"]["name"] == "me" and p.login(name="me")[0] == 200
