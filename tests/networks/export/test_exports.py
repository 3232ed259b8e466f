# SPDX-License-Identifier: Apache-2.0
"""Every method as a function of image and noise: its answer is the network's own, in each format."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from monai_stochseg.distributions import Gaussian
from monai_stochseg.networks.export import SampleExport, SingleAnswer, exportable
from monai_stochseg.networks.export.formats import (
    ExportError,
    export_program,
    write_onnx,
    write_program,
    write_torchscript,
)
from monai_stochseg.networks.nets import (
    BilinearUNet,
    CalibratedAdversarialRefinement,
    DeterministicSampler,
    DropoutUNet,
    FlowSSN,
    HierarchicalProbabilisticUNet,
    Image2ImageVAE,
    IndependentSampler,
    MHeadsUNet,
    MixtureOfStochasticExpertsUNet,
    PHiSeg,
    ProbabilisticUNet,
    RefinementNetwork,
    StochasticSegmentationNetwork,
    ThresholdSampler,
    UNetEnsemble,
)

C, CHANNELS = 3, (2, 4)


def monai_unet(dims: int, out_channels: int = C) -> nn.Module:
    return UNet(dims, 1, out_channels, channels=CHANNELS, strides=(2,), num_res_units=1, norm="BATCH")


def ssn(dims: int, **options: object) -> nn.Module:
    return StochasticSegmentationNetwork(monai_unet(dims, 5), 5, C, rank=2, covariance_init=None, **options)


def car(dims: int, **options: object) -> nn.Module:
    refinement = RefinementNetwork(dims, 1, C, latent_dim=2, channels=CHANNELS, **options)
    return CalibratedAdversarialRefinement(BilinearUNet(dims, 1, C, CHANNELS), refinement)


METHODS: dict[str, Callable[[int], nn.Module]] = {
    "ssn": ssn,
    "ssn_scaled": lambda dims: ssn(dims, temperature=2.0, class_scale=[1, 0.5, 2], rank_scale=[0.5, 3]),
    "ssn_diagonal": lambda dims: ssn(dims, diagonal=True),
    "probunet": lambda dims: ProbabilisticUNet(dims, 1, C, CHANNELS, latent_dim=2),
    "probunet_fixed_prior": lambda dims: ProbabilisticUNet(dims, 1, C, CHANNELS, latent_dim=2, fixed_prior=True),
    "image2image_vae": lambda dims: Image2ImageVAE(dims, 1, C, CHANNELS, latent_dim=2),
    "mose": lambda dims: MixtureOfStochasticExpertsUNet(dims, 1, C, CHANNELS, num_experts=3, latent_dim=2),
    "mose_no_gate": lambda dims: MixtureOfStochasticExpertsUNet(dims, 1, C, CHANNELS, gating_level=None, prior_std=0.0),
    "car": car,
    "car_encoder": lambda dims: car(dims, probabilistic_encoder=True),
    "phiseg": lambda dims: PHiSeg(dims, 1, C, (2, 4, 4), latent_levels=2, latent_dim=2),
    "hprobunet": lambda dims: HierarchicalProbabilisticUNet(dims, 1, C, (2, 4, 4), (1, 2), blocks_per_level=1),
    "flow": lambda dims: FlowSSN(monai_unet(dims), C, flow_channels=(4, 4), num_steps=2),
    "flow_marginal": lambda dims: FlowSSN(monai_unet(dims), C, flow_channels=(4,), num_steps=2, field="marginal"),
    "mheads": lambda dims: MHeadsUNet(dims, 1, C, CHANNELS, num_heads=3),
    "ensemble": lambda dims: UNetEnsemble(dims, 1, C, CHANNELS, num_members=2),
    "threshold": lambda dims: ThresholdSampler(BilinearUNet(dims, 1, C, CHANNELS), order=[0, 2, 1]),
    "independent": lambda dims: IndependentSampler(BilinearUNet(dims, 1, C, CHANNELS)),
    "deterministic": lambda dims: BilinearUNet(dims, 1, C, CHANNELS, "BATCH"),
    "monai": monai_unet,
}

PROGRAMS = [method for method in METHODS if "flow" not in method]


class Inputs(NamedTuple):
    image: torch.Tensor
    noise: torch.Tensor


def inputs(module: SampleExport, dims: int, batch: int = 2, samples: int = 4, size: int = 8) -> Inputs:
    shape = (size, size + 4, size)[:dims]
    generator = torch.Generator().manual_seed(batch + samples)
    image = torch.randn(batch, 1, *shape, generator=generator)
    return Inputs(image, torch.randn(batch, samples, module.noise_size(shape), generator=generator))


@pytest.fixture
def made(method, dims) -> SampleExport:
    torch.manual_seed(0)
    network = METHODS[method](dims)
    for parameter in network.parameters():  # not as it starts, so that noise makes a difference
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=0.6, std=0.3)
        else:  # logits of tens: of thousands float32 itself loses the fourth digit of a probability
            fan_in = parameter[0].numel()
            nn.init.normal_(parameter, mean=0.2 / fan_in, std=fan_in**-0.5)
    return exportable(network)


def close(outputs, expected, tolerance: float) -> None:
    for output, wanted in zip(outputs, expected, strict=True):
        if wanted.dtype == torch.uint8:
            assert (torch.as_tensor(output) != wanted).float().mean() < 0.01  # two classes may be as probable
        else:
            torch.testing.assert_close(torch.as_tensor(output), wanted, atol=tolerance, rtol=0)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_torchscript(made, dims, tmp_path) -> None:
    """Traced from one item, and right for any batch, number of samples and size."""
    write_torchscript(made, tmp_path / "model.ts", *inputs(made, dims), {"name": "tiny"})
    files = {"metadata.json": ""}
    traced = torch.jit.load(str(tmp_path / "model.ts"), _extra_files=files)
    assert b'"name": "tiny"' in files["metadata.json"]
    for given in (inputs(made, dims), inputs(made, dims, 1, 1), inputs(made, dims, 3, 5, 12)):
        with torch.no_grad():
            close(traced(*given), made(*given), 1e-5)


def _exported(made: SampleExport, dims: int, folder: Path) -> None:
    program = export_program(made, *inputs(made, dims))
    write_program(program, folder / "model.pt2", {"name": "tiny"})
    write_onnx(program, folder / "model.onnx", {"name": "tiny"})
    loaded = torch.export.load(folder / "model.pt2").module()
    session = pytest.importorskip("onnxruntime").InferenceSession(folder / "model.onnx")
    assert session.get_modelmeta().custom_metadata_map["metadata"] == '{"name": "tiny"}'
    assert [each.name for each in session.get_outputs()] == ["probabilities", "samples", "entropy"]
    for given in (inputs(made, dims), inputs(made, dims, 1, 1), inputs(made, dims, 3, 5, 12)):
        with torch.no_grad():
            expected = made(*given)
            close(loaded(*given), expected, 1e-5)
        arrays = {"image": given.image.numpy(), "noise": given.noise.numpy()}
        close(session.run(None, arrays), expected, 1e-4)


def test_program_and_onnx(tmp_path) -> None:
    """A small network: exporters take most of a minute for larger ones."""
    pytest.importorskip("onnxscript")
    _exported(exportable(ThresholdSampler(nn.Conv2d(1, C, 3, padding=1))), 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "dims"), [(method, dims) for method in PROGRAMS for dims in (2, 3)])
def test_program_and_onnx_of_each(made, dims, tmp_path) -> None:
    pytest.importorskip("onnxscript")
    _exported(made, dims, tmp_path)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_outputs(made, dims) -> None:
    image, noise = inputs(made, dims)
    with torch.no_grad():
        logits = made.sample_logits(image, noise)
        probabilities, samples, entropy = made(image, noise)
    assert logits.shape == (2, 4, C, *image.shape[2:])
    torch.testing.assert_close(probabilities, logits.softmax(2).mean(1))
    assert torch.equal(samples, logits.argmax(2).to(torch.uint8))
    torch.testing.assert_close(entropy, torch.special.entr(probabilities).sum(1, keepdim=True))
    assert made.draw_noise(image, 4).shape == noise.shape
    voxels = image[0, 0].numel()
    assert noise.shape[2] == eval(made.noise_formula, {"voxels": voxels})


@pytest.mark.parametrize("dims", [2])
@pytest.mark.parametrize("method", ["ssn", "ssn_scaled", "ssn_diagonal"])
def test_samples_of_a_normal_are_its_own(made, dims, monkeypatch) -> None:
    image, noise = inputs(made, dims)
    e1, e2 = noise[:, :, :2], noise[:, :, 2:].reshape(2, 4, C, *image.shape[2:])
    drawn = iter([e1.transpose(0, 1), *e2.flatten(3)])  # of all items, then of the voxels of each item: one block
    monkeypatch.setattr(
        "monai_stochseg.distributions.low_rank_blocks.fill_noise", lambda _, out: out.copy_(next(drawn))
    )
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    with torch.no_grad():
        torch.testing.assert_close(
            made.sample_logits(image, noise), made.network.predictive(image).sample_logits(4), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("dims", [2])
@pytest.mark.parametrize("method", ["probunet", "probunet_fixed_prior", "image2image_vae", "car", "car_encoder"])
def test_samples_of_a_latent_are_its_own(made, dims) -> None:
    image, noise = inputs(made, dims)
    with torch.no_grad():
        distribution = made.network.predictive(image)
        latents = distribution.mean[:, None] + distribution.log_std.exp()[:, None] * noise
        torch.testing.assert_close(made.sample_logits(image, noise), distribution.decode(latents), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", ["phiseg", "hprobunet"])
def test_samples_of_a_hierarchy_are_its_own(made, dims) -> None:
    image, noise = inputs(made, dims)
    grid = noise.reshape(2, 4, -1, *image.shape[2:])  # sizes 8 and 12, of which the levels have each 2nd and 4th voxel
    starts = [sum(made.latent_dims[:level]) for level in range(3)]
    seen = []

    def drawn(level: int, normal: Gaussian, sample: int) -> torch.Tensor:
        stride = image.shape[-1] // normal.mean.shape[-1]
        seen.append(stride)
        every = (slice(None), sample, slice(starts[level], starts[level + 1]), *[slice(None, None, stride)] * dims)
        return normal.mean + normal.log_std.exp() * grid[every]

    with torch.no_grad():
        decode = made.network.predictive(image)._decoder
        expected = [decode(lambda level, normal, s=s: drawn(level, normal, s)) for s in range(4)]
        torch.testing.assert_close(made.sample_logits(image, noise), torch.stack(expected, 1), atol=1e-5, rtol=1e-5)
    assert max(seen) == 4
    assert not torch.allclose(expected[0], expected[1]), "the network does not look at its latents"


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", ["flow", "flow_marginal"])
def test_samples_of_a_flow_are_its_own(made, dims) -> None:
    image, noise = inputs(made, dims)
    with torch.no_grad():
        expected = made.network.predictive(image).decode(noise.reshape(2, 4, C, *image.shape[2:]))
        # probabilities: the logarithm of a small one shows its rounding
        torch.testing.assert_close(made.sample_logits(image, noise).exp(), expected.exp(), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(expected[:, 0], expected[:, 1])


@pytest.mark.parametrize("dims", [2])
@pytest.mark.parametrize("method", ["mose", "mose_no_gate"])
def test_samples_of_experts_are_their_own(made, dims, monkeypatch) -> None:
    image, noise = inputs(made, dims)
    network = made.network
    network.representation = "standard"
    uniform = torch.special.ndtr(noise[:, :, 0])
    with torch.no_grad():
        gate = network.gate(image)
        bounds = gate.cumsum(1)
        experts = [[int((u >= b[:-1]).sum()) for u in row] for row, b in zip(uniform, bounds, strict=True)]
        drawn = iter(torch.tensor(experts).unbind(1))
        noises = iter(noise[:, :, 1:].unbind(1))
        room = "monai_stochseg.distributions.expert_mixture"
        monkeypatch.setattr(f"{room}.torch.multinomial", lambda *args, **kwargs: next(drawn)[:, None])
        monkeypatch.setattr(f"{room}.draw_latent", lambda mean, log_std, _: mean + log_std.exp() * next(noises))
        expected = network.predictive(image).sample_logits(4)
        torch.testing.assert_close(made.sample_logits(image, noise), expected, atol=1e-5, rtol=1e-5)
    assert len({expert for row in experts for expert in row}) > 1
    assert not torch.equal(expected[:, 0], expected[:, 1]), "the network does not look at its latent"


@pytest.mark.parametrize(("method", "dims"), [("mheads", 2), ("ensemble", 3)])
def test_hypotheses_are_drawn_without_replacement(made, dims) -> None:
    image = inputs(made, dims).image
    noise = torch.tensor([[[3.0, 1, 2], [0, 0, 0], [0, 0, 0], [1, 3, 2]]]).expand(2, -1, -1)
    noise = noise[:, :, : made.num_hypotheses]
    order = {3: [1, 2, 0, 0], 2: [1, 0, 0, 1]}[made.num_hypotheses]
    with torch.no_grad():
        assert torch.equal(made.sample_logits(image, noise), made.network(image)[:, order])


@pytest.mark.parametrize("dims", [2])
@pytest.mark.parametrize("method", ["threshold", "independent"])
def test_samples_of_marginals_are_their_own(made, dims, monkeypatch) -> None:
    image, noise = inputs(made, dims)
    shape = (2, 1, *image.shape[2:]) if noise.shape[2] > 1 else (2, 1, 1, 1)
    drawn = iter(torch.special.ndtr(noise).unbind(1))
    monkeypatch.setattr("monai_stochseg.distributions.marginal.draw_uniform", lambda *args: next(drawn).reshape(shape))
    with torch.no_grad():
        expected = made.network.predictive(image).sample_logits(4)
        assert torch.equal(made.sample_logits(image, noise).argmax(2), expected.argmax(2))
        assert torch.equal(made.sample_logits(image, noise).softmax(2), expected.softmax(2))


def test_refuses() -> None:
    with pytest.raises(ValueError, match="network DropoutUNet draws its samples inside"):
        exportable(DropoutUNet(2, 1, C, (2, 4, 4)))
    with pytest.raises(ValueError, match="solver must be 'euler' to be exported, got 'dopri5'"):
        exportable(FlowSSN(monai_unet(2), C, solver="dopri5"))
    with pytest.raises(TypeError, match="network must be a module, got str"):
        exportable("model.ts")
    module = exportable(monai_unet(2))
    image = torch.zeros(2, 1, 8, 8)
    with pytest.raises(ValueError, match=r"noise must be \[B, N, K\] with the B of image"):
        module(image, torch.zeros(1, 3, 1))
    with pytest.raises(ValueError, match=r"noise must have K=1 numbers for each sample .* got \(2, 3, 2\)"):
        module(image, torch.zeros(2, 3, 2))
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        module.draw_noise(image, 0)


def test_a_flow_is_torchscript_alone() -> None:
    module = exportable(METHODS["flow"](2))
    with pytest.raises(ExportError, match=r"^FlowSSN cannot be written as a program .*take the format ts"):
        export_program(module, *inputs(module, 2))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_single_answer_is_scripted_by_its_trace(dims) -> None:
    network = METHODS["probunet"](dims).eval()
    with pytest.raises(ValueError, match=r"^ProbabilisticUNet cannot be scripted, its distribution is Python: give S"):
        torch.jit.script(SingleAnswer(network))
    answer = SingleAnswer(network, [1, 1, 8, 12, 8][: 2 + dims]).eval()
    scripted = torch.jit.script(answer)
    image = torch.randn(3, 1, *(12, 8, 16)[:dims])
    with torch.no_grad():
        torch.testing.assert_close(scripted(image), answer(image))
    assert answer.state_dict().keys() == network.state_dict().keys()


class _Peeks(nn.Module):
    """What it does depends on a voxel's value, which no format can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, C, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) if x.sum() > 0 else self.conv(-x)


class _LeavesTorch(nn.Module):
    """A tracer sees a constant."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.from_numpy(x.numpy()), -x, 2 * x], 1)


@pytest.mark.parametrize("backbone", [_Peeks, _LeavesTorch])
def test_a_backbone_that_cannot_be_traced_is_one_line(backbone, tmp_path) -> None:
    """And leaves no file: it would give a wrong answer without a word."""
    module = exportable(backbone())
    message = rf"^{backbone.__name__} cannot be written as TorchScript: its answer to other voxels [^\n]*$"
    with pytest.raises(ExportError, match=message):
        write_torchscript(module, tmp_path / "model.ts", torch.zeros(2, 1, 8, 12), torch.zeros(2, 3, 1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("backbone", [_Peeks, _LeavesTorch])
def test_a_single_answer_with_another_trace_is_refused(backbone) -> None:
    answer = SingleAnswer(DeterministicSampler(backbone()), [1, 1, 8, 12]).eval()
    with pytest.raises(ValueError, match="its answer to other voxels"):
        torch.jit.script(answer)


def test_a_backbone_that_cannot_be_exported_is_one_line() -> None:
    if "prefer_deferred_runtime_asserts_over_guards" not in inspect.signature(torch.export.export).parameters:
        with pytest.raises(ExportError, match="cannot leave the sizes open"):
            export_program(exportable(_Peeks()), *inputs(exportable(_Peeks()), 2))
        return
    module = exportable(_Peeks())
    with pytest.raises(ExportError, match=r"^_Peeks cannot be written as a program of torch.export: .*data-dependent"):
        export_program(module, *inputs(module, 2))
