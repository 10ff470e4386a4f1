"""The bound against brute force over all states, and against the exact likelihood."""

import math
from dataclasses import replace

import pytest
import torch
from tiny import (
    BLOCKS,
    build_diffusion,
    exact_bound,
    exact_model,
    exact_step,
    random_batch,
    random_examples,
    row_of,
    single,
)

from molfldd.core.blocks import Batch, SizeDistribution, absorbing_prior
from molfldd.core.bound import categorical_kl, relaxed_step_kl, step_kl
from molfldd.core.diffusion import Diffusion
from molfldd.core.forward import FixedForward, MaskingTransition
from molfldd.core.report import entropy, evaluate_bound
from molfldd.core.reverse import UnmaskingReverse

PROCESSES = [
    ("fixed-uniform", 2),
    ("fixed-absorbing", 3),
    ("free-uniform", 2),
    ("pinned-uniform", 3),
    ("pinned-absorbing", 2),
    ("pinned-independent", 2),
    ("pinned-monotone", 3),
    ("masking", 3),
    ("masking-paced", 2),
    ("masking-unpaced", 3),
    ("mixed", 2),
    ("mixed:jump", 2),
    ("pinned-uniform:jump", 2),
    ("pinned-learned-prior", 2),
]
every_process = pytest.mark.parametrize(("kind", "steps"), PROCESSES)
SIZES = SizeDistribution(torch.tensor([0, 1, 3]))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@every_process
@torch.no_grad()
def test_evaluated_bound_is_the_sum_over_all_states(kind: str, steps: int) -> None:
    """Per step, within 5 standard errors of the exact value, which must be tight."""
    diffusion = build_diffusion(kind, steps, seed=1)
    batch = random_batch(4, sizes=(1, 2))
    exact = torch.stack(
        [
            torch.stack([exact_step(diffusion, single(batch, i), t) for t in range(1, steps + 1)])
            for i in range(len(batch))
        ]
    ).mean(0)
    reports = [
        evaluate_bound(diffusion, [batch.repeat(100)], SIZES, generator(seed)).kl.sum(-1)
        for seed in range(40)
    ]
    found = torch.stack(reports)
    error = found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - exact).abs() <= 5 * error + 1e-5).all()
    assert (error <= 0.02 * exact.sum()).all()


@every_process
@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_bound_is_above_the_exact_likelihood(kind: str, steps: int, seed: int) -> None:
    diffusion = build_diffusion(kind, steps, seed)
    batch = random_batch(6, sizes=(1, 2), seed=seed)
    bounds = exact_bound(diffusion, batch)
    for i, bound in enumerate(bounds):
        states, p = exact_model(diffusion.reverse, diffusion.prior, int(batch.sizes[i]))
        torch.testing.assert_close(p.sum(), torch.tensor(1.0))
        assert bound >= -p[row_of(states, batch, i)].log() - 1e-5
        assert bound < 1e3


@pytest.mark.parametrize("kind", ["masking", "masking:3"])
@torch.no_grad()
def test_bound_is_the_likelihood_where_there_is_only_one_trajectory(kind: str) -> None:
    """One step from all-masked: nothing is latent, so the bound is tight and free of noise."""
    diffusion = build_diffusion(kind, 1)
    batch = random_batch(5, sizes=(1, 2))
    likelihoods = []
    for i in range(len(batch)):
        states, p = exact_model(diffusion.reverse, diffusion.prior, int(batch.sizes[i]))
        likelihoods.append(-p[row_of(states, batch, i)].log())
    report = evaluate_bound(diffusion, [batch], SIZES, generator())
    expected = torch.stack(likelihoods).mean()
    assert float(report.kl.sum()) == pytest.approx(float(expected), rel=1e-5)
    torch.testing.assert_close(exact_bound(diffusion, batch).mean(), expected, rtol=1e-5, atol=0)


@every_process
def test_report_does_not_depend_on_how_examples_are_batched(kind: str, steps: int) -> None:
    """Padding included: sizes 1 alone, or beside sizes 3. Within the noise of z_t."""
    diffusion = build_diffusion(kind, steps)
    small, large = (random_examples(800, sizes=(n,)).batch(torch.arange(800)) for n in (1, 3))
    both = random_batch(2, sizes=(1, 3))
    mixed = Batch(
        {n: torch.cat([pad(small.codes[n], x.shape[1]), large.codes[n]]) for n, x in
         both.codes.items()},
        {n: torch.cat([pad(small.mask[n], x.shape[1]), large.mask[n]]) for n, x in
         both.mask.items()},
        torch.cat([small.sizes, large.sizes]),
    )  # fmt: skip
    sizes = SizeDistribution(torch.tensor([0, 1, 0, 1]))
    apart = evaluate_bound(diffusion, [small, large], sizes, generator(0))
    together = evaluate_bound(diffusion, [mixed], sizes, generator(1))
    assert together.total == pytest.approx(apart.total, rel=0.1)
    torch.testing.assert_close(together.kept, apart.kept, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.entropy, apart.entropy, atol=1e-5, rtol=0)


def pad(x: torch.Tensor, width: int) -> torch.Tensor:
    return torch.nn.functional.pad(x, (0, width - x.shape[1]))


def test_size_term_is_minus_log_p_of_n() -> None:
    diffusion = build_diffusion("masking", 1)
    report = evaluate_bound(diffusion, [random_batch(2, sizes=(1, 2))], SIZES, generator())
    assert report.size == pytest.approx(-(math.log(1 / 4) + math.log(3 / 4)) / 2)
    assert report.total == pytest.approx(float(report.kl.sum()) + report.size)
    unseen = evaluate_bound(diffusion, [random_batch(1, sizes=(3,))], SIZES, generator())
    assert unseen.total == math.inf


@every_process
def test_prior_term_is_zero(kind: str, steps: int) -> None:
    diffusion = build_diffusion(kind, steps)
    assert evaluate_bound(diffusion, [random_batch(6)], SIZES, generator()).prior == 0


def test_kept_and_entropy_describe_the_marginals() -> None:
    diffusion = build_diffusion("fixed-absorbing", 4)
    report = evaluate_bound(diffusion, [random_batch(6)], SIZES, generator())
    masked = torch.tensor([0.25, 0.5, 0.75, 1.0])[:, None].expand(4, 2)
    torch.testing.assert_close(report.kept, 1 - masked)
    torch.testing.assert_close(
        report.entropy, torch.special.entr(masked) + torch.special.entr(1 - masked)
    )


@pytest.mark.parametrize("kind", ["fixed-uniform", "masking"])
def test_information_is_the_mutual_information_of_every_element(kind: str) -> None:
    """Against its definition, H(z_t^i) - H(z_t^i | x), over three examples of one size."""
    diffusion, batch = build_diffusion(kind, 3), random_batch(3, sizes=(2,))
    report = evaluate_bound(diffusion, [single(batch, i) for i in range(3)], SIZES, generator())
    forward = diffusion.forward_process
    for step in range(1, 4):
        t = torch.full((3,), step)
        u_t = forward.marginal(batch, forward.encode(batch), t)
        for block, name in enumerate(report.blocks):
            mutual = entropy(u_t[name].mean(0)) - entropy(u_t[name]).mean(0)
            found = report.information[step - 1, block]
            torch.testing.assert_close(found, mutual.sum().detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(report.information[-1], torch.zeros(2), atol=1e-5, rtol=0)


def test_information_counts_every_element_for_the_examples_that_have_it() -> None:
    """Two sizes at once are as each by itself, weighted by the number of examples."""
    diffusion = build_diffusion("fixed-uniform", 2)
    mixed = random_batch(8, sizes=(2, 3))
    third = mixed.mask["letters"][:, 2]
    report = evaluate_bound(diffusion, [mixed], SIZES, generator())
    u_t = diffusion.forward_process.marginal(mixed, {}, torch.ones(8, dtype=torch.long))["letters"]
    mutual = 0.0
    for place, rows in enumerate([torch.ones_like(third), torch.ones_like(third), third]):
        u = u_t[rows, place]
        mutual += float((entropy(u.mean(0)) - entropy(u).mean()) * rows.sum())
    assert float(report.information[0, 0]) == pytest.approx(mutual / 8, abs=1e-5)


def test_steps_in_use_counts_the_steps_that_carry_something() -> None:
    diffusion = build_diffusion("fixed-uniform", 3)
    report = evaluate_bound(diffusion, [random_batch(6)], SIZES, generator())
    flat, collapsed = (
        replace(report, kl=kl)
        for kl in (torch.ones(3, 2), torch.tensor([[3.0, 3.0], [0.0, 0.01], [0.0, 0.0]]))
    )
    assert (flat.steps_in_use, collapsed.steps_in_use) == (3, 1)


def test_free_marginals_that_leave_the_last_steps_idle_are_noticed() -> None:
    """KL by step as trained on QM9 (docs/ablations), of free marginals and of fixed ones."""
    diffusion = build_diffusion("free-uniform", 10)
    report = evaluate_bound(diffusion, [random_batch(6)], SIZES, generator())
    free = [4.1, 4.4, 4.2, 6.2, 6.6, 0.7, 0.3, 0.2, 0.2, 0.2]
    fixed = [5.4, 4.2, 3.8, 3.3, 2.9, 2.5, 2.0, 1.6, 1.0, 0.4]
    idle = [replace(report, kl=torch.tensor(kl)[:, None]).idle_steps for kl in (free, fixed)]
    assert idle == [[8, 9, 10], []]


def test_report_is_plain_json() -> None:
    diffusion = build_diffusion("masking", 3)
    batch = random_batch(6)
    sizes = SizeDistribution.of(batch.sizes)
    content = evaluate_bound(diffusion, [batch], sizes, generator()).to_json()
    assert set(content["kl"]) == {"letters", "links"}
    assert len(content["kl"]["links"]) == 3
    summed = sum(sum(values) for values in content["kl"].values())
    assert content["bound"] == pytest.approx(summed + content["size"], abs=1e-3)


def test_no_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        evaluate_bound(build_diffusion("masking", 2), [], SIZES, generator())


def test_processes_of_different_lengths_are_refused() -> None:
    whole = build_diffusion("masking", 2)
    with pytest.raises(ValueError, match="3 steps"):
        Diffusion(FixedForward(BLOCKS, absorbing_prior(BLOCKS), 3), whole.reverse)
    assert isinstance(whole.reverse, UnmaskingReverse)


def test_kl_and_entropy_of_known_distributions() -> None:
    q, p = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.5, 0.25])
    assert float(categorical_kl(q, p.log())) == pytest.approx(0.5 * math.log(2))
    assert float(categorical_kl(q, torch.tensor([0.5, 0.5, 0.0]).log())) == 0
    assert float(entropy(q)) == pytest.approx(math.log(2))


@pytest.mark.parametrize("small", [0.0, 1e-37, 1e-39, 1e-44])
def test_kl_has_finite_gradients_at_the_edge_of_float32(small: float) -> None:
    q = torch.tensor([1.0, small], requires_grad=True)
    log_p = torch.tensor([-0.1, -1e9], requires_grad=True)
    categorical_kl(q, log_p).backward()
    assert q.grad is not None
    assert q.grad.isfinite().all()


# Masking by two numbers per element against distributions over all states ----------------------


def masking_problem(kind: str, steps: int) -> tuple[Diffusion, Batch, MaskingTransition]:
    diffusion, batch = build_diffusion(kind, steps, seed=2), random_batch(12, sizes=(1, 2))
    forward = diffusion.forward_process
    t = torch.arange(12) % steps + 1
    transition = forward.transition(batch, forward.encode(batch), t)
    assert isinstance(transition, MaskingTransition)
    return diffusion, batch, transition


every_masking = pytest.mark.parametrize(
    ("kind", "steps"),
    [(k, t) for k in ("masking", "fixed-absorbing", "masking:3") for t in (1, 2, 3)],
)


@every_masking
def test_masking_transition_is_the_dense_one(kind: str, steps: int) -> None:
    diffusion, batch, transition = masking_problem(kind, steps)
    forward, t = diffusion.forward_process, torch.arange(12) % steps + 1
    whole = forward.whole_transition(batch, forward.encode(batch), t)
    for name in batch.codes:
        torch.testing.assert_close(transition.u_s[name], whole.u_s[name])
        torch.testing.assert_close(transition.u_t[name], whole.u_t[name])
    z = transition.draw(generator())
    drawn = whole.draw(generator())
    assert all(torch.equal(z[name], drawn[name]) for name in z)
    hard = diffusion.prior.onehot(z)
    for name, q in transition.posterior(hard).items():
        torch.testing.assert_close(q, whole.posterior(hard)[name])
    states = diffusion.prior.states
    for value in range(min(states(name) for name in z)):
        same = {name: torch.full_like(x, value) for name, x in z.items()}
        for name, p in transition.probability(same).items():
            torch.testing.assert_close(p, whole.probability(same)[name])
    again = transition.repeat(2)
    assert all(torch.equal(again.u_t[name], transition.u_t[name].repeat(2, 1, 1)) for name in z)


@every_masking
def test_unmasking_kl_and_its_gradients_are_the_dense_ones(kind: str, steps: int) -> None:
    diffusion, batch, transition = masking_problem(kind, steps)
    t = torch.arange(12) % steps + 1
    z = transition.draw(generator())
    parameters = list(diffusion.parameters())
    found = step_kl(diffusion, batch, transition, z, t, generator())
    dense = relaxed_step_kl(diffusion, batch, transition, diffusion.prior.onehot(z), t)
    for name, kl in dense.items():
        torch.testing.assert_close(found[name], kl, rtol=1e-4, atol=1e-5)
    gradients = [
        torch.autograd.grad(
            torch.stack(list(each.values())).sum(),
            parameters,
            retain_graph=True,
            allow_unused=True,
        )
        for each in (found, dense)
    ]
    for a, b in zip(*gradients, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.isfinite().all()
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
