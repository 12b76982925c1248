"""A sparse mixture of experts over the features of all modalities."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Inexact

from fusion_bench.fields import NonNegative
from fusion_bench.fusion.layers import Dtype, Features, Joint, Sizes, normal_weight
from fusion_bench.fusion.registry import register

PerExpert = Float[Array, "batch expert"]


@register(
    "moe", reference="Shazeer et al. 2017, arXiv:1701.06538; fusion by experts: FuseMoE, 2402.03226", size="hidden"
)
class MixtureOfExperts(nnx.Module):
    """The `top` of E experts that a router chooses: Σ_e g_e relu(A_e h + a_e) B_e, h = [h_1; …; h_M].

    g = softmax over the `top` largest entries of R h, zero elsewhere; with `top=1` the chosen expert's probability
    under softmax(R h), as in Switch Transformers (Fedus et al. 2021, arXiv:2101.03961), since the loss would else not
    train the router. A_e maps to `hidden`, B_e to out_features. The penalty of Switch is added to the loss, so that
    experts share the examples: balance · E · Σ_e f_e P_e, with f_e the fraction of choices that fall on expert e and
    P_e its mean probability. The router computes in float32. Any number of modalities. Parameters: E · (Σ_m d_m ·
    (hidden + 1) + hidden · (1 + out_features)). All experts are computed and the unchosen ones dropped, so FLOPs are
    those of E experts. Shazeer et al. balance importance and load by their squared coefficients of variation; their
    noise in the router, an output bias of the experts and FuseMoE's experts for each modality are left out. Raises
    ValueError if there are fewer experts than `top`.
    """

    def __init__(
        self,
        in_features: Sizes,
        *,
        out_features: int = 64,
        hidden: int = 64,
        experts: int = 4,
        top: int = 2,
        balance: NonNegative = 0.01,
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ):
        if top > experts:
            raise ValueError(f"top={top} is more than there are experts, {experts}")
        self.modalities = tuple(sorted(in_features))
        width = sum(in_features.values())
        self.router = nnx.Linear(width, experts, use_bias=False, dtype=jnp.float32, rngs=rngs)
        self.expand = normal_weight((experts, width, hidden), fan_in=width, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros((experts, hidden), jnp.float32))
        self.contract = normal_weight((experts, hidden, out_features), fan_in=hidden, rngs=rngs)
        self.top, self.balance = top, balance
        self.dtype, self.out_features = dtype, out_features

    def __call__(self, features: Features) -> Joint:
        h = self._joint(features)
        gates, *_ = self._route(h)
        expand, bias, contract = (p[...].astype(h.dtype) for p in (self.expand, self.bias, self.contract))
        hidden = jax.nn.relu(jnp.einsum("bi,eih->beh", h, expand) + bias)
        return jnp.einsum("beh,eho->bo", gates.astype(h.dtype)[:, :, None] * hidden, contract)

    def penalty(self, features: Features) -> Float[Array, ""]:
        """Returns the term of the loss that balances the experts, in nats."""
        _, is_chosen, probabilities = self._route(self._joint(features))
        share = is_chosen.mean(0) / self.top
        return self.balance * len(share) * (share * probabilities.mean(0)).sum()

    def _joint(self, features: Features) -> Inexact[Array, "batch _"]:
        return jnp.concatenate([features[name] for name in self.modalities], axis=-1, dtype=self.dtype)

    def _route(self, h: Inexact[Array, "batch _"]) -> tuple[PerExpert, PerExpert, PerExpert]:
        """Returns the gates, 1 or 0 for chosen or not, and the probabilities of all experts."""
        scores = self.router(h)
        _, best = jax.lax.top_k(scores, self.top)
        is_chosen, probabilities = jax.nn.one_hot(best, scores.shape[1]).sum(1), jax.nn.softmax(scores)
        if self.top == 1:
            return is_chosen * probabilities, is_chosen, probabilities
        return jax.nn.softmax(jnp.where(is_chosen > 0, scores, jnp.float32(-1e9))), is_chosen, probabilities
