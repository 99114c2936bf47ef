"""Pictures: orientation, layout, and whose data may be shown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from harness_reports.page.elements import Paragraph, Pictures
from harness_reports.page.raster import contact_sheet, heat_map
from harness_reports.sections.pictures import may_show_data, picture_blocks
from harness_reports.trials.entries import entries_of
from PIL import Image

from harness.planning.plan import Plan


def pixels(png: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.parametrize(
    "dataset",
    [
        "bsds300",
        "bsds300-rederived",
        "freyfaces",
        "caltech-silhouettes",
        "cifar10",
        "mnist",
        "mine",
    ],
)
def test_images_of_others_are_never_shown(dataset: str) -> None:
    assert not may_show_data(dataset)


@pytest.mark.parametrize("dataset", ["8gaussians", "moons", "digits"])
def test_generated_and_free_data_may_be(dataset: str) -> None:
    assert may_show_data(dataset)


def test_y_grows_upwards_and_x_to_the_right() -> None:
    density = np.zeros((4, 5))
    density[3, 0] = 1.0
    image = pixels(heat_map(density, top=1.0, scale=2))
    assert image.shape == (8, 10, 3)
    assert tuple(image[0, 0]) == (0xFD, 0xE7, 0x25)
    assert tuple(image[-1, -1]) == (0x44, 0x01, 0x54)


def test_sheet_goes_row_by_row_from_black_to_white() -> None:
    images = np.stack([np.full((2, 3), value) for value in (0.0, 1.0, 2.0, 4.0, 9.0)])
    sheet = pixels(contact_sheet(images, columns=2, low=0.0, high=4.0, width=7))[..., 0]
    assert sheet.shape == (2 * 2 + 1, 2 * 3 + 1)
    assert [sheet[0, 0], sheet[0, 4], sheet[3, 0], sheet[3, 4]] == [0, 64, 128, 255]
    assert set(sheet[2]) == {255}


def test_colour_images_keep_their_channels() -> None:
    images = np.zeros((1, 3, 2, 2))
    images[0, 1] = 1.0
    assert tuple(pixels(contact_sheet(images, 1, 0.0, 1.0, 2))[0, 0]) == (0, 255, 0)


def test_panels_differ_in_the_backend_only(root: Path, plan: Plan, frame: pd.DataFrame) -> None:
    blocks = picture_blocks(entries_of(plan, frame), root)
    density, sheet = [block for block in blocks if isinstance(block, Pictures)]
    axes = density.panels[0].axes
    assert axes is not None
    assert [axis.name for axis in axes] == ["x", "y"]
    # Cells of 8/99 around points from -4 to 4.
    assert (axes[0].low, axes[1].high) == pytest.approx((-4 - 4 / 99, 4 + 4 / 99), rel=1e-6)
    assert [panel.label for panel in density.panels] == ["torch", "jax", "data"]
    assert [panel.label for panel in sheet.panels] == ["torch", "jax", "data"]
    assert pixels(sheet.panels[0].png).shape[0] == 3 * (10 * 9 - 1)


def test_without_the_run_folder_it_says_so(plan: Plan, frame: pd.DataFrame) -> None:
    (block,) = picture_blocks(entries_of(plan, frame), None)
    assert isinstance(block, Paragraph)
    assert "MLflow" in block.text
