"""DNA sequences as a domain of their own: one sequence per line, letters A, C, G, T."""

from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import nn

from molfldd.cli.main import run
from molfldd.core.blocks import Block, Examples
from molfldd.domain import DOMAINS, Data, Domain
from molfldd.nn.layers import TimeEmbedding, zero_linear


@dataclass(frozen=True)
class File:
    path: str


@dataclass(frozen=True)
class Size:
    width: int = 64
    layers: int = 4


class Convolutions(nn.Module):
    def __init__(self, size, inputs, outputs):
        super().__init__()
        self.enter, self.time = nn.Linear(inputs, size.width), TimeEmbedding(size.width)
        convolution = lambda: nn.Conv1d(size.width, size.width, 7, padding=3)  # noqa: E731
        self.layers = nn.ModuleList(convolution() for _ in range(size.layers))
        self.leave = zero_linear(size.width, outputs)

    def forward(self, values, mask, time):
        exists = mask["bases"][..., None]
        x = self.enter(values["bases"]) + self.time(time)[:, None]
        for layer in self.layers:
            x = x + layer(torch.relu(x * exists).transpose(1, 2)).transpose(1, 2)
        return {"bases": self.leave(x)}


@dataclass(frozen=True)
class Dna(Domain):
    name, plural, DataConfig, NetworkConfig = "dna", "sequences", File, Size
    blocks = (Block("bases", 4, torch.Tensor.clone),)

    @classmethod
    def load(cls, config):
        lines = Path(config.path).read_text().split()
        sizes = torch.tensor([len(line) for line in lines])
        rows = [torch.tensor(["ACGT".index(base) for base in line]) for line in lines]
        codes = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        order = torch.randperm(len(lines), generator=torch.Generator().manual_seed(0))
        test, train = order.split([len(lines) // 10 + 1, len(lines) - len(lines) // 10 - 1])
        parts = [Examples(cls.blocks, {"bases": codes[i]}, sizes[i]) for i in (train, test)]
        return Data(cls(), *parts, sha256("".join(lines).encode()).hexdigest())

    def network(self, config, inputs, outputs):
        return Convolutions(config, inputs["bases"], outputs["bases"])

    def decode(self, codes, sizes):
        rows = codes["bases"].tolist()
        return ["".join("ACGT"[i] for i in r[:n]) for r, n in zip(rows, sizes, strict=True)]

    def quality(self, decoded):
        bases = "".join(decoded)
        return {"gc": (bases.count("G") + bases.count("C")) / len(bases)}

    def to_json(self):
        return asdict(self)

    @classmethod
    def from_json(cls, content):
        return cls(**content)


DOMAINS["dna"] = "dna:Dna"

if __name__ == "__main__":
    run()
