"""Glyphs: random letters drawn with matplotlib's fonts, brought to 8x8 and up again, as scikit-learn's digits are."""

from __future__ import annotations

import functools
import string
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fmsteal.base.store import Store
from fmsteal.data.generated import load_generated
from fmsteal.data.images import Images, Pixels
from fmsteal.data.resize import enlarge

LETTERS = string.ascii_letters
REFERENCE_FONT = "DejaVuSans.ttf"
MIN_LIKENESS = 0.18  # mean correlation with the reference font, letter by letter: symbol fonts stay below 0.16
FONT_PIXELS = 96  # point size the letters are drawn at
CANVAS, LETTER_EXTENT = 96, 60  # bank image side, and the longer side of the letter inside it
FRAME = 64  # side of the binary drawing that is averaged down to COARSE
COARSE, LEVELS = 8, 16  # sklearn's digits: 8x8 pixels of 0..16
CHUNK = 500  # images drawn together; each chunk has its own random stream

ROTATION = (-0.3, 0.3)  # radians
SHEAR = (-0.25, 0.25)
HEIGHT = (0.95, 1.08)  # share of the frame's height (size)
WIDTH = (4.0, 6.5)  # coarse pixels, unless that would stretch the letter by more than MAX_STRETCH
MAX_STRETCH = 1.6
SHIFT = (-0.06, 0.06)  # horizontal, in half frames
INK = (0.20, 0.42)  # share of the frame that the stroke covers (stroke weight)
STROKE_BLUR = 2.0  # sigma, in frame pixels, of the blur whose level set is the stroke
WINDOW = 1.3  # half side, in canvas half sides, of the window a turned letter is measured in


def _draw(font: Path, letter: str) -> Image.Image:
    """One letter in white on black, cropped to its ink."""
    image = Image.new("L", (3 * FONT_PIXELS, 3 * FONT_PIXELS))
    centre = (image.width / 2, image.height / 2)
    ImageDraw.Draw(image).text(centre, letter, font=ImageFont.truetype(str(font), FONT_PIXELS), fill=255, anchor="mm")
    box = image.getbbox()
    return image.crop(box) if box else Image.new("L", (1, 1))


def _thumbnails(font: Path) -> np.ndarray:
    """The font's letters squeezed to 16x16 and standardised, to compare fonts by."""
    small = np.stack([np.asarray(_draw(font, letter).resize((16, 16)), np.float64).ravel() for letter in LETTERS])
    small -= small.mean(1, keepdims=True)
    return small / (np.linalg.norm(small, axis=1, keepdims=True) + 1e-9)


@functools.cache
def find_letter_fonts() -> tuple[Path, ...]:
    """matplotlib's fonts whose letters look like letters: alike to the reference font's."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    reference = _thumbnails(folder / REFERENCE_FONT)
    return tuple(
        font for font in sorted(folder.glob("*.ttf")) if (_thumbnails(font) * reference).sum(1).mean() >= MIN_LIKENESS
    )


@functools.cache
def _bank() -> Tensor:
    """Every letter of every font, (letters, 1, CANVAS, CANVAS) in 0..1, in its own proportions."""
    bank = []
    for font in find_letter_fonts():
        for letter in LETTERS:
            image = _draw(font, letter)
            scale = LETTER_EXTENT / max(image.size)
            image = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BILINEAR)
            canvas = Image.new("L", (CANVAS, CANVAS))
            canvas.paste(image, ((CANVAS - image.width) // 2, (CANVAS - image.height) // 2))
            bank.append(np.asarray(canvas))
    return torch.from_numpy(np.stack(bank)).float()[:, None] / 255


def _grid(linear: Tensor, offset: Tensor) -> Tensor:
    """Sampling grid of the affine map x -> linear x + offset on the frame."""
    shape = [len(linear), 1, FRAME, FRAME]
    return F.affine_grid(torch.cat([linear, offset[..., None]], -1), shape, align_corners=False)


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and half length of the occupied stretch of each row of (n, FRAME) flags."""
    at = ((torch.arange(FRAME) + 0.5) * 2 / FRAME - 1) * WINDOW
    low = torch.where(occupied, at, torch.inf).amin(1)
    high = torch.where(occupied, at, -torch.inf).amax(1)
    return (high + low) / 2, (high - low) / 2 + WINDOW / FRAME


def _blur(images: Tensor) -> Tensor:
    """Gaussian blur of (n, 1, h, w)."""
    reach = int(3 * STROKE_BLUR)
    kernel = torch.exp(-((torch.arange(-reach, reach + 1) / STROKE_BLUR) ** 2) / 2)
    kernel = kernel / kernel.sum()
    return F.conv2d(F.conv2d(F.pad(images, [reach] * 4), kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def _chunk(seed: int, chunk: int) -> Tensor:
    """CHUNK letters as (CHUNK, COARSE, COARSE) in 0..1, quantised to LEVELS steps."""
    rng, bank = np.random.default_rng([seed, chunk]), _bank()
    letters = bank[torch.from_numpy(rng.integers(len(bank), size=CHUNK))]
    ranges = (ROTATION, SHEAR, HEIGHT, WIDTH, SHIFT, INK)
    angle, shear, height, width, shift, ink = (torch.from_numpy(rng.uniform(*r, CHUNK)).float() for r in ranges)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros(CHUNK)
    # The letter is turned and sheared, measured, then cropped to fill the frame's height.
    turn = torch.stack([cos, cos * shear - sin, sin, sin * shear + cos], -1).view(-1, 2, 2)
    turned = F.grid_sample(letters, _grid(turn * WINDOW, torch.zeros(CHUNK, 2)), align_corners=False)[:, 0] > 0.3
    (x, half_width), (y, half_height) = _extent(turned.any(1)), _extent(turned.any(2))
    fill = torch.minimum(width / COARSE, half_width / half_height * MAX_STRETCH)
    crop = torch.stack([half_width / fill, zero, zero, half_height / height], -1).view(-1, 2, 2)
    centre = torch.stack([x + shift * half_width / fill, y], -1)
    grid = _grid(turn @ crop, (turn @ centre[..., None])[..., 0])
    soft = _blur(F.grid_sample(letters, grid, align_corners=False))[:, 0]
    # A level set of the blurred letter: the stroke is as heavy as its share of ink asks for.
    rank = ((1 - ink) * FRAME**2).long().clamp(max=FRAME**2 - 1)
    level = soft.flatten(1).sort(1).values.gather(1, rank[:, None]).clamp(min=0.02)
    drawn = F.avg_pool2d((soft > level[..., None]).float(), FRAME // COARSE)
    return (drawn * LEVELS).round() / LEVELS


def render(count: int, seed: int, size: int = 32) -> Pixels:
    """``count`` random letters, uint8 ``(count, 3, size, size)``; a longer call starts with a shorter one's images."""
    coarse = torch.cat([_chunk(seed, chunk) for chunk in range(-(-count // CHUNK))])[:count]
    return enlarge(coarse.numpy(), size)


def glyphs(store: Store, *, count: int = 10_000, size: int = 32, seed: int = 0) -> Images:
    """The query set: ``count`` letters at ``size`` pixels, drawn once and kept."""
    return load_generated(store, "glyphs", render, count=count, size=size, seed=seed)
