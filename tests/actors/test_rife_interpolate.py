"""Frames between frames: how many, at what times, which of them are new, and how the work is cut into batches."""

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
import torch
from torch import Tensor

from actors.errors import GenerationError, GpuMemoryError
from actors.rife.ifnet import IFNet
from actors.rife.interpolate import CUT_GRID, Interpolator, _coarse, hard_cuts
from actors.rife.times import output_times
from actors.rife.untrained import FADE_SLOPE, SMALL_VARIANT, crossfade_net
from actors.rife.variants import GROUPS, VARIANTS, Variant

Pixels = npt.NDArray[np.uint8]


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory.")


class CountingNet(IFNet):
    """Keeps how many frames each call of the head and of the network had; raises `error` above `memory` samples."""

    def __init__(self, memory: int = 1000, error: Exception = OUT_OF_MEMORY) -> None:
        super().__init__(SMALL_VARIANT)
        self.load_state_dict(crossfade_net().state_dict())
        self.memory, self.error = memory, error
        self.encoded: list[int] = []
        self.called: list[int] = []

    def encode(self, frames_BCHW: Tensor) -> Tensor:
        self.encoded.append(len(frames_BCHW))
        return super().encode(frames_BCHW)

    def forward(self, img0_BCHW: Tensor, img1_BCHW: Tensor, f0_BCHW: Tensor, f1_BCHW: Tensor, t_B: Tensor) -> Tensor:
        self.called.append(len(t_B))
        if len(t_B) > self.memory:
            raise self.error
        return super().forward(img0_BCHW, img1_BCHW, f0_BCHW, f1_BCHW, t_B)


def noise(num_frames: int, height: int = 37, width: int = 53) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


def moving_photo(num_frames: int) -> Pixels:
    photo_HWC = skimage.data.astronaut()
    return np.stack([photo_HWC[3 * i : 3 * i + 64, 4 * i : 4 * i + 64] for i in range(num_frames)])


def run(
    net: IFNet, frames_FHWC: Pixels, factor: Fraction | int, *, loop: bool = False, pairs_per_batch: int = 8
) -> Pixels:
    interpolator = Interpolator(net, device="cpu", precision="fp32")
    made = interpolator.frames(frames_FHWC, factor=Fraction(factor), loop=loop, pairs_per_batch=pairs_per_batch)
    return np.stack(list(made))


@pytest.mark.parametrize(
    ("num_frames", "factor", "count", "loop_count"),
    [
        (25, Fraction(1), 25, 25),
        (25, Fraction(2), 49, 50),
        (14, Fraction(3), 40, 42),
        (14, Fraction(4), 53, 56),
        (14, Fraction(5, 2), 33, 35),
        (25, Fraction(24, 7), 83, 86),
        (3, Fraction(5, 2), 6, 8),
        (1, Fraction(4), 1, 4),
    ],
)
def test_counts_and_times(num_frames: int, factor: Fraction, count: int, loop_count: int) -> None:
    times = output_times(num_frames, factor)
    assert len(times) == count
    assert times == [Fraction(j) / factor for j in range(count)]
    assert times[-1] <= num_frames - 1 < times[-1] + 1 / factor
    looped = output_times(num_frames, factor, loop=True)
    assert len(looped) == loop_count
    assert looped[-1] < num_frames <= looped[-1] + 1 / factor


@pytest.mark.parametrize("factor", [Fraction(1, 2), Fraction(6, 7), Fraction(0)])
def test_a_factor_below_one_is_refused_at_once(factor: Fraction) -> None:
    with pytest.raises(GenerationError, match=f"factor {factor} is below 1"):
        Interpolator(crossfade_net(), device="cpu", precision="fp32").frames(noise(2), factor=factor)


@pytest.mark.parametrize("factor", [Fraction(1), Fraction(2), Fraction(4), Fraction(5, 2), Fraction(24, 7)])
@pytest.mark.parametrize("loop", [False, True])
def test_frames_are_where_their_times_say(factor: Fraction, loop: bool) -> None:
    """Source frames bit by bit; the untrained network's new ones are cross-fades, rounded to the nearest level."""
    frames_FHWC = noise(4)
    made_FHWC = run(crossfade_net(), frames_FHWC, factor, loop=loop, pairs_per_batch=3)
    times = output_times(4, factor, loop=loop)
    assert made_FHWC.shape == (len(times), 37, 53, 3)
    assert made_FHWC.dtype == np.uint8
    for time, made_HWC in zip(times, made_FHWC, strict=True):
        left, t = int(time), float(time - int(time))
        if t == 0:
            assert np.array_equal(made_HWC, frames_FHWC[left])
            continue
        share = 1 / (1 + math.exp(FADE_SLOPE * (t - 0.5)))
        faded_HWC = share * frames_FHWC[left] + (1 - share) * frames_FHWC[(left + 1) % 4]
        assert np.abs(made_HWC - faded_HWC).max() <= 0.501


def test_levels_are_rounded_not_cut_off() -> None:
    dark, light = np.full((1, 64, 64, 3), 10, np.uint8), np.full((1, 64, 64, 3), 13, np.uint8)
    made_FHWC = run(crossfade_net(), np.concatenate([dark, light]), 4)
    assert [int(made_HWC[30, 30, 0]) for made_HWC in made_FHWC] == [10, 11, 12, 12, 13]  # 10.75, 11.5, 12.25


@pytest.mark.parametrize("loop", [False, True])
def test_the_batch_size_does_not_change_the_frames(loop: bool) -> None:
    torch.manual_seed(0)
    net = IFNet(SMALL_VARIANT)
    frames_FHWC = moving_photo(5)
    one_by_one = run(net, frames_FHWC, 3, loop=loop, pairs_per_batch=1)
    together = run(net, frames_FHWC, 3, loop=loop, pairs_per_batch=7)
    assert np.abs(one_by_one.astype(int) - together).max() <= 1  # a difference of 1e-5 can fall on either side of .5
    assert (one_by_one != together).mean() < 1e-3


@pytest.mark.parametrize(("loop", "new_frames"), [(False, 12), (True, 15)])
@pytest.mark.parametrize("pairs_per_batch", [1, 2, 5, 100])
def test_every_frame_is_encoded_once_and_pairs_are_batched(loop: bool, new_frames: int, pairs_per_batch: int) -> None:
    net = CountingNet()
    run(net, noise(5), 4, loop=loop, pairs_per_batch=pairs_per_batch)
    assert sum(net.encoded) == 5
    assert sum(net.called) == new_frames
    assert set(net.called[:-1]) <= {pairs_per_batch}


def test_nothing_is_encoded_when_no_frame_is_new() -> None:
    net = CountingNet()
    frames_FHWC = noise(3)
    assert np.array_equal(run(net, frames_FHWC, 1), frames_FHWC)
    assert net.encoded == []


def test_frames_are_made_as_they_are_asked_for() -> None:
    net = CountingNet()
    frames_FHWC = noise(25)
    made: Iterator[Pixels] = Interpolator(net, device="cpu", precision="fp32").frames(
        frames_FHWC, factor=Fraction(2), pairs_per_batch=2
    )
    assert net.called == []
    for _ in range(5):
        next(made)
    assert net.called == [2]


def test_out_of_memory_halves_the_batch_and_remembers() -> None:
    net = CountingNet(memory=2)
    made_FHWC = run(net, noise(5), 4, pairs_per_batch=8)
    assert net.called == [8, 4, 2, 2, 2, 2, 2, 2]
    assert sum(net.encoded) == 5
    assert np.array_equal(made_FHWC, run(CountingNet(), noise(5), 4, pairs_per_batch=8))


def test_out_of_memory_for_a_single_frame_is_explained() -> None:
    net = CountingNet(memory=0)
    with pytest.raises(GpuMemoryError, match="cpu has too little memory to interpolate one frame of 53x37"):
        run(net, noise(2), 2, pairs_per_batch=4)
    assert net.called == [1]


def test_only_errors_of_memory_are_met_with_less() -> None:
    net = CountingNet(memory=1, error=RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"))
    run(net, noise(2), 3, pairs_per_batch=4)
    assert net.called == [2, 1, 1]
    net = CountingNet(memory=1, error=RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run(net, noise(2), 3, pairs_per_batch=4)
    assert net.called == [2]


@pytest.mark.parametrize("memory", [1000, 2])
def test_a_batch_under_way_changes_nothing(memory: int) -> None:
    """As on CUDA, where one is fetched while the next is made: the same frames in the same order, one call ahead."""
    net = CountingNet(memory=memory)
    interpolator = Interpolator(net, device="cpu", precision="fp32")
    interpolator._runner.batches_ahead = 1
    made = interpolator.frames(noise(5), factor=Fraction(4), loop=True, pairs_per_batch=4)
    assert np.array_equal(np.stack([next(made) for _ in range(2)]), run(CountingNet(), noise(5), 4)[:2])
    assert sum(net.called[-2:]) == min(memory, 4) * 2
    rest = run(CountingNet(), noise(5), 4, loop=True, pairs_per_batch=min(memory, 4))
    assert np.array_equal(np.stack(list(made)), rest[2:])


class CountingBackend:
    """A compiler that hands back what it is given, and counts."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, _inputs: list[Tensor], **_: Any) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> CountingBackend:
    backend = CountingBackend()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    return backend


@pytest.mark.parametrize("variant", [SMALL_VARIANT, replace(VARIANTS["4.6"], channels=(8, 8, 8, 8))])
def test_two_graphs_serve_full_batches_tails_and_all_clips_of_a_size(
    variant: Variant, backend: CountingBackend
) -> None:
    torch.manual_seed(0)
    net = IFNet(variant)
    eager = Interpolator(deepcopy(net), device="cpu", precision="fp32")
    compiled = Interpolator(net, device="cpu", precision="fp32", compile=True)
    cut_FHWC = np.concatenate([noise(3), np.zeros_like(noise(1))])
    for frames_FHWC, factor, loop in [(noise(5), 4, False), (noise(2), 2, True), (cut_FHWC, 3, True)]:
        made_FHWC, expected_FHWC = (
            np.stack(
                list(
                    interpolator.frames(
                        frames_FHWC, factor=Fraction(factor), loop=loop, scene_cut_threshold=0.3, pairs_per_batch=5
                    )
                )
            ).astype(int)
            for interpolator in (compiled, eager)
        )
        assert np.abs(made_FHWC - expected_FHWC).max() <= 1  # a batch that was filled up is rounded a little otherwise
    assert backend.graphs == 2
    upright_FHWC = noise(3, 80, 37)
    assert len(list(compiled.frames(upright_FHWC, factor=Fraction(2), pairs_per_batch=5))) == 5
    assert backend.graphs == 4


def as_compiled(net: IFNet) -> Interpolator:
    """Behaves as with compiled code, without waiting for a compiler."""
    interpolator = Interpolator(net, device="cpu", precision="fp32")
    interpolator._runner.is_compiled = True
    return interpolator


def test_compiled_code_gets_full_batches_always() -> None:
    net = CountingNet()
    made = list(as_compiled(net).frames(noise(5), factor=Fraction(4), pairs_per_batch=8))
    assert net.called == [8, 8]  # 12 new frames
    assert np.array_equal(np.stack(made), run(CountingNet(), noise(5), 4))


def test_warming_up_makes_ready_what_clips_of_that_size_call() -> None:
    net = CountingNet()
    interpolator = as_compiled(net)
    interpolator.warm_up(width=37, height=80, pairs_per_batch=5)
    assert net.called == [5]
    assert len(list(interpolator.frames(noise(3, 80, 37), factor=Fraction(2), pairs_per_batch=5))) == 5
    assert net.called == [5, 5]
    eager = CountingNet()
    Interpolator(eager, device="cpu", precision="fp32").warm_up(width=37, height=80)
    assert eager.called == []  # nothing to have ready
    as_compiled(CountingNet(memory=0)).warm_up(width=37, height=80)  # clips may find more memory


def test_compiled_code_that_runs_out_of_memory_halves_its_batch() -> None:
    net = CountingNet(memory=2)
    made = list(as_compiled(net).frames(noise(2), factor=Fraction(2), pairs_per_batch=8))
    assert net.called == [8, 4, 2]  # for one new frame
    assert np.array_equal(np.stack(made), run(CountingNet(), noise(2), 2))
    with pytest.raises(GpuMemoryError):
        list(as_compiled(CountingNet(memory=0)).frames(noise(2), factor=Fraction(2), pairs_per_batch=2))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::ResourceWarning")  # inductor's own
def test_compiled_code_makes_the_same_frames() -> None:
    """With the real compiler, for the CPU, and two blocks, since it takes half a minute for each."""
    torch.manual_seed(0)
    net = IFNet(Variant("two blocks", (12, 8), (2, 1), (8, 4), 13, "replaced"))
    frames_FHWC = moving_photo(3)
    compiled = Interpolator(deepcopy(net), device="cpu", precision="fp32", compile=True)
    made_FHWC = np.stack(list(compiled.frames(frames_FHWC, factor=Fraction(2), pairs_per_batch=2))).astype(int)
    expected_FHWC = run(net, frames_FHWC, 2, pairs_per_batch=2)
    assert np.abs(made_FHWC - expected_FHWC).max() <= 1
    assert (made_FHWC != expected_FHWC).mean() < 1e-3


def test_hard_cuts_repeat_the_earlier_frame() -> None:
    one, other = moving_photo(2), 255 - moving_photo(2)
    frames_FHWC = np.concatenate([one, other])
    assert hard_cuts(frames_FHWC, 0.15) == {1, 3}  # in the middle, and from the last frame to the first
    net = CountingNet()
    interpolator = Interpolator(net, device="cpu", precision="fp32")
    made = list(interpolator.frames(frames_FHWC, factor=Fraction(3), loop=True, scene_cut_threshold=0.15))
    assert len(made) == 12
    for index, source in {3: 1, 4: 1, 5: 1, 6: 2, 9: 3, 10: 3, 11: 3}.items():
        assert np.array_equal(made[index], frames_FHWC[source])
    assert net.called == [4]  # two new frames before the cut and two after it
    assert not any(np.array_equal(made[index], frame) for index in (1, 2, 7, 8) for frame in frames_FHWC)


def test_motion_and_grain_are_no_cut() -> None:
    photo_HWC = skimage.data.astronaut()
    moved = np.stack([photo_HWC[:, :-16], photo_HWC[:, 16:]])
    assert hard_cuts(moved, 0.15) == set()
    assert hard_cuts(noise(2, 288, 512), 0.15) == set()  # their pixels differ by a third
    assert hard_cuts(np.stack([photo_HWC, np.zeros_like(photo_HWC)]), 0.15) == {0, 1}


@pytest.mark.parametrize(("height", "width"), [(1, 1), (20, 33), (64, 96), (65, 129), (288, 512)])
def test_frames_are_compared_by_the_means_of_their_cells(height: int, width: int) -> None:
    frame_HWC = noise(1, height, width)[0]
    pooled_CGG = torch.nn.functional.adaptive_avg_pool2d(
        torch.from_numpy(frame_HWC).permute(2, 0, 1).float() / 255, CUT_GRID
    )
    assert np.abs(_coarse(frame_HWC) - pooled_CGG.permute(1, 2, 0).numpy()).max() < 1e-5


@pytest.mark.parametrize(("height", "width"), [(37, 53), (1, 1), (64, 64), (65, 129)])
def test_any_size_comes_back_as_it_was(height: int, width: int) -> None:
    assert run(crossfade_net(), noise(2, height, width), 2).shape == (3, height, width, 3)


@pytest.mark.parametrize("variant", GROUPS.values(), ids=lambda variant: variant.name)
def test_every_layout_goes_through(variant: Variant) -> None:
    torch.manual_seed(0)
    net = IFNet(replace(variant, channels=(8,) * len(variant.scales)))
    frames_FHWC = moving_photo(3)
    made_FHWC = run(net, frames_FHWC, 2)
    assert made_FHWC.shape == (5, 64, 64, 3)
    blend_HWC = frames_FHWC[:2].mean(axis=0)  # what a network that knows nothing stays close to
    assert np.abs(made_FHWC[1] - blend_HWC).mean() < 30


def test_half_precision_changes_little() -> None:
    torch.manual_seed(0)
    net = IFNet(SMALL_VARIANT)
    frames_FHWC = moving_photo(2)
    full = run(net, frames_FHWC, 2).astype(int)
    half = Interpolator(net, device="cpu", precision="fp16").frames(frames_FHWC, factor=Fraction(2))
    assert np.abs(np.stack(list(half)) - full).max() <= 2


def test_the_name_is_the_variant() -> None:
    assert Interpolator(crossfade_net(), device="cpu", precision="fp32").name == "4.25-small"
