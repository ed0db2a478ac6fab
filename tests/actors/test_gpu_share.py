"""Workers that share a GPU: what each may take of its memory, and that a worker is told before it makes its stage."""

import random
from math import floor
from types import SimpleNamespace

import pytest
import torch

from actors.generators.svd.settings import SvdModelSettings, SvdParameters
from actors.gpu_share import CONTEXT_BYTES, GpuShares, Limited, Sharer
from actors.rife import memory
from actors.settings import ImageSettings
from actors.storage import Storage

GB = 10**9
H100, L4, T4 = 80 * GB, 24 * GB, 16 * GB
RIFE = 5 * GB


def shares(generate: float, actors: int, finish: float, finishers: int) -> GpuShares:
    return GpuShares(generate, actors, finish, finishers, RIFE)


def test_rife_gets_its_need_and_svd_the_rest() -> None:
    both = shares(0.5, 1, 0.5, 1)
    assert both.limit("finish", H100) == RIFE
    assert both.limit("generate", H100) == H100 - RIFE - 2 * CONTEXT_BYTES
    # Of a small GPU RIFE takes no more than its share.
    assert both.limit("finish", 8 * GB) == 4 * GB - CONTEXT_BYTES
    assert both.limit("generate", 8 * GB) == 4 * GB - CONTEXT_BYTES
    assert both.limit("generate", GB) == 0


def test_a_gpu_of_its_own_has_no_limit() -> None:
    alone = shares(1, 7, 0.25, 4)
    assert alone.limit("generate", H100) is None
    assert alone.limit("finish", H100) == H100 // 4 - CONTEXT_BYTES  # no generator is beside it
    assert shares(1, 7, 1, 1).limit("finish", H100) is None
    assert shares(0.5, 2, 0, 1).limit("finish", H100) is None
    assert shares(0.5, 2, 0, 1).limit("generate", H100) == H100 // 2 - CONTEXT_BYTES


def test_together_they_never_take_more_than_there_is() -> None:
    """However Ray puts them together."""
    dice = random.Random(3)
    for _ in range(2000):
        n, m = dice.choice([2, 3, 4, 8]), dice.choice([1, 2, 3, 4, 8])
        divided = shares(1 / n, dice.randint(1, 9), dice.choice([0, 1 / m]), dice.randint(1, 9))
        total = dice.choice([L4, T4, H100])
        generate, finish = divided.limit("generate", total), divided.limit("finish", total)
        assert generate is not None
        for generators in range(1, min(n, divided.generate_actors) + 1):
            room = (1 - generators / n) / divided.finish_gpus if divided.finish_gpus else 0
            finishers = min(floor(room + 1e-6), divided.finish_actors) if divided.finish_gpus < 1 else 0
            held = generators * (generate + CONTEXT_BYTES) + finishers * ((finish or 0) + CONTEXT_BYTES)
            assert held <= total + 8, (divided, generators)


class Cuda:
    """torch.cuda, of which a process is told its share."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, total: int | None) -> None:
        self.calls: list[object] = []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: total is not None)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=total))
        monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *to: self.calls.append(to))

    def made(self) -> str:
        self.calls.append("made")
        return "a stage"


@pytest.mark.parametrize(("worker", "limit"), [("generate", L4 - RIFE - 2 * CONTEXT_BYTES), ("finish", RIFE)])
def test_a_worker_is_limited_before_it_makes_its_stage(
    worker: Sharer, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = Cuda(monkeypatch, L4)
    assert Limited(cuda.made, shares(0.5, 1, 0.5, 1), worker)() == "a stage"
    assert cuda.calls == [(limit / L4, 0), "made"]


@pytest.mark.parametrize(("divided", "total"), [(shares(1, 2, 0.25, 4), L4), (shares(0.5, 1, 0.5, 1), None)])
def test_no_limit_where_nothing_is_shared_or_there_is_no_gpu(
    divided: GpuShares, total: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = Cuda(monkeypatch, total)
    assert Limited(cuda.made, divided, "generate")() == "a stage"
    assert cuda.calls == ["made"]


def test_needs_are_those_that_were_measured() -> None:
    """benchmarks/RESULTS.md: 21.8 GB resident and 6.0 sequential on GPUs; 3.8 GB counted for 8 pairs of RIFE."""
    ways = SvdModelSettings(source="none").memory_needs(SvdParameters(), ImageSettings(), Storage()).ways
    needs = {way.name: way.needed_bytes / GB for way in ways}
    assert list(needs) == ["resident", "chunked", "offload", "sequential"]
    assert sorted(needs.values(), reverse=True) == list(needs.values())
    assert needs["resident"] == pytest.approx(21.8, rel=0.03)
    assert 6.0 <= needs["sequential"] <= 8.0
    assert 3.8 <= memory.needed_bytes(1024, 576, 8) / GB <= 3.8 * 1.4


def test_ways_begin_where_the_settings_do() -> None:
    def names(**model: object) -> list[str]:
        settings = SvdModelSettings.model_validate({"source": "none"} | model)
        return [way.name for way in settings.memory_needs(SvdParameters(), ImageSettings(), Storage()).ways]

    assert names(memory="offload") == ["offload", "sequential"]
    assert names(decode_chunk_frames=8) == ["chunked", "offload", "sequential"]
    assert names(tier="fast", precision="bf16", fast={"fp8": True}) == ["resident", "chunked"]
