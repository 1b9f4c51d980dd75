"""Checks of images against annotations: sizes as training reads them, and files that are not images."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from imbalance_bench.datasets.images import SAMPLE, Reader, checked, look
from imbalance_bench.runtime.errors import InputError

WIDTH, HEIGHT = 60, 40


def picture(
    form: str = "JPEG", orientation: int | None = None, size: tuple[int, int] = (WIDTH, HEIGHT), mode: str = "RGB"
) -> bytes:
    """A file of noise, with an EXIF orientation if asked for."""
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    options: dict[str, Any] = {}
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif.tobytes()
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format=form, **options)
    return buffer.getvalue()


def read_by_mmdet(path: Path, **options: Any) -> tuple[int, int]:
    height, width = LoadImageFromFile(**options)({"img_path": str(path)})["ori_shape"]
    return height, width


FORMS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000"]


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_the_size_is_the_one_that_mmdet_reads(tmp_path: Path, form: str, orientation: int | None, decode: bool) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(picture(form, orientation if form in FORMS[:4] else None))
    for backend, flag in (
        ("cv2", "color"),
        ("cv2", "color_ignore_orientation"),
        ("pillow", "color"),
        ("cv2", "unchanged"),
    ):
        expected = read_by_mmdet(path, imdecode_backend=backend, color_type=flag)
        assert look(path, Reader(backend, flag), decode).size == expected
        assert sorted(expected) == [HEIGHT, WIDTH]
    followed = orientation is not None and orientation > 1 and form in ("JPEG", "PNG")
    assert look(path, Reader(), decode).orientation == (orientation if followed else 1) or form in ("WEBP", "TIFF")


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGBA", "LA", "I;16"])
def test_modes(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(picture("JPEG" if mode == "CMYK" else "PNG", mode=mode))
    assert look(path, Reader()) == look(path, Reader(), decode=True)
    assert look(path, Reader()).size == read_by_mmdet(path) == (HEIGHT, WIDTH)


NO_IMAGES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "html": (b"\n<!DOCTYPE html><html><body>404</body></html>", "HTML"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "a Git LFS pointer"),
    "gif": (picture("GIF"), "no image that cv2 reads"),
    "text": (b"not an image at all", "no image that cv2 reads"),
    "half a JPEG": (picture()[:-800], "truncated"),
    "half a PNG": (picture("PNG")[:-800], "truncated"),
    "start of a JPEG": (picture()[:30], "no image that cv2 reads|truncated"),
    "half a WebP": (picture("WEBP")[:-300], "no image that cv2 reads|truncated"),
    "half a BMP": (picture("BMP")[:-300], "no image that cv2 reads|truncated"),
    "noise in a PNG": (b"\x89PNG\r\n\x1a\n" + bytes(100), "no image that cv2 reads"),
}


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("name", NO_IMAGES)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, decode: bool) -> None:
    content, problem = NO_IMAGES[name]
    (tmp_path / "x.jpg").write_bytes(content)
    seen = look(tmp_path / "x.jpg", Reader(), decode)
    assert seen.size is None and any(part in seen.problem for part in problem.split("|"))


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    assert look(tmp_path, Reader()).problem == "a folder"
    assert look(tmp_path / "nowhere", Reader()).problem == "No such file or directory"
    assert "null" in look(tmp_path / "a\0b", Reader()).problem


@pytest.mark.parametrize("tail", [b"", bytes(100), b"\xff\xd9" + b"trailing words"])
def test_a_whole_jpeg_with_something_behind_it(tmp_path: Path, tail: bytes) -> None:
    (tmp_path / "x.jpg").write_bytes(picture() + tail)
    assert look(tmp_path / "x.jpg", Reader()).size == (HEIGHT, WIDTH)


def test_a_gif_where_it_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.gif").write_bytes(picture("GIF"))
    assert look(tmp_path / "x.gif", Reader("pillow")).size == (HEIGHT, WIDTH)


Boxes = Callable[[int], list[float]]


def annotated(
    folder: Path,
    files: list[bytes],
    size: tuple[int, int] = (HEIGHT, WIDTH),
    box: Boxes = lambda n: [1, 2, 10, 20],
) -> dict[str, Any]:
    """A file that says ``size`` (height, width) of each image, with a box in each."""
    folder.mkdir(exist_ok=True)
    for number, content in enumerate(files):
        (folder / f"{number}.jpg").write_bytes(content)
    return {
        "images": [
            {"id": 7 * n, "file_name": f"{n}.jpg", "height": size[0], "width": size[1]} for n in range(len(files))
        ],
        "annotations": [{"id": n, "image_id": 7 * n, "category_id": 1, "bbox": box(n)} for n in range(len(files))],
        "categories": [{"id": 1, "name": "a"}],
    }


def test_sound_images(tmp_path: Path) -> None:
    content = annotated(tmp_path, [picture(), picture("PNG"), picture("WEBP")])
    steps: list[int] = []
    found = checked(content, tmp_path, "f.json", advance=lambda n: steps.append(n))
    assert (found.content, found.skipped, found.notes) == (content, {}, ()) and sum(steps) == 3


def test_what_cannot_be_read_or_is_not_there_is_counted_and_left_out_if_asked(tmp_path: Path) -> None:
    files = [picture(), b"", picture()[:-800], picture(), b"<html>"]
    content = annotated(tmp_path, files)
    (tmp_path / "3.jpg").unlink()
    with pytest.raises(InputError) as caught:
        checked(content, tmp_path, "folder/f.json", hint="; do this")
    text = str(caught.value)
    assert text.startswith(
        f"{tmp_path}: 1 of 5 images of f.json are missing: 3.jpg; 3 of 5 images of f.json cannot be "
    )
    assert "read: 1.jpg (empty), 2.jpg (truncated), 4.jpg (a page of a website" in text and text.endswith("; do this")
    found = checked(content, tmp_path, "f.json", skip=True)
    assert [image["id"] for image in found.content["images"]] == [0] and set(found.skipped) == {7, 14, 21, 28}
    assert found.notes[0].startswith("1 of 5 images") and found.notes[1].startswith("3 of 5 images")
    (tmp_path / "0.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"no annotated image of f\.json is left: 1 of 5 .* 4 of 5"):
        checked(content, tmp_path, "f.json", skip=True)


LARGE = 50.0
"""A box of this height reaches beyond 40 pixels, not beyond 60."""


@pytest.mark.parametrize(
    ("orientation", "size", "box", "expected"),
    [
        (1, (HEIGHT, WIDTH), [1, 2, 10, 20], None),
        # Annotated as it is read.
        (6, (WIDTH, HEIGHT), [1, 2, 10, LARGE], None),
        # Annotated before it is turned.
        (6, (HEIGHT, WIDTH), [1, 2, 10, 20], "0.jpg is 40 x 60, annotated 60 x 40 (turned by EXIF orientation)"),
        (6, (HEIGHT, WIDTH), [1, 2, LARGE, 20], "0.jpg is 40 x 60, annotated 60 x 40 (turned by EXIF orientation)"),
        # The sizes alone were taken before it is turned: the boxes prove it.
        (6, (HEIGHT, WIDTH), [1, 2, 10, LARGE], "3 images are not of the annotated size, but their boxes fit"),
        # Swapped in the file.
        (1, (WIDTH, HEIGHT), [1, 2, 10, 20], "3 images have width and height swapped in the file, but their boxes fit"),
        (1, (WIDTH, HEIGHT), [1, 2, LARGE, 20], "3 images have width and height swapped in the file, but their boxes"),
        (1, (WIDTH, HEIGHT), [1, 2, 10, LARGE], "0.jpg is 60 x 40, annotated 40 x 60"),
        # Resized copies.
        (1, (80, 120), [1, 2, 100, 20], "0.jpg is 60 x 40, annotated 120 x 80"),
        (1, (80, 120), [1, 2, 10, 20], "0.jpg is 60 x 40, annotated 120 x 80"),
        (1, (20, 30), [1, 2, 10, 10], "0.jpg is 60 x 40, annotated 30 x 20"),
        # A size that is a placeholder.
        (1, (20, 30), [1, 2, LARGE, 10], "3 images are not of the annotated size, but their boxes fit the images: 0.j"),
        # What no size tells.
        (3, (HEIGHT, WIDTH), [1, 2, 10, 20], "3 images are turned or mirrored by EXIF orientation when they are read"),
    ],
)  # fmt: skip
def test_sizes(tmp_path: Path, orientation: int, size: tuple[int, int], box: list[float], expected: str | None) -> None:
    content = annotated(tmp_path, [picture(orientation=orientation)] * 3, size, lambda n: box)
    if expected is not None and expected.startswith("0.jpg"):
        with pytest.raises(InputError) as caught:
            checked(content, tmp_path, "f.json")
        assert f"3 of 3 images of f.json are not of the annotated size: {expected}" in str(caught.value)
        return
    found = checked(content, tmp_path, "f.json")
    assert found.content == content
    assert "; ".join(found.notes).startswith(expected) if expected else not found.notes


def test_images_of_another_size_are_left_out_if_asked(tmp_path: Path) -> None:
    content = annotated(tmp_path, [picture(), picture(size=(30, 20)), picture(orientation=8)])
    found = checked(content, tmp_path, "f.json", skip=True)
    assert set(found.skipped) == {7, 14} and [i["id"] for i in found.content["images"]] == [0]
    assert found.notes == (
        "2 of 3 images of f.json are not of the annotated size: 2.jpg is 40 x 60, annotated 60 x 40 (turned by EXIF "
        "orientation), 1.jpg is 30 x 20, annotated 60 x 40",
    )


@pytest.mark.parametrize(("verify", "decoded"), [(False, SAMPLE), (True, 3 * SAMPLE)])
def test_a_sample_is_decoded_or_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: bool, decoded: int
) -> None:
    paths: list[Path] = []

    def count(self: Reader, path: Path) -> tuple[int, int]:
        paths.append(path)
        return HEIGHT, WIDTH

    monkeypatch.setattr(Reader, "size", count)
    content = annotated(tmp_path, [picture()] * (3 * SAMPLE))
    assert checked(content, tmp_path, "f.json", verify=verify).notes == ()
    assert len(set(paths)) == len(paths) == decoded
