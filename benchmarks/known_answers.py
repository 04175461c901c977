"""Made-up answers of two methods whose true difference is known, for `coverage.py` and the tests.

Each answer is right if a uniform number lies below the accuracy of its model. The number belongs to
the question, or now and then to the method's view of it, or to the trained model's own: so methods
disagree on some questions whatever the seed, and on others by the luck of training.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ACCURACY = 0.6
SHARES = (0.4, 0.25, 0.15, 0.12, 0.08)  # of the questions, by task; the last has twins in pairs


@dataclass(frozen=True)
class Answers:
    """Right or wrong, (questions, seeds), and the true difference of the models at hand."""

    a: NDArray[np.bool_]
    b: NDArray[np.bool_]
    task: NDArray[np.intp]
    cluster: NDArray[np.intp]
    conditional: float


def answers(
    random: np.random.Generator,
    questions: int,
    seeds: int,
    seed_sd: float,
    gap: float = 0.0,
    discordance: float = 0.1,
) -> Answers:
    """Draw questions, and train both methods `seeds` times.

    Args:
        random: the generator.
        questions: how many, over five tasks.
        seeds: trained models of each method.
        seed_sd: standard deviation of a model's accuracy between seeds.
        gap: accuracy of the first method minus that of the second, over all seeds and questions.
        discordance: share of the questions that only one of two models gets right, at no gap.
    """
    sizes = [round(share * questions) for share in SHARES]
    task = np.repeat(np.arange(len(sizes)), sizes)
    cluster = np.arange(len(task))
    twins = task == len(sizes) - 1
    cluster[twins] -= (cluster[twins] - cluster[twins][0] + 1) // 2
    # Two models disagree where not both follow the question, with chance 2 p (1 - p).
    follow = np.sqrt(1 - discordance / (2 * ACCURACY * (1 - ACCURACY)))
    own = 1 - np.sqrt(follow)  # for the method's own view, and again for the model's
    fate = random.random(len(task))[cluster]
    outcomes, means = [], []
    for accuracy in (ACCURACY + gap / 2, ACCURACY - gap / 2):
        view = np.where(_some(random, own, cluster), random.random(len(task))[cluster], fate)
        effects = random.normal(0, seed_sd, seeds)
        columns = [
            np.where(_some(random, own, cluster), random.random(len(task))[cluster], view)
            < accuracy + effect
            for effect in effects
        ]
        outcomes.append(np.column_stack(columns))
        means.append(accuracy + effects.mean())
    return Answers(*outcomes, task, cluster, float(means[0] - means[1]))


def _some(
    random: np.random.Generator, share: float, cluster: NDArray[np.intp]
) -> NDArray[np.bool_]:
    return (random.random(len(cluster)) < share)[cluster]
