"""Where the stages of a run are on a cluster of unlike nodes; their GPUs are pretended."""

import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray import cloudpickle
from rich.console import Console

from actors.contracts import Generated, Loaded, Made, Planned
from actors.generators.null import NullGenerator
from actors.runner.actor import MakeStage
from actors.settings import InterpolationSettings
from actors.stages.finish import Finish
from actors.stages.generate import Generate
from actors.stages.load import Load
from actors.storage import Storage
from pipelines import run as runs
from pipelines.config import Config, load_config
from pipelines.dataset.layout import Layout
from pipelines.driver.bundles import Bundles
from pipelines.driver.report import Summary
from pipelines.placement.nodes import TYPE_LABEL
from pipelines.pools import Pools
from tests.clusters import Head, lose, node_id, ray_connected
from tests.jobs import in_process, write_null_config, write_pictures
from tests.pretended import pretended_cluster

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers need not import this module and all that it needs

pytestmark = pytest.mark.slow

PICTURES = 12
_PATIENCE_S = 180  # Ray sees a lost node within 15 s
WHOLE_GPUS = ("workers.generate.actors=auto", "workers.generate.num_gpus=1", "workers.generate.num_cpus=1")
ENCODES = ("workers.finish.num_cpus=1", "workers.load.num_cpus=1")


@dataclass
class Cluster:
    """Of two unlike GPUs, and a node without one."""

    head: Head
    nodes: dict[str, psutil.Process]
    ids: dict[str, str]  # Ray's id of a node -> our name


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ExitStack() as stack:
        head, start = stack.enter_context(pretended_cluster())
        with ray_connected(head):
            nodes = {"H100": start(cpus=2, gpus=1, accelerator="H100"), "T4": start(cpus=2, gpus=1, accelerator="T4")}
            nodes["CPU"] = start(cpus=2)
            found = {node["NodeID"]: node["Labels"] for node in ray.nodes() if node["Resources"].get("CPU")}
        yield Cluster(head, nodes, {node: labels.get(TYPE_LABEL, "CPU") for node, labels in found.items()})


def mark(folder: Path, stage: str) -> None:
    """Write down the node on which this worker is."""
    with (folder / stage).open("a") as file:
        file.write(f"{ray.get_runtime_context().get_node_id()}\n")


class MarkedLoad(Load):
    def __init__(self, folder: Path, *args: Any) -> None:
        super().__init__(*args)
        self._folder = folder

    def __call__(self, work: Planned) -> Loaded:
        mark(self._folder, "load")
        return super().__call__(work)


class MarkedGenerate(Generate):
    def __init__(self, folder: Path, *args: Any) -> None:
        super().__init__(*args)
        self._folder = folder

    def __call__(self, image: Loaded) -> Generated:
        mark(self._folder, "generate")
        return super().__call__(image)


class MarkedFinish(Finish):
    def __init__(self, folder: Path, *args: Any) -> None:
        super().__init__(*args)
        self._folder = folder

    def __call__(self, clip: Generated) -> Made:
        mark(self._folder, "finish")
        return super().__call__(clip)


class Run:
    """Of a few pictures without a model, with marks of where it was."""

    def __init__(self, folder: Path, cluster: Cluster, *overrides: str) -> None:
        write_pictures(folder / "images", PICTURES)
        self.folder, self.cluster = folder, cluster
        self.path = write_null_config(folder / "job.yaml", folder / "images", folder / "out")
        self.overrides = [f"ray.address={cluster.head.address}", *WHOLE_GPUS, *ENCODES, *overrides]
        self.config: Config = load_config([str(self.path)], self.overrides)

    def make(self) -> tuple[Summary, str]:
        """What came of it, and what it said."""
        config, storage = self.config, Storage()
        stages: dict[str, MakeStage] = {
            "load": partial(MarkedLoad, self.folder, config.image, storage),
            "generate": partial(
                MarkedGenerate, self.folder, NullGenerator, config.model, config.generation, "", config.image, storage
            ),
            "finish": partial(
                MarkedFinish, self.folder, InterpolationSettings(), config.video, config.image,
                Layout(config.output).video, storage,
            ),
        }  # fmt: skip
        with (self.folder / "said.txt").open("w") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's own
            summary = runs.run(config, Console(file=file, width=200), None, stand_ins=stages)
        return summary, (self.folder / "said.txt").read_text()

    def where(self, stage: str) -> set[str]:
        path = self.folder / stage
        return {self.cluster.ids[node] for node in path.read_text().split()} if path.exists() else set()


def test_rife_goes_to_the_gpus_that_do_not_generate_and_loading_to_none(
    tmp_path: Path, cluster: Cluster, rife_weights: Path
) -> None:
    """The stage itself goes without RIFE here, which changes nothing of where it is."""
    rife = [f"interpolation.weights={rife_weights}", "interpolation.factor=2", "interpolation.device=cpu"]
    halves = ["workers.finish.actors=2", "workers.finish.num_gpus=0.5"]
    run = Run(tmp_path, cluster, *rife, *halves, "workers.generate.accelerator_types=[H100]")
    summary, said = run.make()
    assert (summary.made, summary.failed) == (PICTURES, 0)
    assert {stage: run.where(stage) for stage in ("load", "generate", "finish")} == {
        "load": {"CPU"},
        "generate": {"H100"},
        "finish": {"T4"},
    }
    line = "Who goes where: 1 generate (on H100); 2 finish (on T4); 2 loading tasks (on nodes without a GPU)"
    assert line in said.splitlines()


def test_actors_that_share_a_gpu_are_on_one_which_leaves_the_other_to_a_generator(
    tmp_path: Path, cluster: Cluster, rife_weights: Path
) -> None:
    rife = [f"interpolation.weights={rife_weights}", "interpolation.factor=2", "interpolation.device=cpu"]
    halves = ["workers.finish.actors=2", "workers.finish.num_gpus=0.5", "workers.generate.actors=1"]
    run = Run(tmp_path, cluster, *rife, *halves)
    summary, _ = run.make()
    assert (summary.made, summary.failed) == (PICTURES, 0)
    (finishing,), (generating,) = run.where("finish"), run.where("generate")
    assert {finishing, generating} == {"H100", "T4"}
    with ray_connected(cluster.head):
        deadline = time.monotonic() + 30
        while ray.available_resources().get("GPU") != 2 and time.monotonic() < deadline:
            time.sleep(0.5)
        assert ray.available_resources()["GPU"] == 2  # given back


def test_a_plan_shows_it_and_a_type_that_is_not_there_is_refused(tmp_path: Path, cluster: Cluster) -> None:
    run = Run(tmp_path, cluster)
    done = in_process("plan", "--cluster", "--config", run.path, *run.overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [re.sub(r" {2,}", " | ", line.strip()) for line in done.stdout.splitlines()]
    assert {
        "1 | 1 x H100 of 80 GB, 2 CPUs | 1 | - | - | -",
        "1 | 1 x T4 of 16 GB, 2 CPUs | 1 | - | - | -",
        "1 | 2 CPUs | - | 1 | 1 | -",
    } <= {*rows}
    assert any(row.startswith("estimate | unknown:") for row in rows)
    asks = "workers.generate.accelerator_types=[A100]"
    refusal = "workers.generate.accelerator_types asks for A100, and the cluster has 1 x H100, 1 x T4; where it grows"
    done = in_process("plan", "--cluster", "--config", run.path, *run.overrides, asks)
    assert done.returncode == 0
    assert f"note: `run` would say: {refusal}" in done.stdout.replace("\n", " ")
    done = in_process("run", "--config", run.path, *run.overrides, asks)
    assert done.returncode == 2
    assert done.stderr.startswith(f"stillreel: {refusal}")
    assert len(done.stderr.strip().splitlines()) == 1


def test_what_loads_and_encodes_goes_on_elsewhere_where_its_node_is_lost(tmp_path: Path, cluster: Cluster) -> None:
    """The last test: the node stays away."""
    run = Run(tmp_path, cluster)
    node, marks, pictures = cluster.nodes["CPU"], tmp_path / "load", PICTURES
    (node_id,) = [one for one, name in cluster.ids.items() if name == "CPU"]

    class Stuck(MarkedLoad):
        """Comes to no end with the last pictures, on the node that is to be lost."""

        def __call__(self, work: Planned) -> Loaded:
            loaded = super().__call__(work)
            is_there = ray.get_runtime_context().get_node_id() == node_id
            while is_there and len(marks.read_text().split()) > pictures // 2:
                time.sleep(1)
            return loaded

    def lose_node() -> None:
        while not marks.exists() or len(marks.read_text().split()) <= PICTURES // 2:
            time.sleep(0.2)
        for process in [node, *node.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    losing = threading.Thread(target=lose_node, daemon=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "MarkedLoad", Stuck)
        losing.start()
        summary, _ = run.make()
    losing.join()
    assert (summary.made, summary.failed) == (PICTURES, 0)
    assert run.where("load") > {"CPU"}
    assert "CPU" not in run.where("generate")


def test_where_nodes_are_lost_and_others_have_joined_all_actors_get_a_place() -> None:
    """Of two nodes that are free Ray would give quarters to both, and no whole GPU would be left for the generator."""
    pools = Pools(2, 1.0, 4, 0.25, together=4)

    class Actor:
        def where(self) -> str:
            return str(ray.get_runtime_context().get_node_id())

    spread = {"max_restarts": -1, "max_task_retries": -1, "num_cpus": 0, "scheduling_strategy": "SPREAD"}
    remote: Any = ray.remote(**spread)(Actor)

    with pretended_cluster() as (head, start), ray_connected(head):
        nodes = [start(cpus=1, gpus=1, accelerator="H100") for _ in range(3)]
        bundles = Bundles(pools, 0.1)
        of_next = bundles.options()["ray_remote_args_fn"]
        finish = [remote.options(num_gpus=0.25, num_cpus=0.1, **of_next()).remote() for _ in range(4)]
        generate = [remote.options(num_gpus=1).remote() for _ in range(2)]

        def places() -> tuple[set[str], set[str]]:
            answers = [actor.where.remote() for actor in (*finish, *generate)]
            at: list[str] = ray.get(answers, timeout=_PATIENCE_S)
            return {*at[:4]}, {*at[4:]}

        (quarters,), wholes = places()
        assert len(wholes - {quarters}) == 2
        for _ in range(2):
            start(cpus=1, gpus=1, accelerator="H100")
        by_id = {node_id(node): node for node in nodes}
        lose(by_id[quarters])
        lose(by_id[wholes.pop()])
        (quarters,), wholes = places()
        assert len(wholes - {quarters}) == 2
        bundles.remove()
