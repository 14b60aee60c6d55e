"""Ray's workers find this project, whatever the folder that a command is started in holds."""

from __future__ import annotations

import pytest

pytest.importorskip("ray")

from shards.execution import ray_connection


def test_workers_look_into_the_drivers_folder_after_the_project() -> None:
    job = ray_connection._job()
    job._py_driver_sys_path.extend(["/elsewhere"])  # As ray.init does.
    # A worker puts each of them before those that it has.
    assert list(job._get_proto_job_config().py_driver_sys_path)[-2:] == ["/elsewhere", ray_connection._ROOT]
