"""What the section `model` has in every generator that loads a checkpoint."""

from typing import Any, Literal, Self, TypedDict

from pydantic import Field

from actors import logs
from actors.checkpoints import lora_files
from actors.checkpoints.sources import is_file, is_on_hub, tidied
from actors.generators.base import ModelSection
from actors.licences.finding import ModelPlace
from actors.settings import NO_EFFECT, Compile, Section
from actors.storage import Storage


def tell_of_tightening(before: str, now: str) -> None:
    """Have the run know of a worker that makes clips in a tighter way from now on; nothing where it does not."""
    if now != before:
        logs.degraded("tighter memory", f"the GPU's memory is short: clips are made {now} from here on, not {before}")


class LoraSettings(Section):
    """A LoRA that is merged into the network."""

    source: str = Field(
        min_length=1, description="path or URI of a .safetensors file, or of a folder with PEFT's adapter_config.json"
    )
    scale: float = Field(1.0, allow_inf_nan=False, description="how strong it is; 0 changes nothing")


class Which(TypedDict):
    """Which of a source's checkpoints, and where it is kept, as the functions of `actors.checkpoints` take it."""

    revision: str | None
    variant: str | None
    cache_dir: str | None


class CheckpointSettings(ModelSection):
    """Which checkpoint, and where it is held."""

    source: str = Field(
        description="Hugging Face id, local folder or fsspec URI of a checkpoint in diffusers layout",
        json_schema_extra=NO_EFFECT,
    )
    revision: str | None = Field(
        None, description="commit of a Hugging Face id; not for folders, files and URIs", json_schema_extra=NO_EFFECT
    )
    variant: str | None = Field(None, description="file variant, e.g. fp16; null reads the plain files")
    # Content and scale count, by `revision_of_content`.
    loras: list[LoraSettings] = Field(
        [],
        description="LoRAs that are merged into the network, e.g. [{source: FILE, scale: 0.8}]",
        json_schema_extra=NO_EFFECT,
    )
    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto", description="auto takes CUDA where there is one", json_schema_extra=NO_EFFECT
    )
    cache_dir: str | None = Field(
        None,
        description="where remote checkpoints and compiled networks are kept, once per node",
        json_schema_extra=NO_EFFECT,
    )
    compile: Compile = Field(
        "auto",
        description="torch.compile of the networks; auto: on CUDA, unless `memory` moves their weights",
        json_schema_extra=NO_EFFECT,
    )

    @property
    def which(self) -> Which:
        """Beside `source`."""
        return Which(revision=self.revision, variant=self.variant, cache_dir=self.cache_dir)

    @property
    def wants_cuda(self) -> bool:
        """As in `ModelSection`."""
        return self.device == "cuda"

    @property
    def node_cache(self) -> str | None:
        """As in `ModelSection`."""
        return self.cache_dir

    def licence_place(self) -> ModelPlace | None:
        """As in `ModelSection`."""
        if is_on_hub(self.source):
            return ModelPlace(self.source, "hub", self.revision, self.node_cache)
        return ModelPlace(self.source, "file" if is_file(self.source) else "folder")

    def pinned(self, revision: str) -> Self:
        """As in `ModelSection`: a branch of the Hub may move before the last worker has started."""
        commit = lora_files.without_loras(revision)
        return self.model_copy(update={"revision": commit}) if is_on_hub(self.source) else self

    def with_absolute_paths(self) -> Self:
        """As in `ModelSection`."""
        loras = [lora.model_copy(update={"source": Storage.absolute(lora.source.strip())}) for lora in self.loras]
        changes: dict[str, Any] = {"source": tidied(self.source), "loras": loras}
        if Storage.is_local(self.source) and not is_on_hub(self.source):
            changes["source"] = Storage.absolute(changes["source"])
        if self.cache_dir is not None:
            changes["cache_dir"] = Storage.absolute(self.cache_dir)
        return self.model_copy(update=changes)

    def doubled_loras(self) -> list[tuple[tuple[str, ...], str]]:
        """LoRAs that stand there twice: where in the section, and a clause."""
        sources = [lora.source for lora in self.loras]
        return [
            (("loras", str(number)), "is there already: name each LoRA once, with the sum of its scales")
            for number, source in enumerate(sources)
            if source in sources[:number]
        ]
