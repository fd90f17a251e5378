"""Corruptions against other people's implementations, one image at a time."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from scipy.ndimage import gaussian_filter

from fmsteal.data.digits import digits
from fmsteal.data.procedural import render
from fmsteal.evaluation.corruptions import CHUNK, IMAGENET, NAMES, blur, contrast, corrupt_images, jpeg

RANDOM = np.random.default_rng(0)
SMALL = np.concatenate([digits().test.pixels[:6], render(6, 0, 32)])
LARGE = render(6, 0, 72)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 6.0])
@pytest.mark.parametrize("size", [(3, 9), (32, 32), (40, 72)])
def test_blur_is_scipys_gaussian_filter(size: tuple[int, int], sigma: float) -> None:
    images = RANDOM.integers(0, 256, (4, 3, *size), dtype=np.uint8)
    want = np.stack(
        [
            [gaussian_filter(c.astype(float), sigma, mode="nearest", truncate=4) for c in image] for image in images
        ]  # scikit-image's `gaussian`, which the authors' scripts call, is this with these two options
    )
    got = blur(torch.from_numpy(images), sigma).numpy()
    np.testing.assert_array_equal(got, np.round(want))


@pytest.mark.parametrize("factor", [0.75, 0.5, 0.05])
def test_contrast_is_the_distance_from_each_channels_mean(factor: float) -> None:
    for image, got in zip(SMALL, contrast(torch.from_numpy(SMALL), factor).numpy(), strict=True):
        x = image.transpose(1, 2, 0) / 255
        means = np.mean(x, axis=(0, 1), keepdims=True)
        want = np.clip((x - means) * factor + means, 0, 1) * 255
        assert np.abs(got.transpose(1, 2, 0) - want).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("quality", [80, 40, 7])
def test_jpeg_is_pillows(quality: int) -> None:
    for image, got in zip(SMALL, jpeg(torch.from_numpy(SMALL), quality).numpy(), strict=True):
        stream = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(stream, "JPEG", quality=quality)
        want = np.asarray(Image.open(stream)).transpose(2, 0, 1)
        assert np.abs(got.astype(int) - want).max() <= 2, "the two may bring their own libjpeg"
        assert np.abs(got.astype(int) - image).max() > 2


def test_noise_is_gaussian_and_new_at_each_severity() -> None:
    grey = np.full((40, 3, 32, 32), 128, np.uint8)
    drawn = [corrupt_images(grey, "noise", severity).astype(float).ravel() - 128 for severity in (1, 2)]
    for values, std in zip(drawn, (0.04, 0.06), strict=True):
        assert abs(values.mean()) < 0.15
        assert values.std() == pytest.approx(255 * std, rel=0.01)
        assert abs(stats.skew(values)) < 0.02 and abs(stats.kurtosis(values)) < 0.05
        images = values.reshape(40, -1)
        assert abs(np.corrcoef(images[0], images[1])[0, 1]) < 0.05, "each image has its own"
    assert abs(np.corrcoef(*drawn)[0, 1]) < 0.02
    clipped = corrupt_images(np.full((4, 3, 32, 32), 255, np.uint8), "noise", 5)
    assert 0.4 < (clipped == 255).mean() < 0.6, "half of it would be brighter than white"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("images", [SMALL, LARGE], ids=["cifar", "imagenet"])
def test_a_higher_severity_is_farther_from_the_clean_images(images: np.ndarray, name: str) -> None:
    made = [corrupt_images(images, name, severity) for severity in (1, 2, 3, 4, 5)]
    assert all(m.dtype == np.uint8 and m.shape == images.shape for m in made)
    far = [np.square(m.astype(float) - images).mean() for m in made]
    assert far[0] > 0 and all(np.diff(far) > 0), far


@pytest.mark.parametrize("name", NAMES)
def test_batches_of_any_size_give_the_same_images(name: str) -> None:
    images = np.concatenate([SMALL] * 6)
    assert len(images) > CHUNK
    whole = corrupt_images(images, name, 3)
    for chunk in (1, 7, len(images)):
        np.testing.assert_array_equal(corrupt_images(images, name, 3, chunk), whole)
    np.testing.assert_array_equal(corrupt_images(images[:5], name, 3), whole[:5])
    read_only = images.copy()
    read_only.flags.writeable = False  # as a memory map is
    np.testing.assert_array_equal(corrupt_images(read_only, name, 3), whole)


def test_images_of_64_pixels_take_cifars_strengths_and_larger_ones_imagenets() -> None:
    for size, factor in ((64, 0.15), (65, IMAGENET["contrast"][4])):
        images = RANDOM.integers(0, 256, (2, 3, 8, size), dtype=np.uint8)
        want = contrast(torch.from_numpy(images), factor).numpy()
        np.testing.assert_array_equal(corrupt_images(images, "contrast", 5), want)
