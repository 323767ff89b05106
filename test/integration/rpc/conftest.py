# SPDX-License-Identifier: Apache-2.0
"""What the tests of this folder share."""
import pytest

from lib import echo


@pytest.fixture(scope="module")
def server():
    """host:port of a running echo server."""
    with echo.server() as (_, address):
        yield address
