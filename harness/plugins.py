"""The one reader of entry points, by which packages add backends and datasets."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import metadata

__all__ = ["plugins"]


@functools.cache
def plugins(group: str, noun: str, error: type[Exception]) -> Mapping[str, metadata.EntryPoint]:
    """Returns the entry points of a group by name; loads none.

    Arguments:
        group: Name of the group.
        noun: What an entry point of it is, for the message.
        error: What to raise.

    Raises:
        Exception: `error`, because two packages claim one name.
    """
    points: dict[str, metadata.EntryPoint] = {}
    for point in metadata.entry_points(group=group):
        # One package can be listed twice, installed and in a folder of the path.
        if point.name in points and points[point.name].value != point.value:
            raise error(
                f"two packages register a {noun} named '{point.name}': "
                f"{points[point.name].value} and {point.value}; uninstall one of them"
            )
        points[point.name] = point
    return points
