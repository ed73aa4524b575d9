# From notebooks/06_pretraining.ipynb: edit there, then run make export.

"""The settings of a training run, checked when they are made.

Built in notebook 06.
"""

from dataclasses import dataclass

from llmlib import checks


@dataclass(frozen=True)
class TrainConfig:
    """All that decides how a model is trained, checked when it is made.

    Raises ValueError for an impossible value, and says what is allowed.

    >>> TrainConfig(max_steps=1000, learning_rate=3e-3).warmup_steps
    100
    """

    max_steps: int  # updates of the weights in all
    learning_rate: float = 1e-3  # the highest, reached after the warm-up
    final_fraction: float = 0.1  # of the learning rate, at the last step
    warmup_steps: int = 100  # steps in which the learning rate rises from 0
    weight_decay: float = 0.1  # of matrices and embeddings; biases and norms do not decay
    betas: tuple[float, float] = (0.9, 0.95)  # AdamW's memory of gradients and their squares
    grad_clip: float | None = 1.0  # longest gradient allowed; None for no limit
    accumulation_steps: int = 1  # batches whose gradients make one step
    dtype: str = "float32"  # of the large products: "float32" or "bfloat16"
    optimizer: str = "adamw"  # "adamw", or "muon" for the matrices between embedding and head
    aux_weights: float | dict[str, float] = 0.01  # of losses that a model adds, all or by name

    def __post_init__(self):
        checks.train_config(self)
        object.__setattr__(self, "betas", tuple(map(float, self.betas)))  # JSON gives a list

    def warmup(self) -> int:
        """Return the steps of the warm-up; a tenth of the run if warmup_steps would fill it."""
        fits = self.warmup_steps < self.max_steps
        return self.warmup_steps if fits else self.max_steps // 10
