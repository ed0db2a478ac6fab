"""The files of benchmarks/damaged_images.py, few of each kind."""

from pathlib import Path

import pytest

from actors.errors import ImageError
from actors.images import decode
from benchmarks.damaged_images import make

DECODERS = 21  # encodings that make() knows
DAMAGES = 21  # ways of damage, and strangers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images") / "made"


def test_whole_files_of_every_encoding_decode_and_damaged_ones_say_why(folder: Path) -> None:
    files = make(folder, good=DECODERS, damaged=4 * DAMAGES, seed=3)
    assert len({file.path for file in files}) == len(list(folder.iterdir())) == DECODERS + 4 * DAMAGES
    assert len({file.kind for file in files[:DECODERS]}) == DECODERS
    assert len({file.kind for file in files[DECODERS:]}) > 45
    for file in files[:DECODERS]:
        assert decode(file.path.read_bytes(), max_megapixels=1).pixels_HWC.shape == (96, 128, 3)
    for file in files[DECODERS:]:
        with pytest.raises(ImageError) as refused:
            decode(file.path.read_bytes(), max_megapixels=100)
        assert str(refused.value) == file.why
        assert "\n" not in file.why
        assert len(file.why) < 250


def test_the_first_of_several_pictures_counts_and_the_extension_does_not(folder: Path) -> None:
    whole = {path.name[:5]: path for path in folder.iterdir()}
    # Of one photograph: JPEG, JPEG of several pictures, PNG, animated PNG, animated WebP, TIFF of several pages.
    pictures = [decode(whole[f"{number:05d}"].read_bytes(), max_megapixels=1) for number in (0, 4, 5, 9, 14, 19)]
    for picture in pictures:
        assert (
            abs(picture.pixels_HWC.astype(int) - pictures[2].pixels_HWC).mean() < 15
        )  # another photograph: 50 and more
    assert whole["00004"].suffix == whole["00009"].suffix == whole["00014"].suffix == ".jpg"


def test_the_same_seed_gives_the_same_files(folder: Path, tmp_path: Path) -> None:
    files = make(tmp_path / "again", good=DECODERS, damaged=DAMAGES, seed=3)
    for file in files:
        assert file.path.read_bytes() == (folder / file.path.name).read_bytes()
