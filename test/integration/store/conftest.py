# SPDX-License-Identifier: Apache-2.0
"""One PostgreSQL for all tests of this folder; each works in a schema of its own."""
import pytest

from lib import postgres


@pytest.fixture(scope="session")
def pg():
    with postgres.Postgres() as p:
        yield p
