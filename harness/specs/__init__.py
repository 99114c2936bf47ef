"""The parts of a trial; `harness.trial` exports them all.

Plain frozen dataclasses, so that a worker needs neither pydantic nor YAML. The annotations carry
the bounds; `harness.reading.validation` lets pydantic enforce them on what a user wrote.
"""
