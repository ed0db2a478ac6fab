"""Who goes where: nothing that a cluster has not got, each actor on a node that holds it, and all of it said."""

import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import ray.util.accelerators
from rich.console import Console

from actors import accelerators
from actors.errors import ConfigError
from pipelines.config import Config, load_config
from pipelines.driver.bundles import Bundles, _in_turn
from pipelines.placement.nodes import TYPE_LABEL, Node, nodes_of
from pipelines.placement.placing import Placement, place
from pipelines.placement.rooms import Room, held_together, spread
from pipelines.placement.showing import print_line, print_placement
from pipelines.pools import Pools
from tests.actors.test_hosting_memory import wan

RIFE = ("interpolation.weights=w.pkl", "interpolation.factor=2")
ROUNDING = 1e-6
CLUSTERS = 150


def config(*overrides: str) -> Config:
    return load_config([], ["manifest=m.csv", "output=out", "model.source=none", *overrides])


def nodes(count: int, cpus: float, gpus: int = 0, accelerator: str | None = None) -> list[Node]:
    memory = accelerators.memory_bytes(accelerator) if accelerator else None
    return [Node(cpus, gpus, accelerator, memory)] * count


def by_kind(placement: Placement) -> dict[str, tuple[int, int, int]]:
    """Actors that generate and finish, and loading tasks, by the kind of node."""
    totals: dict[str, tuple[int, int, int]] = {}
    for share in placement.shares:
        generate, finish, loads = totals.get(share.node.name, (0, 0, 0))
        totals[share.node.name] = (generate + share.generate, finish + share.finish, loads + share.loads)
    return totals


def random_cluster(dice: random.Random) -> list[Node]:
    kinds = [None, "H100", "H100", "A100", "L4", "T4", "P4", "GeForce-RTX-4070"]
    made: list[Node] = []
    for _ in range(dice.randint(1, 4)):
        accelerator = dice.choice(kinds)
        gpus = dice.choice([1, 1, 2, 4, 8]) if accelerator else 0
        made += nodes(dice.randint(1, 6), dice.choice([0, 1, 2, 4, 6, 8, 32, 100]), gpus, accelerator)
    return made


def random_config(dice: random.Random) -> Config:
    overrides = [*dice.choice([(), RIFE])]
    if dice.random() < 0.4:
        overrides.append(f"workers.generate.num_gpus={dice.choice([0.25, 0.5, 1, 2])}")
    if overrides and overrides[0] == RIFE[0] and dice.random() < 0.5:
        overrides.append(f"workers.finish.num_gpus={dice.choice([0, 0.25, 0.5, 1])}")
    for pool in ("generate", "finish"):
        if dice.random() < 0.3:
            overrides.append(f"workers.{pool}.actors={dice.randint(1, 9)}")
        overrides.append(f"workers.{pool}.num_cpus={dice.choice([0, 0.5, 1, 2])}")
    if dice.random() < 0.2:
        overrides.append(f"model.precision={dice.choice(['fp32', 'bf16'])}")
    return config(*overrides)


def placed(settings: Config, cluster: list[Node]) -> Placement | None:
    """None where it is refused."""
    try:
        return place(settings, cluster)
    except ConfigError:
        return None


def check_node(share_of: Placement, index: int, settings: Config) -> None:
    """What one node was given is there, and its fractions fit on whole GPUs."""
    share, pools = share_of.shares[index], share_of.pools
    reserved = (
        share.generate * settings.workers.generate.num_cpus
        + share.finish * settings.workers.finish.num_cpus
        + share.loads * settings.workers.load.num_cpus
    )
    assert reserved <= share.node.cpus + ROUNDING
    assert share.generate * pools.generate_gpus + share.finish * pools.finish_gpus <= share.node.gpus + ROUNDING
    room = Room(share.node)
    assert all(room.take(pools.generate_gpus, settings.workers.generate.num_cpus) for _ in range(share.generate))
    assert all(room.take(pools.finish_gpus, settings.workers.finish.num_cpus) for _ in range(share.finish))


def test_no_cluster_gives_more_than_it_has_and_what_is_set_is_not_changed() -> None:
    dice, ends = random.Random(1), Counter[str]()
    for _ in range(CLUSTERS):
        cluster, settings = random_cluster(dice), random_config(dice)
        placement = placed(settings, cluster)
        ends["refused" if placement is None else "placed"] += 1
        if placement is None:
            continue
        pools = placement.pools
        assert sum(share.generate for share in placement.shares) == pools.generate_actors >= 1
        assert sum(share.finish for share in placement.shares) == pools.finish_actors >= 1
        assert sum(share.loads for share in placement.shares) >= 1
        assert settings.workers.generate.actors in ("auto", pools.generate_actors)
        assert settings.workers.finish.actors in ("auto", pools.finish_actors)
        assert pools.load_tasks is None or pools.load_tasks == sum(share.loads for share in placement.shares)
        for index in range(len(cluster)):
            check_node(placement, index, settings)
    assert min(ends.values()) > CLUSTERS / 10, ends


def test_gpus_that_are_held_are_told_by_their_type() -> None:
    cluster = [*nodes(2, 32, 4, "H100"), *nodes(2, 8, 1, "T4"), *nodes(1, 8)]
    placement = place(config(*RIFE, "workers.generate.accelerator_types=[H100]"), cluster)
    assert placement.pools.gpus == sum(placement.held.values())
    assert placement.generating_on == {"H100": 8.0}
    assert placement.held == {"H100": 8.0, "T4": 1.0}  # one GPU of RIFE for eight that generate
    assert place(config("workers.generate.num_gpus=0"), nodes(2, 8)).held == {}


def test_halves_on_two_nodes_make_no_whole() -> None:
    asked = ["workers.generate.num_gpus=0.5", "workers.generate.actors=2", "workers.finish.num_gpus=1"]
    with pytest.raises(ConfigError, match=r"only 0 of 1 actor of workers.finish have room: each needs 1 GPU and 1 C"):
        place(config(*RIFE, *asked, "workers.finish.actors=1"), nodes(2, 8, 1, "H100"))
    placement = place(config(*RIFE, *asked, "workers.finish.actors=1"), nodes(1, 8, 2, "H100"))
    assert by_kind(placement)["H100"][:2] == (2, 1)


def test_fractions_share_a_gpu_as_ray_packs_them() -> None:
    """Tried on a Ray 2.60: of a half and quarters, one GPU carries a half and two quarters."""
    room = Room(Node(0, 1, "H100"))
    assert [room.take(0.5, 0), room.take(0.25, 0), room.take(0.25, 0), room.take(0.25, 0)] == [True] * 3 + [False]
    room = Room(Node(0, 2, "H100"))
    assert [room.take(0.25, 0), room.take(1, 0), room.take(1, 0), room.take(0.5, 0)] == [True, True, False, True]


@pytest.mark.parametrize(("gpus", "together"), [((1, 0.25), 4), ((0.5, 0.25), 2), ((2, 0.5), 2), ((0.5, 0.5), 1)])
def test_actors_that_would_split_what_a_generator_needs_are_held_together(
    gpus: tuple[float, float], together: int
) -> None:
    assert held_together(*gpus) == together


def test_where_one_node_carries_all_of_rife_the_others_generate() -> None:
    """As on Kubernetes: eight nodes of one GPU."""
    asked = ["workers.generate.actors=7", "workers.finish.actors=4"]
    placement = place(config(*RIFE, *asked), nodes(8, 8, 1, "H100"))
    assert placement.pools.together == 4
    assert Counter((share.generate, share.finish) for share in placement.shares) == {(1, 0): 7, (0, 4): 1}
    # Six and what is over; and where no node has the CPUs for four, each by itself.
    placement = place(config(*RIFE, "workers.generate.actors=6", "workers.finish.actors=6"), nodes(8, 8, 1, "H100"))
    assert Counter((share.generate, share.finish) for share in placement.shares) == {(1, 0): 6, (0, 4): 1, (0, 2): 1}
    placement = place(config(*RIFE, *asked), nodes(8, 3, 2, "H100"))
    assert placement.pools.together == 1
    # Where nodes are to come it is not known what they have: together, if one can hold them.
    assert place(config(*RIFE, *asked, "ray.autoscaling=true"), []).pools.together == 4
    # Apart from the generators nothing is split.
    told = ["workers.generate.accelerator_types=[H100]", "workers.finish.accelerator_types=[L4]"]
    assert place(config(*RIFE, *told), nodes(2, 8, 1, "H100") + nodes(2, 8, 1, "L4")).pools.together == 1


def test_each_actor_gets_the_group_of_its_own() -> None:
    of_next = _in_turn(["first", "second"], Pools(6, 1.0, 6, 0.25, together=4))
    asked = [of_next()["scheduling_strategy"].placement_group for _ in range(7)]
    assert asked == ["first"] * 4 + ["second"] * 2 + ["first"]
    # Without a need each goes where Ray puts it.
    alone = Pools(1, 1.0, 1, 0.25, where={"finish": {"label_selector": {TYPE_LABEL: "in(T4)"}}})
    assert Bundles(alone, 1.0).options() == {"label_selector": {TYPE_LABEL: "in(T4)"}}


def test_actors_are_spread() -> None:
    rooms = [Room(node) for node in [*nodes(2, 8, 2, "H100"), *nodes(1, 8, 1, "H100")]]
    assert spread(rooms, 4, gpus=1, cpus=1, may_take=lambda _: True) == [2, 1, 1]
    assert spread(rooms, 4, gpus=1, cpus=1, may_take=lambda _: True) == [0, 1, 0]


def test_each_stage_goes_to_what_it_needs() -> None:
    placement = place(config(*RIFE), nodes(2, 16, 1, "H100") + nodes(1, 16, 2, "P4") + nodes(2, 8))
    assert by_kind(placement) == {"H100": (2, 0, 0), "P4": (1, 4, 0), "no GPU": (0, 0, 12)}
    # In fp32 a P4 holds no SVD at all.
    placement = place(config(*RIFE, "model.precision=fp32"), nodes(2, 16, 1, "H100") + nodes(1, 16, 2, "P4"))
    assert by_kind(placement) == {"H100": (2, 0, 6), "P4": (0, 4, 2)}
    where = placement.pools.where
    assert where["generate"] == {"label_selector": {TYPE_LABEL: "!in(P4)"}}
    assert where["finish"] == {"label_selector": {TYPE_LABEL: "in(P4)"}}
    assert placement.notes == [
        "2 x P4: too small, svd needs 13.5 GB at least (model.memory=sequential)",
        "GPUs left idle: 1 x P4",
    ]


def test_where_the_small_gpus_are_too_few_for_rife_the_others_carry_it_too() -> None:
    cluster = nodes(4, 64, 8, "H100") + nodes(1, 64, 1, "P4")
    placement = place(config(*RIFE, "model.precision=fp32"), cluster)
    # (32 - 8 x 1) / 9, rounded up, of the H100s.
    assert placement.pools.generate_actors == 29
    assert placement.pools.finish_actors == 16
    assert placement.pools.where["finish"] == {}
    assert not [note for note in placement.notes if "idle" in note]


def test_a_tighter_way_is_said() -> None:
    placement = place(config(), nodes(1, 8, 1, "T4") + nodes(1, 8, 1, "H100"))
    assert {share.node.name: share.way for share in placement.shares} == {"T4": "sequential", "H100": "resident"}
    assert placement.notes == [
        (
            "T4 (16 GB): clips are expected to be made sequential there (resident needs 22.0 GB); to leave those to "
            "RIFE, name the others in workers.generate.accelerator_types"
        )
    ]
    # On a GPU that is shared with RIFE there is less.
    (alone,) = place(config(), nodes(1, 8, 1, "L4")).shares
    (shared,) = place(config(*RIFE), nodes(1, 8, 1, "L4")).shares
    assert (alone.way, shared.way) == ("resident", "offload")


@pytest.mark.parametrize(
    ("overrides", "cluster", "said"),
    [
        (
            ["workers.generate.accelerator_types=[A100,H10]"],
            nodes(2, 8, 8, "H100") + nodes(1, 8, 2, "T4"),
            (
                "workers.generate.accelerator_types asks for A100 or H10, and the cluster has 16 x H100, 2 x T4; where "
                "it grows on demand, set ray.autoscaling=true; did you mean 'H100'?"
            ),
        ),
        (
            [*RIFE, "workers.finish.accelerator_types=[L4]"],
            nodes(1, 8, 1, "H100"),
            "workers.finish.accelerator_types asks for L4, and the cluster has 1 x H100; where it grows on demand",
        ),
        (
            ["workers.generate.accelerator_types=[H100]"],
            [Node(8, 1, "H100", is_labelled=False)],
            f"the cluster has 1 x H100, without Ray's label {TYPE_LABEL}; where",
        ),
        (
            ["model.precision=fp32"],
            nodes(3, 8, 1, "P4"),
            "no GPU of the cluster (3 x P4) holds the generator: svd needs 13.5 GB at least",
        ),
        (
            ["workers.generate.num_gpus=0.5"],
            nodes(1, 8, 1, "P100"),
            "svd needs 6.7 GB at least (model.memory=sequential); raise workers.generate.num_gpus, lower image.width",
        ),
        ([], nodes(2, 1.5, 1, "H100"), "no node has 1 CPU left for loading beside the actors: lower workers.*.num_c"),
    ],
)
def test_what_is_not_there_is_refused_in_one_sentence(overrides: list[str], cluster: list[Node], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        place(config("workers.finish.num_cpus=0", *overrides), cluster)


def test_a_type_that_is_named_is_tried_and_a_growing_cluster_may_get_it() -> None:
    placement = place(config("model.precision=fp32", "workers.generate.accelerator_types=[P4]"), nodes(1, 8, 1, "P4"))
    assert placement.pools.where["generate"] == {"label_selector": {TYPE_LABEL: "in(P4)"}}
    assert placement.notes == ["P4 (8 GB): clips may fit in no way there (resident needs 44.0 GB)"]
    grown = config("workers.generate.accelerator_types=[A100]", "workers.generate.actors=3", "ray.autoscaling=true")
    placement = place(grown, nodes(1, 8, 1, "H100"))
    assert placement.pools.generate_actors == 3
    assert "3 of 3 actors of workers.generate wait for nodes with GPUs of type A100 that are to come" in placement.notes


def test_nodes_without_gpus_load_and_encode_where_they_can_feed_the_others() -> None:
    placement = place(config(), nodes(2, 32, 8, "H100") + nodes(2, 16))
    assert by_kind(placement) == {"H100": (16, 0, 0), "no GPU": (0, 4, 28)}
    soft = {"label_selector": {TYPE_LABEL: "!in(H100)"}, "fallback_strategy": [{"label_selector": {}}]}
    assert placement.pools.where["load"] == placement.pools.where["finish"] == soft
    # Too few: the others load as well.
    placement = place(config(), nodes(2, 32, 8, "H100") + nodes(1, 4))
    assert placement.pools.where["load"] == {}
    assert placement.pools.load_tasks == 48
    # Ray cannot tell nodes without the label.
    placement = place(config(), [Node(32, 8, "H100", is_labelled=False), *nodes(2, 16)])
    assert placement.pools.where["load"] == {}


def test_where_nodes_are_to_come_loading_keeps_off_all_gpus_that_are_known() -> None:
    grows = ["ray.autoscaling=true", "workers.generate.actors=2", "workers.finish.accelerator_types=[X9]", *RIFE]
    for cluster in ([], nodes(1, 8, 1, "H100")):
        placement = place(config(*grows), cluster)
        selector = placement.pools.where["load"]["label_selector"][TYPE_LABEL]
        kept_off = re.fullmatch(r"!in\((.*)\)", selector)
        assert kept_off is not None
        assert {"H100", "T4", "GeForce-RTX-4090", "X9"} <= {*kept_off[1].split(",")}
        assert placement.pools.where["load"]["fallback_strategy"] == [{"label_selector": {}}]
        assert placement.pools.load_tasks == 8


def test_auto_takes_what_has_room() -> None:
    placement = place(config(*RIFE, "workers.finish.num_cpus=2"), nodes(8, 6, 1, "H100"))
    assert (placement.pools.generate_actors, placement.pools.finish_actors) == (7, 3)
    assert "workers.finish gets 3 actors and not 4: no node has 0.25 GPUs and 2 CPUs left" in placement.notes[0]


@pytest.mark.parametrize(
    ("overrides", "actors"),
    [
        (["workers.generate.actors=12"], (12, 8)),
        (["workers.generate.actors=15"], (15, 4)),
        (["workers.generate.actors=1"], (1, 4)),
        (["workers.finish.actors=16", "workers.finish.num_gpus=0.5"], (8, 16)),
        (["workers.finish.actors=2"], (15, 2)),
        (["workers.finish.num_gpus=0"], (16, 1)),
    ],
)
def test_auto_gets_what_a_number_leaves(overrides: list[str], actors: tuple[int, int]) -> None:
    pools = place(config(*RIFE, *overrides), nodes(2, 64, 8, "H100")).pools
    assert (pools.generate_actors, pools.finish_actors) == actors


def test_halves_of_a_single_gpu_are_filled() -> None:
    asked = ["workers.generate.actors=1", "workers.generate.num_gpus=0.5"]
    assert place(config(*RIFE, *asked), nodes(1, 8, 1, "H100")).pools.finish_actors == 2


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["workers.generate.actors=16"],
            (
                "the actor pools need 16.25 GPUs (16 x 1 for workers.generate, 1 x 0.25 for workers.finish) and the "
                "cluster has 16: workers.generate.actors leaves workers.finish too little for one actor; lower "
                "workers.generate.actors or set it to auto, or lower num_gpus of workers.generate or workers.finish"
            ),
        ),
        (
            ["workers.generate.actors=16", "workers.finish.actors=4"],
            "has 16: lower workers.generate.actors or workers.finish.actors or set them to auto, or lower num_gpus of",
        ),
        (["workers.generate.num_gpus=32"], "has 16: lower num_gpus of workers.generate or workers.finish"),
    ],
)
def test_what_nothing_is_left_for_is_said(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        place(config(*RIFE, *overrides), nodes(2, 64, 8, "H100"))


def test_a_small_gpu_that_rife_could_leave_more_of_is_told_how() -> None:
    (note,) = place(config(*RIFE), nodes(1, 8, 1, "P100")).notes
    assert note == (
        "P100 (12 GB): clips may fit in no way there (resident needs 22.0 GB); interpolation.pairs_per_batch=1 leaves "
        "enough of a GPU that is shared with RIFE"
    )
    (share,) = place(config(*RIFE, "interpolation.pairs_per_batch=1"), nodes(1, 8, 1, "P100")).shares
    assert share.way == "sequential"
    (note,) = place(config(*RIFE), nodes(1, 8, 1, "P4")).notes
    assert "pairs_per_batch" not in note  # there it would be too little all the same


def test_types_are_rays() -> None:
    """Each type of Ray's that its nodes offer as a GPU has a memory here, or is none of a stage's."""
    names = {value for name, value in vars(ray.util.accelerators).items() if name.isupper() and isinstance(value, str)}
    others = re.compile(r"TPU|aws|Intel-GAUDI|Ascend|MXC|FURIOSA|MOBILINT|M[1-3]|Apple|AMD-Radeon")
    assert {name for name in names if accelerators.memory_bytes(name) is None and not others.match(name)} == set()
    assert accelerators.memory_bytes("GeForce-RTX-4070") is None


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("h100", "H100"),
        ("NVIDIA A10G", "A10G"),
        ("Tesla-T4", "T4"),
        ("a100-80g", "A100-80G"),
        ("L4", None),
        ("X9", None),
    ],
)
def test_other_spellings_of_a_type_are_known(name: str, spelling: str | None) -> None:
    assert accelerators.spelling_of(name) == spelling


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("workers.generate.accelerator_types=[T4,h100]", "no accelerator type as in entry 2; did you mean 'H100'?"),
        ("workers.generate.accelerator_types=H100", "accelerator_types: should be a list, such as [H100] (override"),
        ("cost.gpu_hours={L4: 1, h100: 2}", "cost.gpu_hours: Ray has no accelerator type as in entry 2; did you mean"),
        ("cost.gpu_hours={NVIDIA H100: 2}", "no accelerator type as in entry 1; did you mean 'H100'?"),
        ("cost.gpu_hours={-X: 2}", "entry 1 is no accelerator type, which is a name such as H100"),
        ("workers.generate.accelerator_types=['a b']", "is a name such as H100 or GeForce-RTX-4090"),
        ("workers.finish.accelerator_types=[T4]", "without interpolation.weights that stage takes no GPU"),
    ],
)
def test_mistakes_in_types(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        config(override)
    with pytest.raises(ConfigError, match="would be ignored, because num_gpus is 0"):
        config("workers.generate.num_gpus=0", "workers.generate.accelerator_types=[T4]")


def test_nodes_are_read_from_what_ray_says() -> None:
    two_names = {"accelerator_type:A100": 1.0, "accelerator_type:A100-80G": 1.0}
    found = [
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 2.0} | two_names, "Labels": {TYPE_LABEL: "A100"}},
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0, "accelerator_type:X1": 1.0}, "Labels": {}},
        {"Alive": True, "Resources": {"CPU": 2.0}, "Labels": {}},
        {"Alive": False, "Resources": {}, "Labels": {}},
    ]
    assert nodes_of(found) == [
        Node(4.0, 2, "A100", 80 * 10**9),
        Node(4.0, 1, "X1", None, is_labelled=False),
        Node(2.0),
    ]


def test_it_is_shown_by_kinds_of_nodes_and_in_a_line(tmp_path: Path) -> None:
    placement = place(config(*RIFE), nodes(2, 100, 8, "H100") + nodes(4, 32))
    with (tmp_path / "out.txt").open("w") as file:
        console = Console(file=file, width=120)
        print_placement(placement, console)
        print_line(placement, console)
    lines = (tmp_path / "out.txt").read_text().splitlines()
    rows = [re.split(r" {2,}", line.strip()) for line in lines[1:4]]
    assert rows == [
        ["nodes", "each with", "generate", "finish", "loading tasks", "memory_mode"],
        ["2", "8 x H100 of 80 GB, 100 CPUs", "14", "8", "-", "resident"],
        ["4", "32 CPUs", "-", "-", "56", "-"],
    ]
    assert lines[4:] == [
        "Who goes where: 14 generate (on H100); 8 finish (on H100); 56 loading tasks (on nodes without a GPU)"
    ]


def hosted(tmp_path: Path, *overrides: str) -> Config:
    source = wan(tmp_path / "wan")
    return load_config(
        [], ["generator=diffusers", "manifest=m.csv", "output=out", f"model.source={source}", *overrides]
    )


def test_a_hosted_model_is_placed_by_what_it_needs(tmp_path: Path) -> None:
    settings = hosted(tmp_path)
    placement = place(settings, nodes(1, 8, 1, "H100") + nodes(1, 8, 1, "L40S") + nodes(1, 8, 1, "T4"))
    assert {share.node.name: share.way for share in placement.shares if share.generate} == {
        "H100": "resident",
        "L40S": "offload",
    }
    assert placement.pools.where["generate"] == {"label_selector": {TYPE_LABEL: "!in(T4)"}}
    assert placement.notes[0] == "1 x T4: too small, diffusers needs 15.7 GB at least (model.memory=group)"
    expected = "L40S (48 GB): clips are expected to be made offload there (resident needs 60."
    assert placement.notes[1].startswith(expected)
    with pytest.raises(ConfigError, match=r"\(2 x T4\) holds the generator: diffusers needs 15\.7 GB at least"):
        place(settings, nodes(2, 8, 1, "T4"))
    settings.workers.generate.accelerator_types.append("T4")
    assert place(settings, nodes(2, 8, 1, "T4")).pools.generate_actors == 2


def test_a_machine_whose_memory_cannot_hold_what_is_loaded_is_told(tmp_path: Path) -> None:
    settings = hosted(tmp_path)
    cluster = [replace(node, memory_bytes=240 * 10**9) for node in nodes(2, 96, 8, "H100")]
    (note,) = place(settings, cluster).notes
    assert note == (
        "H100: its machine has 240 GB of memory, and the generators take 8 x 39 GB of it when they load the model "
        "(memory_mode resident): take machines with more, or fewer generators (workers.generate.actors)"
    )
    assert place(settings, nodes(2, 96, 8, "H100")).notes == []
    assert place(config(), [replace(node, memory_bytes=10**9) for node in nodes(1, 8, 1, "H100")]).notes == []


def test_a_hosted_model_whose_needs_are_not_known_is_taken_to_fit(tmp_path: Path) -> None:
    settings = hosted(tmp_path)
    (tmp_path / "wan/transformer/config.json").write_text('{"_class_name": "WanTransformer3DModel"}')
    placement = place(settings, nodes(1, 8, 1, "T4"))
    assert placement.pools.generate_actors == 1
    assert placement.notes == [
        (
            "what diffusers needs of a GPU's memory is not known, and taken to be there: its transformer's config.json "
            "tells no width that is known here"
        )
    ]


@pytest.mark.parametrize(("memory", "store", "known"), [(70, 30, 100), (73, 27.5, 100.5), (100, 30, 100), (0, 0, None)])
def test_a_nodes_memory_is_what_ray_counts_with_its_store_or_what_it_was_told(
    memory: float, store: float, known: float | None
) -> None:
    resources = {"CPU": 8.0, "memory": memory * 1e9, "object_store_memory": store * 1e9}
    (node,) = nodes_of([{"Alive": True, "Resources": resources}])
    assert node.memory_bytes == (known and known * 1e9)
