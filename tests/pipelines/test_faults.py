"""Faults inside workers, on a real Ray: whatever dies, every row comes back exactly once."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray import cloudpickle
from ray.data import DataContext

from actors.contracts import Ending, Failed, Generated, Loaded, Made, Planned, Stage
from actors.errors import CheckpointError, WorkerDiedError
from actors.generators.null import NullGenerator
from actors.records import work_schema
from actors.runner.actor import MakeStage
from actors.stages.finish import Finish
from actors.stages.generate import Generate
from actors.stages.load import Load
from actors.storage import Storage
from pipelines.config import Config, load_config
from pipelines.dataset.layout import Layout
from pipelines.dataset.work import WorkFile
from pipelines.driver.ray_private import KeepNoStatistics
from pipelines.graph import Graph
from pipelines.job import Job
from pipelines.pools import Pools
from tests.clusters import Head, ray_connected
from tests.jobs import write_null_config, write_pictures

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers need not import this module and all that it needs

pytestmark = pytest.mark.slow

WORK_SCHEMA = work_schema(NullGenerator)
PARAMETERS = {"num_frames": 3, "fps": 7, "seed": 1}
POOLS = Pools(generate_actors=1, generate_gpus=0, finish_actors=1, finish_gpus=0)
WAIT_S = 120


@pytest.fixture(scope="module", autouse=True)
def _driver(head: Head) -> Iterator[None]:
    with ray_connected(head):
        yield


class Work:
    """A work file of `count` pictures, the graph over it, and a folder in which the faults leave marks."""

    def __init__(self, folder: Path, config: Config, count: int) -> None:
        self.folder = folder
        self.config = config
        self.clip_ids = [f"{number:02d}" * 32 for number in range(count)]
        rows = [
            {"clip_id": clip_id, "part": 0, "attempts": 0, "image_uri": str(path)} | {"problem": ""} | PARAMETERS
            for clip_id, path in zip(self.clip_ids, write_pictures(folder / "images", count), strict=True)
        ]
        self.work = WorkFile(str(folder / "work.parquet"), count)
        pq.write_table(pa.Table.from_pylist(rows, WORK_SCHEMA), self.work.uri)

    def graph(self, stages: dict[str, MakeStage], pools: Pools = POOLS) -> Graph:
        layout = Layout(self.config.output)
        return Graph(Job(self.config, Storage(), layout, ("revision", "weights")), pools, stages)

    def run(self, stages: dict[str, MakeStage], pools: Pools = POOLS) -> dict[str, Ending]:
        with self.graph(stages, pools) as graph:
            endings = list(graph.endings([self.work]))
            assert graph.ledger.in_flight() == []
        assert sorted(ending.row.clip_id for ending in endings) == self.clip_ids  # each exactly once
        return {ending.row.clip_id: ending for ending in endings}

    def generate(self, stage: type[Generate]) -> MakeStage:
        """What makes `stage`, which is a `Generate`, as the graph makes that."""
        config = self.config
        return partial(stage, NullGenerator, config.model, config.generation, "revision", config.image, Storage())

    def finish(self, stage: type[Finish]) -> MakeStage:
        """The same for a `Finish`."""
        config = self.config
        place = Layout(config.output).video
        return partial(stage, config.interpolation, config.video, config.image, place, Storage())

    def marks(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Work]:
    def make(count: int, **run: Any) -> Work:
        path = write_null_config(tmp_path / "c.yaml", tmp_path, tmp_path / "out")
        overrides = [f"run.{name}={value}" for name, value in run.items()]
        return Work(tmp_path, load_config([str(path)], overrides), count)

    return make


class StillImages(Stage[Loaded, Generated]):
    name = "generate"

    def __call__(self, image: Loaded) -> Generated:
        return Generated(image.row, np.stack([image.image_HWC] * 2))


class NoVideos(Stage[Generated, Made]):
    name = "finish"

    def __call__(self, clip: Generated) -> Made:
        assert clip.frames_FHWC.shape[0] == 2
        return Made(clip.row)


def mark(folder: Path, name: str, text: object = "mark") -> int:
    """Write a mark; how many there are now. Called in workers."""
    with (folder / name).open("a") as file:
        file.write(f"{text}\n")
    return len((folder / name).read_text().split())


def killed_at(ending: Ending) -> str:
    assert isinstance(ending, Failed)
    assert ending.error_type == "WorkerDiedError"
    return f"{ending.stage}: {ending.error}"


def test_images_that_end_or_block_their_worker_fail_and_all_others_are_made(make_job: Callable[..., Work]) -> None:
    job = make_job(6, max_deaths=2, clip_timeout_s=10)
    folder, at_load, at_generate, at_finish = job.folder, *job.clip_ids[:3]

    class DeadlyLoad(Load):
        def __call__(self, work: Planned) -> Loaded:
            if work.row.clip_id == at_load:
                mark(folder, "load")
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(work)

    class DeadlyGenerate(Generate):
        def __call__(self, image: Loaded) -> Generated:
            if image.row.clip_id == at_generate:
                mark(folder, "generate")
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return super().__call__(image)

    class StuckFinish(Finish):
        def __call__(self, clip: Generated) -> Made:
            if clip.row.clip_id == at_finish:
                mark(folder, "finish")
                time.sleep(1000)
            return super().__call__(clip)

    endings = job.run(
        {
            "load": partial(DeadlyLoad, job.config.image, Storage()),
            "generate": job.generate(DeadlyGenerate),
            "finish": job.finish(StuckFinish),
        }
    )
    assert {clip_id for clip_id in job.clip_ids if isinstance(endings[clip_id], Made)} == set(job.clip_ids[3:])
    twice = "the worker died 2 times while it had this clip at stage"
    assert killed_at(endings[at_load]).startswith(f"load: {twice} load: a library crashed")
    assert killed_at(endings[at_generate]) == (
        f"generate: {twice} generate: RuntimeError: CUDA error: an illegal memory access was encountered"
    )
    assert killed_at(endings[at_finish]) == f"finish: {twice} finish: it took longer than run.clip_timeout_s (10 s)"
    # The images of a task are begun with together first, which is no try.
    assert [len(job.marks(stage)) for stage in ("load", "generate", "finish")] == [3, 2, 2]


def in_files(job: Work, count: int) -> list[WorkFile]:
    """The job's rows in so many work files."""
    rows = pq.read_table(job.work.uri)
    size = rows.num_rows // count
    files = [WorkFile(str(job.folder / f"work-{number}.parquet"), size) for number in range(count)]
    for number, file in enumerate(files):
        pq.write_table(rows.slice(size * number, size), file.uri)
    return files


def test_a_reader_of_work_files_that_is_killed_reads_them_again(make_job: Callable[..., Work], head: Head) -> None:
    job = make_job(60)
    files = in_files(job, 30)
    killed = []

    def kill_reader() -> bool:
        """At once: it is one for as long as it reads a file."""
        for process in psutil.Process(head.pid).children(recursive=True):
            with suppress(psutil.Error):
                if "feed" in process.cmdline()[0]:
                    process.kill()
                    killed.append(process.pid)
        return bool(killed)

    with job.graph({"generate": StillImages, "finish": NoVideos}) as graph, after(kill_reader, lambda: None):
        endings = list(graph.endings(files))
    assert killed
    assert sorted(ending.row.clip_id for ending in endings) == job.clip_ids
    assert all(isinstance(ending, Made) for ending in endings)


def test_a_worker_starts_once_however_many_files_the_work_is_in(make_job: Callable[..., Work]) -> None:
    job = make_job(24)
    files = in_files(job, 8)
    folder = job.folder

    class Traced(StillImages):
        def __init__(self) -> None:
            mark(folder, "starts")

    with job.graph({"generate": Traced, "finish": NoVideos}) as graph:
        endings = list(graph.endings(files))
    assert sorted(ending.row.clip_id for ending in endings) == job.clip_ids
    assert all(isinstance(ending, Made) for ending in endings)
    assert len(job.marks("starts")) == 1


def test_ray_keeps_no_statistics_of_the_blocks(make_job: Callable[..., Work]) -> None:
    """Contract with Ray: where this fails, the driver grows by 3 kB a row (`ray_private.KeepNoStatistics`)."""
    job = make_job(4)
    kept: dict[str, int] = {}

    class Look(KeepNoStatistics):
        def after_execution_succeeds(self, executor: Any) -> None:
            kept.update({op.name: len(op._output_blocks_stats) for op in list(executor._topology)[1:]})

    callbacks = DataContext.get_current().custom_execution_callback_classes
    callbacks.append(Look)
    try:
        job.run({"generate": StillImages, "finish": NoVideos})
    finally:
        callbacks.remove(Look)
    assert len(kept) == 4
    assert set(kept.values()) == {0}


def comes(sign: Callable[[], object]) -> bool:
    """Wait for a sign; whether it came."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if sign():
            return True
        time.sleep(0.05)
    return False


@contextmanager
def after(sign: Callable[[], object], action: Callable[[], None]) -> Iterator[None]:
    """Do something as soon as there is a sign, while the block runs."""

    def wait_and_act() -> None:
        if comes(sign):
            action()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_workers_killed_from_outside_lose_nothing(make_job: Callable[..., Work]) -> None:
    job = make_job(4)
    folder, at_generate, at_finish = job.folder, job.clip_ids[1], job.clip_ids[2]

    class SlowOnce(Generate):
        def __call__(self, image: Loaded) -> Generated:
            if image.row.clip_id == at_generate and mark(folder, "generate", os.getpid()) == 1:
                time.sleep(WAIT_S)
            return super().__call__(image)

    class SlowOnceFinish(Finish):
        def __call__(self, clip: Generated) -> Made:
            made = super().__call__(clip)
            if clip.row.clip_id == at_finish and mark(folder, "finish", os.getpid()) == 1:  # uploaded, and not told
                time.sleep(WAIT_S)
            return made

    def kill(name: str) -> None:
        os.kill(int(job.marks(name)[0]), signal.SIGKILL)

    with (
        after(lambda: job.marks("generate"), lambda: kill("generate")),
        after(lambda: job.marks("finish"), lambda: kill("finish")),
    ):
        endings = job.run({"generate": job.generate(SlowOnce), "finish": job.finish(SlowOnceFinish)})
    assert all(isinstance(ending, Made) for ending in endings.values())
    assert [len(job.marks(stage)) for stage in ("generate", "finish")] == [2, 2]
    assert len(list(folder.rglob("*.mp4"))) == 4


def test_a_worker_that_cannot_start_once_is_started_again_and_one_that_never_can_ends_the_run(
    make_job: Callable[..., Work],
) -> None:
    job = make_job(2)
    folder = job.folder

    class Fails(StillImages):
        error: Exception = OSError("the disk is away")
        times = 1

        def __init__(self) -> None:
            if mark(folder, type(self.error).__name__) <= self.times:
                raise self.error

    class FailsAlways(Fails):
        error = MemoryError("no room")
        times = 99

    class Missing(Fails):
        error = CheckpointError("unet is missing: copy the checkpoint again")
        times = 99

    endings = job.run({"generate": Fails, "finish": NoVideos})
    assert all(isinstance(ending, Made) for ending in endings.values())
    with pytest.raises(WorkerDiedError, match="generate died 3 times while it started: MemoryError: no room"):
        job.run({"generate": FailsAlways, "finish": NoVideos})
    with pytest.raises(CheckpointError, match=r"^unet is missing: copy the checkpoint again$"):
        job.run({"generate": Missing, "finish": NoVideos})
    assert [len(job.marks(name)) for name in ("OSError", "MemoryError", "CheckpointError")] == [2, 3, 1]


def test_a_run_that_winds_down_ends_with_what_it_began(make_job: Callable[..., Work]) -> None:
    job = make_job(12)
    folder = job.folder

    class HeldUp(StillImages):
        """Its second clip is not made before the run winds down."""

        def __call__(self, image: Loaded) -> Generated:
            if mark(folder, "begun") == 2:
                assert comes((folder / "winding down").exists)
            return super().__call__(image)

    with job.graph({"generate": HeldUp, "finish": NoVideos}) as graph:
        running = graph.endings([job.work])
        first = next(running)
        assert comes(lambda: len(job.marks("begun")) == 2)
        graph.ledger.wind_down()
        begun = set(graph.ledger.in_flight())
        mark(folder, "winding down")
        rest = [ending.row.clip_id for ending in running]
        assert graph.ledger.in_flight() == []
    assert begun - {first.row.clip_id}, "nothing was under way, so that nothing was tried"
    assert begun <= {first.row.clip_id, *rest}
    assert len(set(rest)) == len(rest) < 11
    assert first.row.clip_id not in rest
