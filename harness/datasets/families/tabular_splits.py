"""Preprocessing of the tabular benchmarks of density estimation, as MAF does it.

Steps and their quirks follow the data code of Papamakarios et al., Masked Autoregressive Flow
(arXiv:1705.07057), which FFJORD uses. Densities are those of the standardised variables, as all
published tables have them, so `log_volume` is 0.
"""

from __future__ import annotations

import numpy as np

from harness.datasets.base import Float, Split
from harness.datasets.formats.text_tables import without_repeated_minimum
from harness.streams.stream import Stream

__all__ = ["gas", "hepmass", "miniboone", "power", "resampled_gas"]


def power(data: Float) -> dict[Split, Float]:
    """Splits of POWER from its rows as MAF stores them.

    Rows are shuffled by numpy's legacy generator with seed 42, the columns global intensity (3)
    and reactive power (1) dropped, and uniform noise of one measuring step added. It is drawn in
    the order voltage, active power, sub-meterings; the time gets none.

    Arguments:
        data: [n, 8]: global active power, global reactive power, voltage, global intensity, three
            sub-meterings, minute of the day.

    Returns:
        Splits [., 6]: active power, voltage, three sub-meterings, time; the last tenth is the test
        set, the last tenth of the rest validates.
    """
    # numpy freezes the streams of RandomState: this is the published shuffle, bit by bit.
    legacy = np.random.RandomState(42)
    data = data.copy()
    legacy.shuffle(data)
    count = len(data)
    data = np.delete(np.delete(data, 3, axis=1), 1, axis=1)
    voltage = 0.01 * legacy.rand(count, 1)
    active_power = 0.001 * legacy.rand(count, 1)
    sub_meterings = legacy.rand(count, 3)
    data += np.hstack([active_power, voltage, sub_meterings, np.zeros((count, 1))])
    return _standardised(data)


def gas(data: Float) -> dict[Split, Float]:
    """Splits of GAS from the readings of its sensors.

    The first sensor whose correlation with another exceeds 0.98 is dropped, again and again until
    there is none. All rows standardise, those of the test set too, by the sample deviation
    (n - 1), as pandas does.

    Arguments:
        data: [n, 16].

    Returns:
        Splits [., 8] of the full data; the last tenth of the rows is the test set, the last tenth
        of the rest validates.
    """
    # A sensor that never changes has no correlation, which is no reason to drop it.
    with np.errstate(divide="ignore", invalid="ignore"):
        related = np.atleast_2d(np.corrcoef(data, rowvar=False)) > 0.98
    kept = np.arange(data.shape[1])
    while (crowded := related[np.ix_(kept, kept)].sum(axis=1) > 1).any():
        kept = np.delete(kept, np.argmax(crowded))
    data = data[:, kept]
    return _split((data - data.mean(axis=0)) / data.std(axis=0, ddof=1))


def resampled_gas(data: Float) -> dict[Split, Float]:
    """Splits of GAS from all rows of the original file.

    The authors of MAF drew a random quarter of the rows without a seed, so their rows cannot be
    had from it; this is our own quarter of them, hence another dataset.

    Arguments:
        data: [n, 16] in time order.
    """
    order = Stream(0, "data/gas-resampled").permutation(len(data))
    return gas(data[order[: round(0.25 * len(data))]])


def hepmass(train: Float, test: Float) -> dict[Split, Float]:
    """Splits of HEPMASS from its signal rows.

    Rows are standardised by the training file, validation included, with the sample deviation
    (n - 1); features whose smallest value occurs more than 5 times there are dropped.

    Arguments:
        train: [n, 27] of the training file; its last tenth validates.
        test: [., 27] of the test file.

    Returns:
        Splits [., 21] of the full data.
    """
    kept = without_repeated_minimum(train)
    train, test = train[:, kept], test[:, kept]
    mean, deviation = train.mean(axis=0), train.std(axis=0, ddof=1)
    train, test = (train - mean) / deviation, (test - mean) / deviation
    count = len(train) - int(0.1 * len(train))
    return {"train": train[:count], "val": train[count:], "test": test}


def miniboone(data: Float) -> dict[Split, Float]:
    """Splits of MINIBOONE from its rows as MAF stores them, already filtered; no shuffle.

    Arguments:
        data: [n, 43].

    Returns:
        Splits [., 43]; the last tenth is the test set, the last tenth of the rest validates.
    """
    return _standardised(data)


def _standardised(data: Float) -> dict[Split, Float]:
    """Splits without shuffling and standardises by mean and deviation of train + validation."""
    seen = data[: len(data) - int(0.1 * len(data))]
    return _split((data - seen.mean(axis=0)) / seen.std(axis=0))


def _split(data: Float) -> dict[Split, Float]:
    test = int(0.1 * len(data))
    val = int(0.1 * (len(data) - test))
    train = len(data) - test - val
    return {"train": data[:train], "val": data[train : train + val], "test": data[train + val :]}
