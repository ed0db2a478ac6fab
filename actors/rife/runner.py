"""IFNet at work on its device, with bytes on both sides: what makes it fast stands here, one thing in one place.

    bytes           frames cross the bus as uint8, a quarter of what floats would move (`upload`, `between`)
    heads           a frame's features are made once and serve its two pairs at every time (`EncodedFrames`)
    precision       convolutions in half precision; images, flows and sampling grid in fp32 (`actors.rife.ifnet`)
    memory format   channels last on CUDA (`Runner`)
    compiled        if asked for, two graphs, each of one shape: no clip waits for the compiler again (`Runner`)
    overlap         on CUDA finished frames travel to the host while the next ones are made (`download`)

Nothing here is chosen by timing (cuDNN's benchmark mode, inductor's autotuning): workers would choose differently, and
then the same clip would come out differently.

Axes: F frames, B samples of one network call, C channels, H height, W width. Frames are uint8 RGB.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from actors.compiling import compiled
from actors.contracts import Pixels
from actors.rife.network import Network

Precision = Literal["fp32", "fp16"]

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16}


class Runner:
    """A network that stays on its device."""

    def __init__(self, net: Network, *, device: torch.device | str, precision: Precision, compile: bool) -> None:
        self.device = torch.device(device)
        self.net = net.to(self.device, PRECISIONS[precision]).eval()
        self.is_compiled = compile
        # So many batches are begun before the oldest is asked for. A CPU would only make what nobody may want.
        self.batches_ahead = 1 if self.device.type == "cuda" else 0
        if self.device.type == "cuda":
            # The order that tensor cores read: with the usual one, cuDNN turns every convolution's input and output.
            self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._downloads = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self._encode_frames: Callable[..., tuple[Tensor, Tensor]] = _encode
        self._make_between: Callable[..., Any] = _between
        if not net.takes_any_time:
            self._make_between = _middle
        if self.is_compiled:
            self._encode_frames, self._make_between = compiled(_encode), compiled(self._make_between)

    @torch.inference_mode()
    def encode(self, frame_HWC: Pixels) -> tuple[Tensor, Tensor]:
        """A padded image (3,H,W), 0..1, and its head features (h,H,W), both fp32.

        One frame at a time: it is always the same shape, and no frame depends on the ones that it is encoded with.
        """
        image_1CHW, features_1CHW = self._encode_frames(self.net, self.upload(frame_HWC[np.newaxis]))
        return image_1CHW[0], features_1CHW[0]

    @torch.inference_mode()
    def between(
        self, left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor], times: Sequence[float], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor | None]:
        """Frames (B,H,W,3) as bytes on the device, at `times` from `left` to `right`, cropped to `size` (H, W).

        `left` and `right` are images (B,3,H,W) and features (B,h,H,W), as `EncodedFrames.get` gives them. Of a network
        that knows the middle alone also the padded images (B,3,H,W), out of which others may be made; else None.
        """
        t_B = self.upload(np.array(times, np.float32))
        made = self._make_between(self.net, left[0], right[0], left[1], right[1], t_B, size)
        return made if not self.net.takes_any_time else (made, None)

    def upload(self, array: npt.NDArray[np.generic]) -> Tensor:
        """A copy on the device. On CUDA through pinned memory, for which the host need not wait."""
        if self.device.type != "cuda":
            return torch.tensor(array, device=self.device)
        # `torch.tensor` refuses to pin what comes from NumPy.
        host = torch.empty(array.shape, dtype=torch.from_numpy(np.empty(0, array.dtype)).dtype, pin_memory=True)
        np.copyto(host.numpy(), array)
        return host.to(self.device, non_blocking=True)

    @torch.inference_mode()
    def download(self, made_BHWC: Tensor) -> Callable[[], Pixels]:
        """Begin to bring bytes to the host; what is returned waits for them and gives them."""
        if self.device.type != "cuda":
            pixels_BHWC: Pixels = made_BHWC.cpu().numpy()
            return lambda: pixels_BHWC
        # On a stream of its own, so that the next batch is computed meanwhile. Pinned memory is kept and reused by
        # torch; it is not reused while somebody holds the frames, which are views of it.
        host_BHWC = torch.empty(made_BHWC.shape, dtype=made_BHWC.dtype, pin_memory=True)
        # A host thread that waits for it sleeps, and leaves its core to the encoder.
        arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._downloads.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._downloads):
            host_BHWC.copy_(made_BHWC, non_blocking=True)
            arrived.record()
        made_BHWC.record_stream(self._downloads)

        def wait() -> Pixels:
            arrived.synchronize()
            pixels_BHWC: Pixels = host_BHWC.numpy()
            return pixels_BHWC

        return wait


class EncodedFrames:
    """Frames on the device, padded, with their head features: each made once, and dropped when it was passed.

    They are known by their places (`actors.rife.schedule`); whole ones are source frames, others were kept.
    """

    def __init__(self, runner: Runner, frames_FHWC: Pixels) -> None:
        self._runner = runner
        self._frames_FHWC = frames_FHWC
        self._ready: dict[Fraction, tuple[Tensor, Tensor]] = {}

    def get(self, places: Sequence[Fraction]) -> tuple[Tensor, Tensor]:
        """Images (B,3,H,W) and features (B,h,H,W); `places` may repeat and come in any order."""
        for place in places:
            if place not in self._ready:
                assert place.denominator == 1, place
                self._ready[place] = self._runner.encode(self._frames_FHWC[int(place)])
        images, features = zip(*(self._ready[place] for place in places), strict=True)
        return torch.stack(images), torch.stack(features)

    def keep(self, places: Sequence[Fraction], images_BCHW: Tensor) -> None:
        """Padded images that the network made, of which it may be asked to make others; they were never rounded."""
        features_BCHW = self._runner.net.encode(images_BCHW)
        for place, image_CHW, features_CHW in zip(places, images_BCHW, features_BCHW, strict=False):
            self._ready[place] = image_CHW, features_CHW

    def drop_before(self, place: int) -> None:
        """Forget the frames before `place`, but not the first one, which closes a loop."""
        self._ready = {own: ready for own, ready in self._ready.items() if own >= place or own == 0}


def _encode(net: Network, frames_BHWC: Tensor) -> tuple[Tensor, Tensor]:
    """Bytes to padded images, 0..1, and their head features."""
    images_BCHW = net.pad(frames_BHWC.permute(0, 3, 1, 2).float() / 255)
    return images_BCHW, net.encode(images_BCHW)


def _between(
    net: Network,
    img0_BCHW: Tensor,
    img1_BCHW: Tensor,
    f0_BCHW: Tensor,
    f1_BCHW: Tensor,
    t_B: Tensor,
    size: tuple[int, int],
) -> Tensor:
    """The network's frames, cropped, as bytes (B,H,W,3)."""
    return _to_bytes(net(img0_BCHW, img1_BCHW, f0_BCHW, f1_BCHW, t_B), size)


def _middle(
    net: Network,
    img0_BCHW: Tensor,
    img1_BCHW: Tensor,
    f0_BCHW: Tensor,
    f1_BCHW: Tensor,
    t_B: Tensor,
    size: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """The same, and the frames as they were made, (B,3,H,W), 0..1."""
    made_BCHW: Tensor = net(img0_BCHW, img1_BCHW, f0_BCHW, f1_BCHW, t_B)
    return _to_bytes(made_BCHW, size), made_BCHW


def _to_bytes(made_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    levels_BCHW = made_BCHW[:, :, :height, :width].clamp(0, 1) * 255
    # Cutting off would darken by half a level.
    return levels_BCHW.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
