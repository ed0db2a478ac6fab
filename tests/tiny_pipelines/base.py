"""What each family builds on: the record of a tiny pipeline, tokenizers and text encoders made without a download."""

import re
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLHunyuanVideo
from PIL import Image
from tokenizers import AddedToken
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    GemmaTokenizer,
    LlamaTokenizerFast,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

TEXT_WIDTH = 32  # channels of the text embeddings that the transformers take
CHARACTERS = string.ascii_letters + string.digits + string.punctuation


@dataclass(frozen=True, slots=True)
class Tiny:
    """A pipeline with random weights, and the smallest clip that it makes in less than about a second on a CPU.

    Attributes:
        name: what the tests call it.
        class_name: the class of diffusers that makes clips of images: not always the one in `model_index.json`.
        save: writes the folder, laid out as the Hub's; the same weights each time.
        width: of its smallest clip, in pixels.
        height: the same.
        num_frames: frames that are asked for.
        extra: what the call takes beside image, prompt, size, frames, steps, generator and output type.
        frames_argument: the name that the call has for the number of frames; empty where it has none.
        clip_frames: frames that the clip then has; 0: as many.
        takes_size: whether the call takes `width` and `height`; otherwise they follow from the image.
        image_argument: `image`, or `video` where that takes a list of one image.
        guardrail: whether loading needs what `cosmos.install_guardrail` puts there.
    """

    name: str
    class_name: str
    save: Callable[[Path], None]
    width: int
    height: int
    num_frames: int
    extra: Mapping[str, Any] = field(default_factory=dict)
    frames_argument: str = "num_frames"
    clip_frames: int = 0
    takes_size: bool = True
    image_argument: str = "image"
    guardrail: bool = False

    def arguments(self, **others: Any) -> dict[str, Any]:
        """The smallest call: all but image, prompt and generator, with `others` on top."""
        size = {"width": self.width, "height": self.height} if self.takes_size else {}
        frames = {self.frames_argument: self.num_frames} if self.frames_argument else {}
        return {**size, **frames, "num_inference_steps": 2, "output_type": "np", **self.extra, **others}

    def image_arguments(self, image: Image.Image) -> dict[str, Any]:
        """The image as the call takes it."""
        return {self.image_argument: [image] if self.image_argument == "video" else image}


def livened(network: nn.Module) -> nn.Module:
    """The network, its layers that start as zeros filled by chance: with zeros it passes by what it should look at."""
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1 and not weight.any():
                weight.normal_(std=0.1)
    return network


def t5_tokenizer() -> T5TokenizerFast:
    """A tokenizer of T5's kind with a token for each character, so that any two prompts differ."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    letters = [(character, -2.0) for character in f"▁{CHARACTERS}"]
    return T5TokenizerFast(vocab=special + letters, extra_ids=0, model_max_length=512)


def gemma_tokenizer() -> GemmaTokenizer:
    """The same of Gemma's kind."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *f"▁{CHARACTERS}"]
    return GemmaTokenizer(vocab={token: number for number, token in enumerate(tokens)}, model_max_length=512)


def llama_tokenizer(*templates: str) -> LlamaTokenizerFast:
    """The same of Llama's kind, with the marks of its chats and the place of an image.

    Pipelines wrap a prompt into a template of about a hundred tokens and drop as many of the result: each word of
    `templates` is a token here, or the template alone would fill the whole length.
    """
    marks = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>"]
    tokens = ["<unk>", "<s>", "</s>", "<pad>", *f"▁{CHARACTERS}", "\n", *marks]
    tokenizer = LlamaTokenizerFast(
        vocab={token: number for number, token in enumerate(tokens)},
        pad_token="<pad>",
        extra_special_tokens=marks,
        add_bos_token=True,
        padding_side="right",
        model_max_length=512,
    )
    tokenizer.add_tokens(_words(templates))
    return tokenizer


def qwen_tokenizer(*templates: str, marks: Iterable[str] = ()) -> Qwen2Tokenizer:
    """The same of Qwen's kind, with its chats' template; further `marks` are tokens of their own."""
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *marks]
    tokens = [*marks, *CHARACTERS, "Ġ", "Ċ"]  # the last two: a space and the end of a line, as bytes are written
    tokenizer = Qwen2Tokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        extra_special_tokens=marks,
        chat_template=_CHAT,
        padding_side="right",
        model_max_length=2048,
    )
    tokenizer.add_tokens(_words((*templates, "system user assistant")))
    return tokenizer


_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _words(templates: Iterable[str]) -> list[AddedToken]:
    found = {word for template in templates for word in re.findall(r"[A-Za-z]{2,}|\n\n", template)}
    return [AddedToken(word, single_word=word.isalpha(), normalized=False) for word in sorted(found)]


def clip_tokenizer() -> CLIPTokenizer:
    """The same of CLIP's kind, which knows small letters only."""
    marks = ["<|startoftext|>", "<|endoftext|>"]
    letters = [character for character in CHARACTERS if not character.isupper()]
    tokens = marks + letters + [f"{letter}</w>" for letter in letters]
    return CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, model_max_length=77)


def clip_text_encoder(width: int) -> PreTrainedModel:
    """CLIP's text encoder with two layers and `width` channels, for `clip_tokenizer`."""
    tokenizer = clip_tokenizer()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            projection_dim=width,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def qwen25_vl(tokenizer: Qwen2Tokenizer) -> PreTrainedModel:
    """Qwen2.5-VL with two layers, for `qwen_tokenizer`; it has eyes that no pipeline opens."""
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_scaling": {"mrope_section": [2, 3, 3], "rope_type": "default", "type": "default"},
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
    }
    eyes = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": TEXT_WIDTH}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=eyes))


def hunyuan_vae(latents: int) -> AutoencoderKLHunyuanVideo:
    """HunyuanVideo's VAE, which Kandinsky 5 has as well: 8 pixels and 4 frames for one latent."""
    return AutoencoderKLHunyuanVideo(
        latent_channels=latents,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=True,
    )


def t5_encoder() -> PreTrainedModel:
    """T5's encoder with two layers, for `t5_tokenizer`."""
    return T5EncoderModel(T5Config(**t5_sizes()))


def umt5_encoder() -> PreTrainedModel:
    """UMT5's encoder with two layers, for `t5_tokenizer`."""
    return UMT5EncoderModel(UMT5Config(**t5_sizes()))


def t5_sizes() -> dict[str, Any]:
    return {
        "vocab_size": len(t5_tokenizer()),
        "d_model": TEXT_WIDTH,
        "d_kv": 8,
        "d_ff": 2 * TEXT_WIDTH,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
    }
