r"""How much the values that a step draws depend on one another: what factorizing it costs.

A step of masking reveals some of the masked elements. Drawn independently, as in Eq. (7), their
values cost the sum of their surprisals given z_t; one after another, each given those before it,
they cost less. The difference is their total correlation, which a learned forward process is to
make small. Both are estimated with the same network and without training: revealed one after
another means that the mask probabilities go from p_t to p_s along a straight line,

.. math::
    E \sum_i \frac{p_t^i - p_s^i}{p_t^i} c^i(z_t)
    - E_a \sum_i \frac{p_t^i - p_s^i}{p_a^i} c^i(z_a),
    \qquad p_a = p_s + a (p_t - p_s), \quad a \sim U(0, 1),

with the surprisal c^i(z) = -log v_theta^i(x^i | z) of a masked element, 0 of any other. What an
order that depends on x tells by *which* elements it reveals is not part of it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from molfldd.core.blocks import Batch
from molfldd.core.diffusion import Diffusion
from molfldd.core.forward import MaskingTransition
from molfldd.core.reverse import UnmaskingReverse


@torch.no_grad()
def surprisals(
    diffusion: Diffusion,
    batch: Batch,
    generator: torch.Generator,
    *,
    steps: int | None = None,
    draws: int = 4,
) -> tuple[Tensor, Tensor]:
    """What the values of every step cost, at once and one after another; see the module.

    Args:
        diffusion: Both processes, of masking and unmasking.
        batch: B examples.
        generator: Randomness of z_t and z_a, which are drawn with the same numbers.
        steps: T, one of the process' walks; its first by default.
        draws: Of both.

    Returns:
        Nats per example of each step, (B, T) each; the total correlation is their difference, in
        expectation.

    Raises:
        ValueError: if the processes do more than masking and unmasking, element by element.
    """
    if type(diffusion.reverse) is not UnmaskingReverse or diffusion.reverse.components > 1:
        raise ValueError("the reverse process has to unmask, all elements of a step at once")
    encoding = diffusion.forward_process.encode(batch)
    together, apart = [], []
    for step in diffusion.clock.steps(steps or diffusion.clock.walks[0]):
        t = torch.full_like(batch.sizes, step)
        transition = diffusion.forward_process.transition(batch, encoding, t)
        if not isinstance(transition, MaskingTransition):
            raise ValueError("the forward process has to mask")
        end, inside = [], []
        for draw in range(draws):
            uniform = torch.rand(t.shape, generator=generator, device=t.device)
            root = (draw + uniform) / draws
            state = generator.get_state()
            end.append(
                _surprisal(diffusion, batch, transition, t, torch.ones_like(root), generator)
            )
            generator.set_state(state)
            # a = root^2, da = 2 root d root: at t = 1 the terms grow like 1 / a
            found = _surprisal(diffusion, batch, transition, t, root**2, generator)
            inside.append(2 * root * found)
        together.append(torch.stack(end).mean(0))
        apart.append(torch.stack(inside).mean(0))
    return torch.stack(together, 1), torch.stack(apart, 1)


def _surprisal(
    diffusion: Diffusion,
    batch: Batch,
    step: MaskingTransition,
    t: Tensor,
    a: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """sum_i (p_t - p_s) / p_a c(z_a) for a draw of z_a, (B,); at a = 1 the cost of a step."""
    gap = {name: step.masked_t[name] - p_s for name, p_s in step.masked_s.items()}
    way = {name: p_s + a[:, None] * gap[name] for name, p_s in step.masked_s.items()}
    part = MaskingTransition(step.codes, step.masked_s, way, step.prior)
    z, reverse = part.draw(generator), diffusion.reverse
    nearest = torch.where((a < 0.5) & (reverse.clock.index(t) > 1), t - 1, t)
    features = reverse.features(step.prior.onehot(z), batch.mask, nearest)
    masked, total = part.is_masked(z), torch.zeros_like(a)
    for name in features.shared:
        hidden = masked[name] & batch.mask[name]
        example, x = hidden.nonzero()[:, 0], batch.codes[name][hidden]
        cost = cross_entropy(reverse.read(features, name, hidden)[0, :, :-1], x, reduction="none")
        total = total.index_add(0, example, (gap[name] / way[name])[hidden] * cost)
    return total
