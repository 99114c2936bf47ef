"""Data that the precision of a trial cannot hold are refused before the training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes import fake_trial

from harness.datasets.arrays import ArrayDataset
from harness.errors import DataError
from harness.measuring.requirements import require_representable


def test_values_beyond_float32_are_refused_by_name() -> None:
    x = np.full((20, 2), 1e39)
    dataset = ArrayDataset("mine", {"train": np.zeros((20, 2)), "val": x, "test": x})
    trial = fake_trial()
    with pytest.raises(DataError, match=r"'mine' has values up to 1e\+39, beyond .* float32"):
        require_representable(trial, dataset)
    require_representable(replace(trial, precision="float64"), dataset)
