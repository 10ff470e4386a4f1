r"""The variational bound on -log p(x), Eqs. (4)-(5), in nats per example.

.. math::
    -\log p_\theta(x) \le \sum_{t=1}^{T} E_{q(z_t|x)}
    KL(q(z_s | z_t, x) \,\|\, p_\theta(z_s | z_t)) + KL(q(z_T|x) \,\|\, p(z_T)) - \log p(n)

The term at t = 1 is the reconstruction (z_0 = x), the second is the prior term (0 by
construction, still computed), the last the size of a variable-size example. Estimating the sum
from one random t needs the factor T.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from molfldd.core.blocks import Batch, Codes
from molfldd.core.diffusion import Diffusion
from molfldd.core.forward import MaskingTransition, Transition
from molfldd.core.mixture import mixture_kl
from molfldd.core.reverse import AutoregressiveReverse, FactorizedReverse, UnmaskingReverse
from molfldd.core.unmasking import reveal_logit


def categorical_kl(q: Tensor, log_p: Tensor) -> Tensor:
    """KL(q || p) in nats, with 0 log 0 = 0; (..., S), (..., S) to (...)."""
    positive = q > 0
    log_q = torch.where(positive, q, 1.0).log()
    return torch.where(positive, q * (log_q - log_p), 0.0).sum(-1)


def step_kl(
    diffusion: Diffusion,
    batch: Batch,
    transition: Transition | MaskingTransition,
    z: Codes,
    t: Tensor,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """KL(q(z_s|z_t,x) || p_theta(z_s|z_t)) of each block at hard states.

    For a mixture the upper bound of ``mixture_kl``; for an autoregressive step an estimate.

    Args:
        diffusion: Both processes.
        batch: The examples, B of them.
        transition: Of the forward process, at t.
        z: States at t, (B, n) int64 per block.
        t: Step of each example, (B,) int64 in 1..T.
        generator: Randomness of z_s, which only an autoregressive step needs.

    Returns:
        Block name to nats per example, (B,).
    """
    reverse = diffusion.reverse
    if isinstance(transition, MaskingTransition) and isinstance(reverse, UnmaskingReverse):
        return unmasking_kl(reverse, batch, transition, z, t)
    if isinstance(transition, MaskingTransition) and isinstance(reverse, AutoregressiveReverse):
        return autoregressive_kl(reverse, batch, transition, z, t, generator)
    return relaxed_step_kl(diffusion, batch, transition, diffusion.prior.onehot(z), t)


def relaxed_step_kl(
    diffusion: Diffusion,
    batch: Batch,
    transition: Transition | MaskingTransition,
    z: dict[str, Tensor],
    t: Tensor,
) -> dict[str, Tensor]:
    """``step_kl`` of a factorized process at one-hot states or simplex points, (B, n, S) per block.

    Raises:
        ValueError: if the reverse process is another one.
    """
    if not isinstance(diffusion.reverse, FactorizedReverse):
        raise ValueError("a relaxed state needs a factorized reverse process")
    law = diffusion.reverse.law(z, batch.mask, t)
    kl = {
        name: torch.where(batch.mask[name], categorical_kl(q, law.log_probs[name]), 0.0).sum(-1)
        for name, q in transition.posterior(z).items()
    }
    return mixture_kl(kl, law.log_weights)


def unmasking_kl(
    reverse: UnmaskingReverse,
    batch: Batch,
    transition: MaskingTransition,
    z: Codes,
    t: Tensor,
) -> dict[str, Tensor]:
    r"""``step_kl`` where both processes only mask and unmask.

    Elements that are not masked stay and cost nothing. A masked one stays masked with probability
    k = p_s / p_t and else becomes x; the reverse process reveals it with probability r, and then
    takes x with probability v(x):

    .. math:: k \log \frac{k}{1 - r} + (1 - k) \left( \log \frac{1 - k}{r} - \log v(x) \right).

    Only the network's features have a value per state, and only those of masked elements are
    normalized.
    """
    stays, masked = transition.stays_masked(), transition.is_masked(z)
    where = {name: (m & batch.mask[name]).nonzero(as_tuple=True) for name, m in masked.items()}
    features = reverse.features(transition.prior.onehot(z), batch.mask, t)
    result = {}
    for name, hidden in where.items():
        example, k = hidden[0], stays[name][hidden]
        f = reverse.read(features, name, hidden)
        reveal = reveal_logit(f[..., -1], reverse.clock.index(t)[example])
        x = batch.codes[name][hidden].expand(len(f), -1)
        surprisal = cross_entropy(f[..., :-1].movedim(-1, 1), x, reduction="none")
        kl = (
            _negentropy(k)
            + _negentropy(1 - k)
            - k * logsigmoid(-reveal)
            + (1 - k) * (surprisal - logsigmoid(reveal))
        )
        result[name] = kl.new_zeros(len(f), len(batch)).index_add(1, example, kl)
    return mixture_kl(result, features.log_weights)


def autoregressive_kl(
    reverse: AutoregressiveReverse,
    batch: Batch,
    transition: MaskingTransition,
    z: Codes,
    t: Tensor,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    r"""``step_kl`` where one element follows another.

    Given what became of the elements before it, of which one draw is taken, the KL of a masked
    element is that of ``unmasking_kl``,

    .. math:: E_{z_s \sim q} \sum_i KL(q(z_s^i | z_t^i, x) \,\|\, p_\theta(z_s^i | z_t, z_s^{<i})).

    The gradient in theta is that of the KL; in phi it lacks that of the draw, so the forward
    process has to be fixed or frozen.
    """
    law = reverse.law(transition.prior.onehot(z), batch.mask, t)
    stays, drawn = transition.stays_masked(), {}
    for name, hidden in law.hidden.items():
        uniform = torch.rand(hidden.shape, generator=generator, device=hidden.device)
        revealed = hidden & (uniform >= stays[name])
        drawn[name] = torch.where(revealed, batch.codes[name], z[name])
    result = {}
    for name, log_p in law.log_probs(drawn).items():
        example, element, _ = law.queue.spots[name]
        k, x = stays[name][example, element], batch.codes[name][example, element]
        log_x = log_p.gather(-1, x[:, None])[:, 0]
        kl = _negentropy(k) + _negentropy(1 - k) - k * log_p[:, -1] - (1 - k) * log_x
        result[name] = kl.new_zeros(len(batch)).index_add(0, example, kl)
    return result


def _negentropy(p: Tensor) -> Tensor:
    """p log p, and 0 with gradient 0 at p = 0."""
    positive = p > 0
    return torch.where(positive, p * torch.where(positive, p, 1.0).log(), 0.0)
