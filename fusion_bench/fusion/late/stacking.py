"""Post-hoc late fusion by a second model: a logistic regression over the unimodal models' log-probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy.special import log_softmax

from fusion_bench.fusion.base import Fitted, Logits, ModalityLogits, PosthocFusion, Prior, StoredLabels, StoredLogits
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register


@register("late-stacking", reference="stacked generalization: Wolpert, Neural Networks 5(2), 1992")
class LateStacking(PosthocFusion):
    """Logistic regression over log-probabilities: logits = Σ_m log softmax(z_m) A_m + b.

    The members are the unimodal runs of the same seed; A and b are fitted on validation data with the penalty
    `penalty` · ||A||² / 2, by default as in scikit-learn. Validation accuracy is therefore measured on the data of the
    fit. Any number of modalities. M · C² + C numbers are fitted, none are trained.
    """

    def __init__(self, blueprint: Blueprint, *, penalty: float = 1.0):
        self.penalty = penalty
        super().__init__(blueprint)
        classes = blueprint.task.num_classes
        # Before the fit: the sum of the log-probabilities.
        self.weights = nnx.Dict({name: Fitted(jnp.eye(classes)) for name in blueprint.modalities})
        self.bias = Fitted(jnp.zeros((classes,)))

    def fit(self, logits: StoredLogits, labels: StoredLabels, prior: Prior) -> None:
        from sklearn.linear_model import LogisticRegression

        scores = np.concatenate([log_softmax(z.astype(np.float64), axis=1) for z in logits.values()], axis=1)
        classes = len(prior)
        # A class without validation examples gets zero weights, and a bias with which it never has the highest logit.
        weights = np.zeros((scores.shape[1], classes))
        bias = np.full(classes, -1e3)
        present = np.unique(labels)
        if len(present) == 1:
            bias[present] = 0
        else:
            fitted = LogisticRegression(C=1 / self.penalty, max_iter=1000).fit(scores, labels)
            # for two classes there is one row, that of the second
            signs = np.array([[-0.5], [0.5]]) if len(present) == 2 else 1
            weights[:, present] = (signs * fitted.coef_).T
            bias[present] = np.ravel(signs) * fitted.intercept_
        for name, rows in zip(logits, np.split(weights, len(logits)), strict=True):
            self.weights[name].set_value(jnp.asarray(rows, jnp.float32))
        self.bias.set_value(jnp.asarray(bias, jnp.float32))

    def fuse(self, logits: ModalityLogits) -> Logits:
        scores = [jax.nn.log_softmax(z) @ self.weights[name][...] for name, z in logits.items()]
        return jnp.stack(scores).sum(0) + self.bias[...]
