"""What a spec accepts, readable without pydantic and enforced by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

__all__ = ["LATER", "STRICT", "Bound", "Count", "NonNegative", "Positive"]

STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}
"""`__pydantic_config__` of every spec: a string is never a number and an unknown key never passes.
A dict is all that pydantic needs, so no import of it here."""


LATER: Mapping[str, Any] = {"later": True}
"""`metadata` of a field that came when there were records: a spec says it only where it differs
from its default, so that the specs before it keep their canonical JSON and their ids."""


@dataclass(frozen=True)
class Bound:
    """Limits of a number, as an annotation: `Annotated[float, Bound(above=0)]`."""

    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    def __str__(self) -> str:
        parts = []
        if self.above is not None:
            parts.append(f"greater than {self.above:g}")
        if self.at_least is not None:
            parts.append(f"at least {self.at_least:g}")
        if self.at_most is not None:
            parts.append(f"at most {self.at_most:g}")
        return " and ".join(parts)

    def check(self, value: float) -> float:
        """Returns `value`, or raises ValueError naming the accepted range."""
        if (
            not math.isfinite(value)
            or (self.above is not None and not value > self.above)
            or (self.at_least is not None and not value >= self.at_least)
            or (self.at_most is not None and not value <= self.at_most)
        ):
            raise ValueError(f"must be {self}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:  # noqa: ANN401
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> Any:  # noqa: ANN401
        limits = {
            "exclusiveMinimum": self.above,
            "minimum": self.at_least,
            "maximum": self.at_most,
        }
        return handler(core) | {key: value for key, value in limits.items() if value is not None}


Positive = Annotated[float, Bound(above=0)]
NonNegative = Annotated[float, Bound(at_least=0)]
Count = Annotated[int, Bound(at_least=1)]
