# SPDX-License-Identifier: Apache-2.0
"""What the tests of this folder share."""
import pytest

from lib import daemon


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """The python modules of davitd's and the link's schema."""
    return daemon.generate(tmp_path_factory.mktemp("stubs"))
