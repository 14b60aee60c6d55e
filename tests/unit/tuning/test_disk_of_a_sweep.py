"""A disk that fails while Ray drives a sweep."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from ray.tune.error import TuneError

from shards.base.errors import UserError
from tuning.driver.tuner import disk_errors


def test_what_ray_wraps_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="cannot write to .*No space.*; its trials are kept"),
        disk_errors(tmp_path),
    ):
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "trials.json")
        except OSError as error:
            raise TuneError("a hook failed") from error
    with pytest.raises(TuneError, match="of its own"), disk_errors(tmp_path):
        raise TuneError("of its own")
