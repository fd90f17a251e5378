"""The 15 common corruptions of ImageNet-C (Hendrycks & Dietterich, ICLR 2019), by the package imagecorruptions-imaug.

It is the maintained fork of the authors' scripts that runs on today's NumPy (imagecorruptions 1.1.2 does not: glass
blur and fog fail). Its strengths are those of ImageNet-C, meant for 224 pixels: at 32 they are far harsher than
CIFAR-10-C, and severity 1 is the most telling. Each image has its own random numbers, the same in every job.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import numpy.typing as npt

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.base.seeds import derive_seed
from fmsteal.base.store import Store
from fmsteal.data.images import Images, Pixels, load, save

NAMES = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
SEEDED = ("impulse_noise", "glass_blur")  # those that take a seed; the others draw from NumPy's global generator
PACKAGE = "imagecorruptions-imaug"
LEAST = 32  # smallest side, in pixels, of an image that the package accepts


def find_version() -> str:
    """The package's version.

    Raises:
        ConfigError: the package is not installed, even if the one it is a fork of, with the same module name, is.
    """
    try:
        found = version(PACKAGE)
    except PackageNotFoundError:
        other = " (imagecorruptions is there: remove it first, both are one module)" if _module() else ""
        raise ConfigError(
            f"suite=imagenet_c needs {PACKAGE}, which is not installed: pip install 'fmsteal[corruptions]'{other}. The "
            "four corruptions of suite=basic need nothing more."
        ) from None
    return found


def corrupt_images(images: Images, name: str, severity: int, store: Store) -> Images:
    """Images under the corruption ``name``, without labels; made once and kept in the store.

    Raises:
        ConfigError: the package is not installed.
        DataError: the images are too small for the package.
    """
    if min(images.pixels.shape[-2:]) < LEAST:
        size = "x".join(map(str, images.pixels.shape[-2:]))
        raise DataError(
            f"suite=imagenet_c takes images of at least {LEAST} pixels, these have {size}: data.size={LEAST}, or "
            "evaluation.also.robustness.suite=basic."
        )
    spec = {"images": images.digest, "corruption": name, "severity": severity, PACKAGE: find_version()}
    return load(
        store.get("corrupted", name, spec, lambda out, _: save(out, _apply(np.asarray(images.pixels), name, severity)))
    )


def _apply(pixels: Pixels, name: str, severity: int) -> Pixels:
    from imagecorruptions import corrupt

    made = np.empty_like(pixels)
    with _own_random_state():
        for number, image in enumerate(pixels):
            seed = derive_seed(name, severity, number)
            np.random.seed(seed)  # noqa: NPY002  # the package's generator
            more = {"seed": seed} if name in SEEDED else {}
            seen: npt.NDArray[np.uint8] = np.ascontiguousarray(image.transpose(1, 2, 0))
            made[number] = corrupt(seen, severity, name, **more).transpose(2, 0, 1)
    return made


@contextmanager
def _own_random_state() -> Iterator[None]:
    before = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def _module() -> bool:
    return importlib.util.find_spec("imagecorruptions") is not None
