"""Every forward process with random networks: boundaries, marginals, consistency, pace, padding."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import (
    BLOCKS,
    FORWARD,
    LEARNED,
    build_forward,
    network_factory,
    random_batch,
    single,
)
from torch import Tensor

from molfldd.core.blocks import Batch, absorbing_prior, uniform_prior
from molfldd.core.forward import FixedForward, ForwardProcess, MaskingForward, PinnedForward
from molfldd.core.forward.base import at_step
from molfldd.core.forward.masking import solve_offset

STEPS = (1, 2, 3, 7)
every_process = pytest.mark.parametrize("kind", FORWARD)
every_length = pytest.mark.parametrize("steps", STEPS)


def marginals(process: ForwardProcess, batch: Batch, t: int) -> dict[str, Tensor]:
    times = torch.full((len(batch),), t)
    return process.marginal(batch, process.encode(batch), times)


@every_process
@every_length
def test_boundaries_are_exact(kind: str, steps: int) -> None:
    process, batch = build_forward(kind, steps), random_batch(6)
    start, end = marginals(process, batch, 0), marginals(process, batch, steps)
    for name, onehot in process.prior.onehot(batch.codes).items():
        assert torch.equal(start[name], onehot)
        assert torch.equal(end[name], process.prior.probs[name].expand_as(onehot))


@every_process
@every_length
def test_marginals_are_distributions(kind: str, steps: int) -> None:
    process, batch = build_forward(kind, steps), random_batch(6)
    for t in range(steps + 1):
        for u in marginals(process, batch, t).values():
            assert (u >= 0).all()
            torch.testing.assert_close(u.sum(-1), torch.ones(u.shape[:-1]), atol=2e-6, rtol=0)


@every_process
@every_length
def test_posterior_leads_from_u_t_back_to_u_s(kind: str, steps: int) -> None:
    process, batch = build_forward(kind, steps), random_batch(6)
    encoding = process.encode(batch)
    for t in range(1, steps + 1):
        transition = process.transition(batch, encoding, torch.full((6,), t))
        before = marginals(process, batch, t - 1)
        for name, u_t in transition.u_t.items():
            states = u_t.shape[-1]
            summed = torch.zeros_like(u_t)
            for k in range(states):
                hard = torch.nn.functional.one_hot(torch.tensor(k), states).float()
                q = transition.couplings[name].posterior(hard.expand_as(u_t))
                assert (q >= 0).all()
                sums = q.sum(-1)[u_t[..., k] > 1e-3]
                torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-3, rtol=0)
                summed = summed + u_t[..., k : k + 1] * q
            torch.testing.assert_close(summed, before[name], atol=2e-6, rtol=0)
            assert torch.equal(transition.u_s[name], before[name])


@pytest.mark.parametrize("kind", LEARNED)
def test_learned_marginals_depend_on_the_whole_example(kind: str) -> None:
    """Otherwise the tests here would test a conventional process."""
    process, batch = build_forward(kind, 4), random_batch(1, sizes=(3,))
    changed = Batch(
        {**batch.codes, "letters": (batch.codes["letters"] + torch.tensor([[0, 0, 1]])) % 3},
        batch.mask,
        batch.sizes,
    )
    one, other = (marginals(process, b, 2)["letters"][:, 0] for b in (batch, changed))
    assert (one - other).abs().max() > 1e-3


@every_process
def test_examples_at_different_steps_do_not_mix(kind: str) -> None:
    process, batch = build_forward(kind, 5), random_batch(6)
    t = torch.arange(6)
    together = process.marginal(batch, process.encode(batch), t)
    for step in range(6):
        alone = marginals(process, batch, step)
        for name, u in together.items():
            torch.testing.assert_close(u[step], alone[name][step])


def test_every_step_has_features_of_its_own() -> None:
    features = torch.arange(2 * 3 * 8.0).view(2, 3, 8)  # T = 5: four interior steps of 2 channels
    found = at_step(features, torch.tensor([1, 4]), 5)
    assert torch.equal(found, torch.stack([features[0, :, :2], features[1, :, 6:]]))


@every_process
def test_padding_changes_nothing(kind: str) -> None:
    process, batch = build_forward(kind, 4), random_batch(6)
    dirty = Batch(
        {name: torch.where(m, batch.codes[name], 1) for name, m in batch.mask.items()},
        batch.mask,
        batch.sizes,
    )
    for t in range(5):
        padded = marginals(process, dirty, t)
        for i in range(len(batch)):
            for name, u in marginals(process, single(batch, i), t).items():
                torch.testing.assert_close(padded[name][i, : u.shape[1]], u[0])


@pytest.mark.parametrize("kind", LEARNED)
@every_length
def test_gradients_are_finite(kind: str, steps: int) -> None:
    process, batch = build_forward(kind, steps), random_batch(6)
    transition = process.transition(batch, process.encode(batch), torch.arange(6) % steps + 1)
    z = {name: torch.eye(u.shape[-1])[u.argmax(-1)] for name, u in transition.u_t.items()}
    loss = sum(q.square().sum() for q in transition.posterior(z).values())
    loss = loss + sum(u.square().sum() for u in transition.u_s.values())
    loss.backward()
    for parameter in process.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    assert (steps == 1) == all((p.grad == 0).all() for p in process.parameters())


def test_fixed_process_is_the_linear_mixture() -> None:
    process, batch = FixedForward(BLOCKS, uniform_prior(BLOCKS), 4), random_batch(3)
    u = marginals(process, batch, 1)["letters"]
    kept = u.gather(-1, batch.codes["letters"][..., None])
    torch.testing.assert_close(kept, torch.full_like(kept, 0.75 + 0.25 / 3))


def test_pin_bounds_what_the_network_can_do() -> None:
    process, batch = build_forward("pinned-uniform", 4, scale=50.0), random_batch(6)
    for t in (1, 2, 3):
        u = marginals(process, batch, t)["letters"]
        of_x = u.gather(-1, batch.codes["letters"][..., None])
        assert (of_x >= (1 - t / 4) ** 2 + (t / 4) ** 2 / 3 - 1e-6).all()
        assert (u >= (t / 4) ** 2 / 3 - 1e-6).all()


@pytest.mark.parametrize("steps", [5, 7, 9, 10, 11])
def test_the_tightest_pin_leaves_no_probability_below_zero(steps: int) -> None:
    process = PinnedForward(BLOCKS, uniform_prior(BLOCKS), steps, network_factory(), power=1.0)
    batch = random_batch(6)
    for t in range(1, steps):
        for u in marginals(process, batch, t).values():
            assert (u >= 0).all()
            torch.testing.assert_close(u.sum(-1), torch.ones(u.shape[:-1]))


def test_impossible_processes_are_refused() -> None:
    with pytest.raises(ValueError, match="steps must be at least 1"):
        FixedForward(BLOCKS, uniform_prior(BLOCKS), 0)
    with pytest.raises(ValueError, match="absorbing"):
        MaskingForward(BLOCKS, uniform_prior(BLOCKS), 2, lambda inputs, outputs: torch.nn.Module())
    with pytest.raises(ValueError, match="at least 1"):
        PinnedForward(
            BLOCKS, absorbing_prior(BLOCKS), 2, lambda inputs, outputs: torch.nn.Module(), 0.5
        )


# The pace of masking --------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("steps", [2, 3, 10])
@pytest.mark.parametrize("kind", ["masking", "masking-paced"])
def test_masking_keeps_its_pace_for_every_example(kind: str, steps: int, scale: float) -> None:
    process, batch = build_forward(kind, steps, scale=scale), random_batch(9)
    assert isinstance(process, MaskingForward)
    pace = process.pace().detach()
    for t in range(1, steps):
        u = marginals(process, batch, t)
        masked = torch.cat([u[name][..., -1] for name in ("letters", "links")], -1)
        valid = torch.cat([batch.mask[name] for name in ("letters", "links")], -1)
        mean = torch.where(valid, masked, 0.0).sum(-1) / valid.sum(-1)
        torch.testing.assert_close(mean, pace[t - 1].expand(9), atol=2e-6, rtol=0)


def test_pace_is_even_or_learned_with_an_even_share() -> None:
    even, learned = build_forward("masking", 5), build_forward("masking-paced", 5)
    assert isinstance(even, MaskingForward)
    assert isinstance(learned, MaskingForward)
    torch.testing.assert_close(even.pace(), torch.arange(1, 6) / 5)
    torch.testing.assert_close(learned.pace()[-1], torch.tensor(1.0))
    increments = learned.pace().diff(prepend=torch.zeros(1))
    assert (increments >= 0.3 / 5).all()
    assert increments[-1] > 2 * increments[0]


@pytest.mark.parametrize("even", [0.0, 1.1, -1.0, float("nan")])
def test_impossible_pace_is_refused(even: float) -> None:
    with pytest.raises(ValueError, match="even share"):
        MaskingForward(
            BLOCKS, absorbing_prior(BLOCKS), 2, lambda inputs, outputs: torch.nn.Module(), even
        )


def test_without_a_pace_some_examples_are_masked_earlier_than_others() -> None:
    process, batch = build_forward("masking-unpaced", 4), random_batch(9, sizes=(3,))
    masked = torch.cat([u[..., -1] for u in marginals(process, batch, 2).values()], -1).mean(-1)
    assert masked.max() - masked.min() > 0.1


@pytest.mark.parametrize("kind", ["masking", "masking-unpaced"])
def test_masking_never_unmasks_as_time_goes_on(kind: str) -> None:
    process, batch = build_forward(kind, 6), random_batch(6)
    for name in ("letters", "links"):
        masked = torch.stack([marginals(process, batch, t)[name][..., -1] for t in range(7)])
        assert (masked.diff(dim=0)[:, batch.mask[name]] > 0).all()


def test_mixed_marginals_change_values_within_their_share() -> None:
    process, batch = build_forward("mixed", 5, scale=3.0), random_batch(6)
    seen = 0.0
    for t in range(1, 5):
        for name, u in marginals(process, batch, t).items():
            real = batch.mask[name]
            same = u.gather(-1, batch.codes[name].unsqueeze(-1)).squeeze(-1)
            changed = (1 - same - u[..., -1])[real] / (1 - u[..., -1])[real].clamp(min=1e-4)
            assert (changed <= 0.4 * t / 5 + 1e-3).all()
            seen = max(seen, float(changed.detach().max()))
    assert seen > 0.1


# The prior ------------------------------------------------------------------------------------


def test_a_learned_prior_starts_where_it_is_put_and_is_where_the_process_ends() -> None:
    process, batch = build_forward("pinned-learned-prior", 3), random_batch(4)
    torch.testing.assert_close(process.prior.probs["links"], torch.tensor([1 / 3, 2 / 3]))
    with torch.no_grad():
        process.prior_logits["links"].copy_(torch.tensor([2.0, -1.0]))
    end = marginals(process, batch, 3)["links"]
    torch.testing.assert_close(end[0, 0], torch.tensor([2.0, -1.0]).softmax(-1))


def test_a_learned_prior_gets_a_gradient_and_a_given_one_is_no_parameter() -> None:
    process, batch = build_forward("pinned-learned-prior", 3), random_batch(4)
    u = process.marginal(batch, process.encode(batch), torch.full((4,), 3))
    u["letters"][..., 0].sum().backward()
    assert process.prior_logits["letters"].grad is not None
    assert process.prior_logits["letters"].grad.norm() > 0
    given = build_forward("pinned-uniform", 3)
    assert not any("prior" in name for name, _ in given.named_parameters())


scores = st.lists(st.floats(-6, 6), min_size=1, max_size=7)


@given(scores, st.floats(0.02, 0.98))
def test_offset_solves_its_equation(values: list[float], mean: float) -> None:
    s = torch.tensor([[*values, 99.0]], dtype=torch.float64)
    mask = torch.ones_like(s, dtype=torch.bool)
    mask[:, -1] = False
    b = solve_offset(s, mask, torch.tensor([mean], dtype=torch.float64))
    solved = torch.sigmoid(s[:, :-1] + b).mean()
    torch.testing.assert_close(float(solved), mean, atol=1e-7, rtol=0)


@given(scores, st.floats(0.05, 0.95))
def test_offset_has_the_implicit_derivative(values: list[float], mean: float) -> None:
    """db/ds_i = - p_i (1 - p_i) / sum_j p_j (1 - p_j), and the same by finite differences."""
    s = torch.tensor([[*values, -50.0]], dtype=torch.float64, requires_grad=True)
    mask = torch.ones_like(s, dtype=torch.bool)
    mask[:, -1] = False
    target = torch.tensor([mean], dtype=torch.float64)
    b = solve_offset(s, mask, target, iterations=60)
    (gradient,) = torch.autograd.grad(b.sum(), s)
    p = torch.sigmoid(s + b).detach()
    slopes = torch.where(mask, p * (1 - p), 0.0)
    torch.testing.assert_close(gradient, -slopes / slopes.sum(), atol=1e-5, rtol=1e-4)
    h = 1e-4
    for i in range(len(values)):
        step = torch.zeros_like(s)
        step[0, i] = h
        up, down = (
            solve_offset((s + sign * step).detach(), mask, target, iterations=60)
            for sign in (1, -1)
        )
        torch.testing.assert_close((up - down)[0] / (2 * h), gradient[0, i], atol=1e-4, rtol=1e-3)
