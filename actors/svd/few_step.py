"""Checkpoints distilled for few steps: the scheduler of AnimateLCM-SVD-xt, and its noise levels.

Such a UNet was taught to jump from any noise level to the picture. A clip is made by jumping, adding fresh noise of the
next, lower level, and jumping again: multistep consistency sampling (Song et al. 2023, "Consistency Models", algorithm
1; Wang et al. 2024, "AnimateLCM"). The jump is SVD's own: EDM's preconditioning of a v-prediction.
"""

from collections.abc import Mapping
from typing import Any

from actors.errors import ConfigError

# https://github.com/G-U-N/AnimateLCM, animatelcm_svd/animatelcm_scheduler.py
SCHEDULER = "AnimateLCMSVDStochasticIterativeScheduler"

# Its arguments where scheduler_config.json leaves them out.
_DEFAULTS = {
    "num_train_timesteps": 40,
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "sigma_data": 0.5,
    "s_noise": 1.0,
    "rho": 7.0,
    "clip_denoised": True,
}
# What SVD's preconditioning and fp32 latents take for granted, and AnimateLCM-SVD-xt has.
_REQUIRED = {"sigma_data": 1.0, "s_noise": 1.0, "clip_denoised": False}


def is_few_step(scheduler_config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's `scheduler_config.json` is that of a distilled one."""
    return scheduler_config.get("_class_name") == SCHEDULER


def problem(scheduler_config: Mapping[str, Any]) -> str | None:
    """What keeps a distilled checkpoint's scheduler from being used; None: nothing."""
    config = _DEFAULTS | dict(scheduler_config)
    wrong = [f"{name} is {config[name]} and not {value}" for name, value in _REQUIRED.items() if config[name] != value]
    return ", ".join(wrong) or None


def noise_levels(scheduler_config: Mapping[str, Any], num_inference_steps: int) -> list[float]:
    """The noise level that each step jumps from, falling.

    The distillation knew `num_train_timesteps` levels, spaced as in EDM (equation 5); of these every so many are taken
    from the highest on, so that the lowest of them is far above `sigma_min`.

    Raises:
        ConfigError: there are more steps than levels.
    """
    config = _DEFAULTS | dict(scheduler_config)
    levels, rho = config["num_train_timesteps"], config["rho"]
    if num_inference_steps > levels:
        raise ConfigError(
            f"generation.num_inference_steps={num_inference_steps}: this few-step checkpoint knows {levels} noise "
            "levels; it is meant for 4 to 8 steps"
        )
    highest, lowest = config["sigma_max"] ** (1 / rho), config["sigma_min"] ** (1 / rho)
    indices = range(0, num_inference_steps * (levels // num_inference_steps), levels // num_inference_steps)
    return [(highest + index / (levels - 1) * (lowest - highest)) ** rho for index in indices]
