"""Scores of generated molecules, never without the protocol that they depend on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rdkit import Chem, rdBase

from molfldd.errors import UsageError
from molfldd.metrics import Statistics, frechet_distance
from molfldd.molecules import metrics
from molfldd.molecules.fcd import (
    FCD_TORCH_VERSION,
    content_hash,
    fcd,
    reference_statistics,
    statistics,
)
from molfldd.report import Comparison, Report, Score, share

SCORES = {
    "valid": share("of all: sanitizes as it is, one fragment"),
    "valid_fragment": share("of all: the largest fragment is valid"),
    "valid_gdss": share("of all: valences only, GDSS charge rule, fragments allowed"),
    "connected": share("of all: one fragment, valid or not"),
    "unique": share("different ones, of the valid"),
    "unique_of_all": share("different valid ones, of all"),
    "novel": share("not in the training set, of the different ones"),
    "novel_of_all": share("different and not in the training set, of all"),
    "fcd": Score("valid ones, repetitions kept, against the reference as it is"),
    "fcd_nostereo": Score("the same, against the reference without stereochemistry"),
}
"""Shares, and Fréchet ChemNet distances.

None: nothing to compute it from. `unique` without a valid molecule; `novel` without training
molecules; `fcd` without a reference or with fewer than two valid molecules; `fcd_nostereo` also
with a reference that has no stereochemistry.
"""


@dataclass(frozen=True)
class Protocol:
    """What scores depend on: the sets, the treatment of molecules and the programs.

    `reference_sha256` is `molfldd.molecules.fcd.content_hash` of the reference SMILES.
    """

    samples: int
    training: int | None
    reference: int | None
    reference_sha256: str | None
    reference_stereo: bool | None
    rdkit: str = rdBase.rdkitVersion
    fcd_torch: str = FCD_TORCH_VERSION
    correction: str = "none"
    samples_stereo: str = "removed"

    def lines(self) -> list[str]:
        """The protocol in words, for below a table."""
        chemistry = f"correction {self.correction}, stereochemistry {self.samples_stereo}"
        programs = f"RDKit {self.rdkit}, fcd-torch {self.fcd_torch}"
        return [
            f"{self.samples:,} samples, {chemistry}; {programs}",
            *([] if self.training is None else [f"{self.training:,} training molecules"]),
            *([] if self.reference is None else [self._reference_line()]),
        ]

    def _reference_line(self) -> str:
        stereo = "with" if self.reference_stereo else "without"
        return (
            f"{self.reference:,} reference molecules {stereo} stereochemistry, "
            f"sha256 {self.reference_sha256}"
        )


def evaluate(draws: Iterable[Sequence[Chem.Mol | None]], comparison: Comparison) -> Report:
    """Scores of generated molecules, one list per sampling seed and all of the same length.

    Those that are not valid stay in every denominator of all. The reference comes first: if it
    cannot be used, nothing is drawn in vain.

    Args:
        draws: Molecules, perhaps unsanitized and in several fragments; None stands for one that
            could not be read.
        comparison: SMILES for the FCD as they are (None leaves it out, which takes most of the
            time), and canonical SMILES for novelty, with or without stereochemistry.

    Raises:
        UsageError: without molecules.
        MolflddError: if the reference cannot be used, see `molfldd.molecules.fcd.fcd`.
    """
    reference, training = comparison.reference, comparison.training
    if reference is not None:
        reference_statistics(reference)
    runs, samples = [], 0
    for molecules in draws:
        samples = len(molecules)
        if not molecules:
            raise UsageError("there are no molecules to evaluate; give at least one")
        runs.append(_scores(molecules, reference, training))
    protocol = Protocol(
        samples=samples,
        training=None if training is None else len(training),
        reference=None if reference is None else len(reference),
        reference_sha256=None if reference is None else content_hash(reference),
        reference_stereo=None if reference is None else any(map(metrics.has_stereo, reference)),
    )
    return Report(SCORES, tuple(runs), protocol)


def _scores(
    molecules: Sequence[Chem.Mol | None],
    reference: Sequence[str] | None,
    training: Sequence[str] | None,
) -> dict[str, float | None]:
    total = len(molecules)
    valid = [smiles for smiles in map(metrics.valid, molecules) if smiles is not None]
    different = metrics.distinct(valid)
    novel = None if training is None else len(metrics.novel(different, training))
    generated = None if reference is None or len(valid) < 2 else statistics(valid)
    return {
        "valid": len(valid) / total,
        "valid_fragment": sum(metrics.valid_fragment(mol) is not None for mol in molecules) / total,
        "valid_gdss": sum(map(metrics.valid_gdss, molecules)) / total,
        "connected": sum(map(metrics.connected, molecules)) / total,
        "unique": len(different) / len(valid) if valid else None,
        "unique_of_all": len(different) / total,
        "novel": novel / len(different) if novel is not None and different else None,
        "novel_of_all": None if novel is None else novel / total,
        "fcd": _distance(generated, reference),
        "fcd_nostereo": _distance(generated, _other_without_stereo(reference)),
    }


def _distance(generated: Statistics | None, reference: Sequence[str] | None) -> float | None:
    if generated is None or reference is None:
        return None
    return frechet_distance(generated, reference_statistics(reference))


def _other_without_stereo(reference: Sequence[str] | None) -> list[str] | None:
    """The reference without its stereochemistry; None if it has none."""
    if reference is None or not any(map(metrics.has_stereo, reference)):
        return None
    return [metrics.without_stereo(smiles) for smiles in reference]


def fcd_gdss(molecules: Iterable[Chem.Mol | None], reference: Sequence[str]) -> float:
    """FCD as GDSS computes it, only to stand beside numbers of that kind.

    All molecules count, after `molfldd.molecules.metrics.gdss_corrected` has repaired them; those
    that RDKit refuses even then are left out. Raises what `molfldd.molecules.fcd.fcd` raises.
    """
    corrected = map(metrics.gdss_corrected, molecules)
    return fcd([smiles for smiles in corrected if smiles is not None], reference)
