"""A training loop of one's own: the core without domain, recipe, engine or command line."""

import torch
from dna import Convolutions, Size
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from molfldd.core.blocks import Block, Examples, SizeDistribution, absorbing_prior
from molfldd.core.diffusion import Diffusion
from molfldd.core.estimators import ControlVariate, Term
from molfldd.core.forward import MaskingForward
from molfldd.core.report import evaluate_bound
from molfldd.core.reverse import UnmaskingReverse
from molfldd.core.sampling import Sampler

STEPS, ITERATIONS, BATCH = 10, 300, 64


def network(inputs, outputs):
    """One for each process; see molfldd.core.network."""
    return Convolutions(Size(), inputs["bases"], outputs["bases"])


# GATTACA over and over, from any place on, of 7 to 28 letters: codes (N, 28) and sizes (N,)
torch.manual_seed(0)
motif = torch.tensor(["ACGT".index(base) for base in "GATTACA" * 5])
sizes = torch.randint(7, 29, (600,))
codes = torch.stack([motif[i : i + 28] for i in torch.randint(7, (600,))])
blocks = (Block("bases", 4, torch.Tensor.clone),)
train = Examples(blocks, {"bases": codes[:500]}, sizes[:500])
held_out = Examples(blocks, {"bases": codes[500:]}, sizes[500:])

prior = absorbing_prior(blocks)
diffusion = Diffusion(
    MaskingForward(blocks, prior, STEPS, network), UnmaskingReverse(blocks, prior, STEPS, network)
)
estimator = ControlVariate(samples=1).build(diffusion, train.sizes)
average = AveragedModel(diffusion.reverse, multi_avg_fn=get_ema_multi_avg_fn(0.97))
optimizer = torch.optim.AdamW(
    [
        {"params": diffusion.forward_process.parameters(), "lr": 3e-4},
        {"params": diffusion.reverse.parameters(), "lr": 2e-3},
        {"params": estimator.parameters(), "lr": 1e-2},
    ]
)
generator = torch.Generator().manual_seed(0)
for i in range(ITERATIONS):
    batch = train.batch(torch.randint(len(train), (BATCH,), generator=generator))
    t = torch.randint(1, STEPS + 1, (BATCH,), generator=generator)
    estimate = estimator(Term.of(diffusion, batch, t), generator, progress=i / ITERATIONS)
    optimizer.zero_grad()
    estimate.loss.backward()
    for process in (diffusion.forward_process, diffusion.reverse):
        torch.nn.utils.clip_grad_norm_(process.parameters(), 10.0)
    optimizer.step()
    average.update_parameters(diffusion.reverse)

averaged = Diffusion(diffusion.forward_process, average.module)
p_n = SizeDistribution.of(train.sizes)
report = evaluate_bound(averaged, [held_out.batch(torch.arange(100))], p_n, generator)
print(f"bound {report.total:.2f} nats per example, of which {report.size:.2f} for its size")
samples = Sampler(averaged.reverse, averaged.prior, p_n).sample(0, range(20))
for row, size in zip(samples.codes["bases"].tolist(), samples.sizes.tolist(), strict=True):
    print("".join("ACGT"[code] for code in row[:size]))
