"""A user's own file as a dataset: which file, and what is done to its rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from harness.specs.bounds import STRICT, Bound

__all__ = ["OwnData"]

_FRACTION = re.compile(r"test(0\.\d+)")


@dataclass(frozen=True)
class OwnData:
    """A file of the data folder, and what is done to its rows before a model sees them.

    All of it stands in the name of the dataset (`mine+standardized+test0.2`), and so in the
    identity of trials.

    Arguments:
        name: The name of the file without its suffix.
        standardize: Subtract the mean of each feature of the training rows, and divide by its
            standard deviation. Likelihoods remain those of the numbers in the file.
        dequantize: Add uniform noise from [0, 1) to every number, the same in every trial. Whole
            numbers then have a density; its mean log-likelihood is a lower bound of theirs.
        test_fraction: Share of the rows that test, of a file that has no splits; None: a tenth.
    """

    __pydantic_config__ = STRICT

    name: str
    standardize: bool = False
    dequantize: bool = False
    test_fraction: Annotated[float, Bound(at_least=0.001, at_most=0.9)] | None = None

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        words = [self.name]
        words += ["standardized"] if self.standardize else []
        words += ["dequantized"] if self.dequantize else []
        words += [] if self.test_fraction is None else [f"test{self.test_fraction:.10g}"]
        return "+".join(words)

    @staticmethod
    def of(dataset: str) -> OwnData | None:
        """What a name says; None if it is no such name."""
        name, *words = dataset.split("+")
        fractions = [float(match[1]) for word in words if (match := _FRACTION.fullmatch(word))]
        made = OwnData(
            name,
            "standardized" in words,
            "dequantized" in words,
            fractions[0] if fractions else None,
        )
        return made if made.dataset == dataset else None
