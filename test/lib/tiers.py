# SPDX-License-Identifier: Apache-2.0
"""tiers: which cases of a parametrized test wait for ./check --all."""
import pytest


def long(*values):
    """A case that runs under ./check --all only: one like it runs in every ./check."""
    return pytest.param(*values, marks=pytest.mark.all_tier)
