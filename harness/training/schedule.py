"""What changes in the course of a training: learning rate, weight of the KL term, patience.

Pure functions of the step and of what `Totals` counts, so that a resumed training goes on with
the values of one that was never stopped.
"""

from __future__ import annotations

from harness.interface import Control
from harness.trial import Patience, Training, Trial

__all__ = ["drops_made", "is_over", "kl_weight", "learning_rate", "training_control"]


def training_control(trial: Trial, step: int, lr: float) -> Control:
    """What a training step is called with.

    Arguments:
        trial: The trial.
        step: 0-based.
        lr: Learning rate of the step.
    """
    training = trial.training
    return Control(
        trial.solver,
        training.trace,
        trial.gradient,
        step,
        lr,
        kl_weight(training, step),
        training.probes,
        training.draws,
    )


def learning_rate(training: Training, step: int, drops: int) -> float:
    """Learning rate of a step: linear warm-up, then every drop by step or for want of gain.

    Arguments:
        training: Optimiser and schedule.
        step: 0-based; the first step of a warm-up of n has 1/n of the rate.
        drops: Drops that patience has made so far.
    """
    schedule = training.schedule
    warmup = min(1.0, (step + 1) / schedule.warmup) if schedule.warmup else 1.0
    drops += sum(at <= step for at in schedule.drops)
    return training.optimizer.lr * warmup * schedule.factor**drops


def kl_weight(training: Training, step: int) -> float:
    """Weight of the KL term: (epochs begun) / (epochs of the warm-up), at most 1.

    An epoch is `validate_every` steps (`harness.trial.Schedule.kl_warmup`).
    """
    epoch, warmup = training.validate_every, training.schedule.kl_warmup
    return min(1.0, (step // epoch + 1) * epoch / warmup) if warmup else 1.0


def drops_made(patience: Patience, stale: int, drops: int) -> int:
    """Drops of the learning rate after a validation; those that were made stay.

    Arguments:
        patience: How many validations without gain lead to a drop.
        stale: Validations in a row without gain, this one included.
        drops: Drops made before.
    """
    while drops < len(patience.drops) and stale > patience.drops[drops]:
        drops += 1
    return drops


def is_over(patience: Patience, stale: int) -> bool:
    """True if so many validations without gain end the training."""
    return patience.stop is not None and stale > patience.stop
