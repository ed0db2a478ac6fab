"""Train the two small models of the demo, and write the files that ship.

    python -m benchmarks.train_demo [--work DIR] [--checkpoints DIR] [--device cpu|cuda] [--threads N]

Takes about two hours of two CPU cores, or minutes of a GPU, and continues where it was interrupted. It wants
scikit-image and matplotlib (both in the dev extra) and, for two more photographs, scikit-learn. Afterwards
`python -m benchmarks.demo_figures` measures the result on photographs that were held out.
"""

import argparse
from pathlib import Path

import torch

from benchmarks.train_demo import autoencoder, checkpoints, data, rife, unet
from benchmarks.train_demo.loop import Schedule, train

AUTOENCODER_SCHEDULE = Schedule(steps=800, decay_steps=500, muon_lr=0.02, adam_lr=2e-3, average=0.995)
CLIP_DECODER_SCHEDULE = Schedule(steps=300, decay_steps=300, muon_lr=0.005, adam_lr=5e-4, average=0.99)
UNET_SCHEDULE = Schedule(steps=5000, decay_steps=5000, muon_lr=0.012, adam_lr=1e-3, average=0.99)
RIFE_SCHEDULE = Schedule(steps=5000, decay_steps=4000, muon_lr=0.01, adam_lr=2e-3, average=0.99)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("out/train_demo"), help="where training keeps its state")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"), help="where the results go")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train_all(data.Pictures(arguments.work), arguments.work, arguments.checkpoints, arguments.device)


def train_all(pictures: data.Pictures, work: Path, target: Path, device: torch.device) -> None:
    """Train what is not finished in `work`, and write `target`/rife-demo.safetensors and `target`/svd-demo."""
    _train_rife(pictures, work, target, device)
    _train_svd(pictures, work, target, device)


def _train_rife(pictures: data.Pictures, work: Path, target: Path, device: torch.device) -> None:
    net = rife.new_net().to(device)
    train(net, lambda rng: rife.loss(net, pictures, rng), RIFE_SCHEDULE, work / "rife.pt")
    checkpoints.save_rife(net, target / "rife-demo.safetensors")


def _train_svd(pictures: data.Pictures, work: Path, target: Path, device: torch.device) -> None:
    """The autoencoder on single frames, its decoder on clips, and the UNet on the encoder's latents."""
    pair = autoencoder.FramePair(pictures).to(device)
    train(pair, lambda rng: autoencoder.frame_loss(pair, pictures, rng), AUTOENCODER_SCHEDULE, work / "autoencoder.pt")
    encoder, vae = pair.encoder.requires_grad_(False), pair.vae
    latent_rms = autoencoder.root_mean_square(encoder, pictures)
    train(
        vae.decoder.requires_grad_(True),
        lambda rng: autoencoder.clip_loss(vae.decoder, encoder, pictures, rng),
        CLIP_DECODER_SCHEDULE,
        work / "decoder.pt",
    )
    network = unet.new_unet(latent_rms).to(device)
    maker = unet.ClipMaker(pictures, encoder, latent_rms)
    train(network, lambda rng: unet.training_loss(network, maker, rng), UNET_SCHEDULE, work / "unet.pt")
    autoencoder.bake(encoder, vae, latent_rms)
    checkpoints.save_svd(vae.cpu(), network.cpu(), target / "svd-demo")


if __name__ == "__main__":
    main()
