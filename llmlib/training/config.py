# From notebooks/06_pretraining.ipynb: edit there, then run make export.

"""The settings of a training run, checked when they are made.

Built in notebook 06.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainConfig:
    """All that decides how a model is trained, checked when it is made.

    Raises ValueError for a value that is not possible, saying what is allowed.

    >>> TrainConfig(max_steps=1000, learning_rate=3e-3).warmup_steps
    100
    """

    max_steps: int  # updates of the weights in all
    learning_rate: float = 1e-3  # the highest, reached after the warm-up
    final_fraction: float = 0.1  # of the learning rate, at the last step
    warmup_steps: int = 100  # steps in which the learning rate rises from near 0
    weight_decay: float = 0.1  # of matrices and embeddings; biases and norms have none
    betas: tuple[float, float] = (0.9, 0.95)  # AdamW's memory of gradients and their squares
    grad_clip: float | None = 1.0  # longest gradient allowed; None for no limit
    accumulation_steps: int = 1  # batches whose gradients make one step
    dtype: str = "float32"  # of the large products: "float32" or "bfloat16"
    optimizer: str = "adamw"  # "adamw", or "muon" for the matrices between embedding and head

    def __post_init__(self):
        for name, lowest in (("max_steps", 1), ("warmup_steps", 0), ("accumulation_steps", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < lowest:
                raise ValueError(f"{name} is {value!r}: it must be an int of at least {lowest}")
        if not isinstance(self.betas, (tuple, list)) or len(self.betas) != 2:
            raise ValueError(f"betas is {self.betas!r}: it must be two numbers")
        object.__setattr__(self, "betas", tuple(self.betas))  # JSON knows lists only
        beta1, beta2 = self.betas
        for name, value, fits, allowed in (
            ("learning_rate", self.learning_rate, lambda x: 0 < x < math.inf, "above 0"),
            ("final_fraction", self.final_fraction, lambda x: 0 <= x <= 1, "from 0 to 1"),
            ("weight_decay", self.weight_decay, lambda x: 0 <= x < math.inf, "of at least 0"),
            ("the first of betas", beta1, lambda x: 0 <= x < 1, "from 0 to below 1"),
            ("the second of betas", beta2, lambda x: 0 <= x < 1, "from 0 to below 1"),
            ("grad_clip", self.grad_clip, lambda x: x is None or x > 0, "above 0, or None"),
        ):
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number or (name == "grad_clip" and value is None)) or not fits(value):
                raise ValueError(f"{name} is {value!r}: it must be a number {allowed}")
        for name, allowed in (("dtype", ("float32", "bfloat16")), ("optimizer", ("adamw", "muon"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}: it must be one of {allowed}")
