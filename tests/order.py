"""Files that take long come first, so that the processes that share the tests end at about the same time.

A file's tests are run by one process (`--dist=loadfile`), and what it is to do next is handed to a process when two
tests are left of what it has: where a file of minutes comes last, the others have nothing to do for as long.
"""

from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
# In the order of what they take: of the slow tests, then of the fast ones.
_LONG = (
    "benchmarks/test_faults.py",
    "pipelines/test_run.py",
    "pipelines/test_resume.py",
    "pipelines/test_faults.py",
    "monitoring/test_prometheus.py",
    "deploy/test_slurm.py",
    "pipelines/test_placement_on_ray.py",
    "pipelines/test_spot.py",
    "pipelines/test_manifest_hostile.py",
    "benchmarks/test_demo_checkpoints.py",
    "actors/test_svd_networks.py",
    "deploy/test_rayjob.py",
    "pipelines/test_secrets.py",
    "pipelines/test_on_ceph.py",
    "pipelines/test_job.py",
    "benchmarks/test_damaged_manifests.py",
    "benchmarks/test_tiers.py",
    "actors/test_hosting_classes.py",
    "benchmarks/test_speed.py",
    "actors/test_stages.py",
    "actors/test_rife_interpolate.py",
    "actors/test_svd_sampler.py",
    "actors/test_svd_fused.py",
    "actors/test_rife_versions.py",
    "actors/test_video.py",
    "benchmarks/test_speed_hosted.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The others stay in the order in which pytest has found them."""
    places = {_TESTS / name: place for place, name in enumerate(_LONG)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
