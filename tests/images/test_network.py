"""The patch transformer: shapes, start at zero, and what its output depends on."""

import pytest
import torch

from molfldd.core.blocks import absorbing_prior, masks
from molfldd.errors import UsageError
from molfldd.images.datasets import ImageData
from molfldd.images.domain import Images
from molfldd.images.network import (
    PIXELS,
    Patchify,
    PatchTransformer,
    PatchTransformerConfig,
    Unpatchify,
)

SHAPE = (8, 12)
SMALL = PatchTransformerConfig(patch=2, layers=2, width=16, heads=2, local=4)
DOMAIN = Images(SHAPE, ImageData())


def network(config: PatchTransformerConfig = SMALL, outputs: int = 5) -> PatchTransformer:
    """A network without a zero anywhere."""
    torch.manual_seed(0)
    built = PatchTransformer(config, SHAPE, {PIXELS: 3}, {PIXELS: outputs})
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return built


def values(batch: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(0, 3, (batch, SHAPE[0] * SHAPE[1]), generator=generator)
    return absorbing_prior(DOMAIN.blocks).onehot({PIXELS: codes})


def mask(batch: int = 2) -> dict[str, torch.Tensor]:
    return masks(DOMAIN.blocks, torch.full((batch,), SHAPE[0] * SHAPE[1]))


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_every_pixel_gets_its_channels(patch):
    config = PatchTransformerConfig(patch=patch, layers=1, width=8, heads=2, local=4)
    built = DOMAIN.network(config, {PIXELS: 3}, {PIXELS: 7})
    assert built(values(), mask(), torch.rand(2))[PIXELS].shape == (2, 96, 7)


def test_training_starts_at_zero():
    built = DOMAIN.network(SMALL, {PIXELS: 3}, {PIXELS: 5})
    assert not built(values(), mask(), torch.rand(2))[PIXELS].any()


def test_output_depends_on_time():
    built = network()
    early, late = (built(values(), mask(), torch.full((2,), t))[PIXELS] for t in (0.25, 1.0))
    assert ((early - late).abs().amax(-1) > 1e-6).all()


def test_every_output_depends_on_every_pixel():
    """Also on those of other patches, far away."""
    built, time = network(), torch.full((96,), 0.5)
    base = values(1)[PIXELS].expand(96, -1, -1).clone()
    changed = base.clone()
    pixels = torch.arange(96)
    changed[pixels, pixels] = changed[pixels, pixels].roll(1, -1)
    before = built({PIXELS: base}, mask(96), time)[PIXELS]
    after = built({PIXELS: changed}, mask(96), time)[PIXELS]
    assert ((before - after).abs().amax(-1) > 0).all()


def test_pixels_know_their_place():
    """The same everywhere in, different everywhere out."""
    black = {PIXELS: torch.tensor([1.0, 0.0, 0.0]).expand(1, 96, 3)}
    features = network()(black, mask(1), torch.ones(1))[PIXELS][0]
    assert len(features.unique(dim=0)) == 96


def test_examples_do_not_mix():
    built, time = network(), torch.tensor([0.25, 0.75])
    both = built(values(), mask(), time)[PIXELS]
    alone = built({PIXELS: values()[PIXELS][1:]}, mask(1), time[1:])[PIXELS]
    assert torch.allclose(both[1:], alone, atol=1e-4)


def test_every_parameter_gets_a_gradient():
    built = network()
    built(values(), mask(), torch.rand(2))[PIXELS].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in built.parameters())


@pytest.mark.parametrize("wrong", [{"patch": 0}, {"layers": 0}, {"heads": 3}, {"local": 0}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match=r"at least 1|divisible"):
        PatchTransformerConfig(**wrong)


def test_patch_must_divide_the_image():
    with pytest.raises(UsageError, match=r"'network\.patch': 5 does not divide images of 8 x 12"):
        network(PatchTransformerConfig(patch=5))


PATCHES = [
    (Patchify(16, 128, 4, 4), torch.nn.Conv2d, (8, 16, 28, 28)),
    (Unpatchify(128, 16, 4, 4), torch.nn.ConvTranspose2d, (8, 128, 7, 7)),
]


@pytest.mark.parametrize(("ours", "convolution", "shape"), PATCHES)
@pytest.mark.parametrize("half", [False, True])
def test_patches_are_strided_convolutions_in_every_precision(ours, convolution, shape, half):
    """In bfloat16 too, where the convolution itself is wrong on some processors."""
    theirs = convolution(ours.in_channels, ours.out_channels, ours.kernel_size, ours.stride)
    theirs.load_state_dict(ours.state_dict())
    found = []
    for module, low in ((ours, half), (theirs, False)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            y = module(x)
        y.float().square().sum().backward()
        found.append([y.float(), x.grad, *(p.grad for p in module.parameters())])
        module.zero_grad()
    for mine, expected in zip(*found, strict=True):
        error = (mine - expected).norm() / expected.norm()
        assert error < (0.02 if half else 1e-5)
