"""What the parts for a GPU share: both models, and what was measured already.

Shapes: N halves of a guided clip (one of an unguided), F frames, C channels, h w latent pixels, D width of the image
embedding, S steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from actors.contracts import Pixels
from actors.svd.conditioning import condition
from actors.svd.model import SvdModel, compile_networks, install_kernels
from actors.svd.sampler import decode, noise_schedule, to_float
from actors.svd.unet import StepTerms
from benchmarks.psnr import psnr
from benchmarks.speed.cases import Case
from benchmarks.speed.clips import by_own, by_stock, own_model, own_noise, parameters, picture, random_pipeline
from benchmarks.speed.clock import Budget, each_s, seconds_of
from benchmarks.speed.results import Results, at_least, at_most

# That are timed, behind one that warms up.
STEPS = 3
_MATRIX_SIZE = 8192
# By the card's name; 7 s is what comes after.
_MAX_CLIP_S = {"H200": 9.0, "H100": 10.0}


@dataclass(frozen=True, slots=True)
class StepInputs:
    """What an evaluation of the UNet takes."""

    inputs_NFChw: Tensor  # noisy latents, the image's behind them
    embeddings_N1D: Tensor
    time_ids_N3: Tensor
    timesteps_S: Tensor


@dataclass(frozen=True, slots=True)
class Cost:
    """What a clip is made of: one encoding, as many steps as it has, one decoding."""

    encode_s: float
    step_s: float
    decode_s: float

    def clip_s(self, steps: int) -> float:
        """Seconds of a clip."""
        return self.encode_s + steps * self.step_s + self.decode_s


class Bench:
    """Both models, made once, and figures that several parts need, measured once."""

    def __init__(self, results: Results, case: Case, device: torch.device, budget: Budget) -> None:
        self.results, self.case, self.device, self.budget = results, case, device, budget
        self.image = picture(case)
        self.is_compiled = False

    @property
    def has_model(self) -> bool:
        """Whether the models are made already."""
        return "own" in self.__dict__

    @cached_property
    def stock(self) -> Any:
        """diffusers' pipeline."""
        made: list[Any] = []
        seconds = seconds_of(lambda: made.append(random_pipeline(self.device, self.case)))
        self.results.add("diffusers' model made", seconds, "s")
        return made[0]

    @cached_property
    def own(self) -> SvdModel:
        """Our model, with the same weights."""
        return own_model(self.stock, self.case, self.device)

    @cached_property
    def noise(self) -> Tensor:
        """What both begin with."""
        return own_noise(self.own, self.case)

    @property
    def latent_hw(self) -> tuple[int, int]:
        """Of the case."""
        return self.case.height // self.own.pixel_multiple, self.case.width // self.own.pixel_multiple

    def latents(self) -> Tensor:
        """Random ones of a clip, F C h w, fp32."""
        generator = torch.Generator(self.device).manual_seed(2)
        shape = self.case.num_frames, self.own.latent_channels, *self.latent_hw
        return torch.randn(shape, device=self.device, generator=generator)

    def step_inputs(self, halves: int = 2) -> StepInputs:
        """Random ones, the same at every call."""
        case, generator = self.case, torch.Generator(self.device).manual_seed(1)
        shape = halves, case.num_frames, 2 * self.own.latent_channels, *self.latent_hw
        width = case.sizes.clip_projection
        return StepInputs(
            torch.randn(shape, device=self.device, dtype=case.dtype, generator=generator),
            torch.randn(halves, 1, width, device=self.device, dtype=case.dtype, generator=generator),
            torch.tensor([[6.0, 127.0, 0.02]] * halves, device=self.device),
            noise_schedule(self.own, 4).timesteps_S,
        )

    def terms(self, of_step: StepInputs) -> StepTerms:
        """Those of the same step that `stock_step` evaluates."""
        made = self.own.unet.terms(
            of_step.timesteps_S, of_step.embeddings_N1D, of_step.time_ids_N3, self.case.num_frames
        )
        return made[1]

    def own_step(self) -> Callable[[], Tensor]:
        """An evaluation of our UNet, N F C h w in fp32."""
        of_step = self.step_inputs()
        terms = self.terms(of_step)

        def evaluate() -> Tensor:
            velocity_NFChw: Tensor = self.own.unet(of_step.inputs_NFChw, terms).velocity_NFChw
            return velocity_NFChw.float()

        return evaluate

    def stock_step(self, unet: Any | None = None) -> Callable[[], Tensor]:
        """The same by diffusers' UNet."""
        of_step, network = self.step_inputs(), self.stock.unet if unet is None else unet
        timestep = of_step.timesteps_S[1]

        def evaluate() -> Tensor:
            made = network(of_step.inputs_NFChw, timestep, of_step.embeddings_N1D, of_step.time_ids_N3)
            velocity_NFChw: Tensor = made.sample
            return velocity_NFChw.float()

        return evaluate

    @cached_property
    @torch.no_grad()
    def stock_velocity(self) -> Tensor:
        """What diffusers' UNet says."""
        return self.stock_step()()

    @cached_property
    @torch.no_grad()
    def stock_cost(self) -> Cost:
        """diffusers' clip, uncompiled; its encoding and the way to PIL are not in it."""
        step = self.stock_step()
        latents = self.latents().to(self.case.dtype)

        def decode_all() -> object:
            return self.stock.vae.decode(latents, num_frames=self.case.num_frames)

        first_s = [seconds_of(step), seconds_of(decode_all)]
        cost = Cost(0.0, each_s(step, STEPS), seconds_of(decode_all))
        self._report("stock eager", cost, first_s)
        return cost

    @torch.no_grad()
    def own_cost(self, name: str) -> Cost:
        """Our clip, as the model is now; adds the rows."""
        step, latents = self.own_step(), self.latents()
        image_1CHW = to_float(self.image[None], self.device)
        noise_1CHW = torch.zeros_like(image_1CHW)

        def encode() -> object:
            return condition(self.own, image_1CHW, noise_1CHW, [parameters(self.case)], self.case.num_frames)

        def decode_all() -> object:
            return decode(self.own, latents)

        first_s = [seconds_of(encode), seconds_of(step), seconds_of(decode_all)]
        cost = Cost(seconds_of(encode), each_s(step, STEPS), min(seconds_of(decode_all) for _ in range(2)))
        self._report(name, cost, first_s)
        return cost

    @cached_property
    def exact_cost(self) -> Cost:
        """Our clip, compiled."""
        self.compile()
        return self.own_cost("exact compiled")

    def _report(self, name: str, cost: Cost, first_s: list[float]) -> None:
        case, add = self.case, self.results.add
        add(f"{name}: each thing for the first time", [round(seconds, 2) for seconds in first_s], "s")
        add(f"{name}: one evaluation", 1000 * cost.step_s, "ms")
        add(f"{name}: decode", 1000 * cost.decode_s, "ms")
        rates = {"evaluation": case.unet_tflop / cost.step_s, "decode": case.vae_tflop / cost.decode_s}
        add(f"{name}: rate of the plain arithmetic", rates, "TFLOP/s")
        add(f"{name}: a clip, from its parts", cost.clip_s(case.steps), "s", encode_s=round(cost.encode_s, 4))

    def compile(self) -> None:
        """Our model, once."""
        if not self.is_compiled:
            install_kernels(self.own)
            compile_networks(self.own)
        self.is_compiled = True

    @cached_property
    def stock_clip(self) -> tuple[Pixels, float]:
        """The clip that diffusers makes, and its seconds; one of a step warms up."""
        by_stock(self.stock, self.image, self.case, self.noise, steps=1)
        made: list[Pixels] = []
        seconds = seconds_of(lambda: made.append(by_stock(self.stock, self.image, self.case, self.noise)))
        assert made[0].any(), "diffusers made a black clip"
        self.results.add("stock eager: a whole clip", seconds, "s")
        return made[0], seconds

    def own_clip(self, *, steps: int | None = None) -> Pixels:
        """Ours."""
        return by_own(self.own, self.image, self.case, steps=steps)

    @cached_property
    def matrix_tflops(self) -> float:
        """The rate of a large matrix product: what the card really gives."""
        size = _MATRIX_SIZE if self.case.is_full else 64
        a, b = (torch.randn(size, size, device=self.device, dtype=self.case.dtype) for _ in range(2))
        each_s(lambda: a @ b, 3)
        rate = 2 * size**3 / each_s(lambda: a @ b, 20) / 1e12
        self.results.add(f"matrix product of {size}", rate, "TFLOP/s")
        return rate

    def judge_clip(self, name: str, seconds: float) -> None:
        """Add a row with the aim for this card, and beside it what comes after."""
        card = torch.cuda.get_device_name() if self.device.type == "cuda" else ""
        limit = next((limit for known, limit in _MAX_CLIP_S.items() if known in card), _MAX_CLIP_S["H100"])
        self.results.add(name, seconds, "s", at_most(seconds, limit, " s"), stretch="<= 7 s")

    def judge_pixels(self, name: str, stock: Pixels, own: Pixels) -> None:
        """Add a row that says how near two clips are."""
        psnr_db = psnr(stock, own)
        self.results.add(name, psnr_db, "dB", at_least(psnr_db, 40, " dB", of_speed=False))


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """The length of the difference, of the length of `theirs`."""
    return float((ours - theirs).norm() / theirs.norm())
