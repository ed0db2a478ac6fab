"""Small checkpoints that the tests share; everything else is made where it is used."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# s3_server, s3_storage, s3_bucket; head; after; heavy files first
pytest_plugins = ["tests.servers", "tests.clusters", "tests.clock", "tests.order"]

# Tests start a thousand processes. Where an environment keeps no compiled modules, each of them compiles ours anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start: each of Ray's nodes,
# which ends by it, would be waited for in vain, for half a minute.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests compute tiny tensors, where a second thread only waits for the first: on a busy machine that costs tenfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Triton's kernels are Python while it is told so before it is first imported, by whomever; not where they can run.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def _no_logs_of_other_tests() -> Iterator[None]:
    """A test that starts a worker in this process has it log as one; the next test knows nothing of that."""
    yield
    logger = logging.getLogger("stillreel")
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def svd_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SVD checkpoint of the real classes, with random weights."""
    from benchmarks.make_checkpoints import TINY_SIZES, make_svd_checkpoint

    return make_svd_checkpoint(tmp_path_factory.mktemp("checkpoints") / "svd", sizes=TINY_SIZES)


@pytest.fixture(scope="session")
def rife_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small RIFE network that has learnt nothing and cross-fades."""
    from actors.rife import weights
    from actors.rife.untrained import crossfade_net

    path = tmp_path_factory.mktemp("checkpoints") / "rife-small.safetensors"
    weights.save(crossfade_net(), path)
    return path
