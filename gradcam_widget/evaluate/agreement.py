"""Agreement with occlusion: does the score drop most where the map is high?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate.drawing import Pictured, pictured
from gradcam_widget.evaluate.given import check_choice, check_engine
from gradcam_widget.evaluate.question import Numbers, Subject, ask, digits
from gradcam_widget.occlusion import Occlusion, patches
from gradcam_widget.perturbation import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["OcclusionAgreement", "occlusion_agreement"]


@dataclass(frozen=True, eq=False)
class OcclusionAgreement:
    """One map beside an occlusion map.

    Attributes:
        subject: which map.
        occlusion: what each place of a patch costs.
        rank_correlation: Spearman's, of the heatmap's mean under each patch with the drop of the score there; None
            where either is the same everywhere.
        heatmap: float64 (H, W), what was compared.
        picture: uint8 (H, W, 3), what the model saw.
    """

    subject: Subject
    occlusion: Occlusion
    rank_correlation: float | None
    heatmap: NDArray[np.float64]
    picture: NDArray[Any]

    @property
    def numbers(self) -> Numbers:
        """The numbers as a table."""
        drops = self.occlusion.drop
        return Numbers(
            ("",),
            {
                "rank correlation": (self.rank_correlation,),
                "largest drop of the score": (float(drops.max()),),
                "score": (self.occlusion.score,),
            },
        )

    @property
    def verdict(self) -> str:
        """What the correlation says, in words."""
        rho, places = self.rank_correlation, len(self.occlusion.boxes)
        if rho is None:
            return "The map, or the drop of the score, is the same everywhere: there is nothing to compare."
        text = f"Covering {places} places one after another costs the score of {self.subject.target}"
        if rho >= 0.5:
            return f"{text} most where the map is high (rank correlation {digits(rho)}): the two agree."
        if rho >= 0.2:
            return (
                f"{text} somewhat more where the map is high (rank correlation {digits(rho)}): they agree in part."
            )
        if rho > -0.2:
            return f"{text} no more where the map is high than elsewhere (rank correlation {digits(rho)})."
        return (
            f"{text} less where the map is high (rank correlation {digits(rho)}): the two contradict each other."
        )

    def figure(self, *, dark: bool = False) -> Figure:
        """The map and the drops, over the picture."""
        drop = self.occlusion.heatmap()
        limit = float(np.abs(drop).max()) or 1.0
        rho = "none" if self.rank_correlation is None else digits(self.rank_correlation)
        return pictured(
            [
                Pictured(self.picture, self.heatmap, "viridis", (0, float(self.heatmap.max()) or 1.0), "the map"),
                Pictured(
                    self.picture,
                    drop,
                    "RdBu_r",
                    (-limit, limit),
                    f"drop of the score, {digits(drop.min())} to {digits(drop.max())}",
                ),
            ],
            f"rank correlation {rho}",
            dark=dark,
        )


def occlusion_agreement(
    cam: GradCAM,
    image: object,
    target: object = None,
    layer: object = None,
    method: str = "GradCAM",
    *,
    heatmap: object = None,
    patch: int | None = None,
    stride: int | None = None,
    fill: str = "mean",
    progress: Progress | None = None,
) -> OcclusionAgreement:
    """How well a map agrees with what covering each place of the picture costs (`GradCAM.occlude`).

    Args:
        cam: the engine.
        image: as in `GradCAM.explain`; a picture.
        target: as there.
        layer: as there.
        method: as there.
        heatmap: (H, W) of the picture's size, to be evaluated in place of the engine's.
        patch: as in `GradCAM.occlude`.
        stride: as there.
        fill: as there.
        progress: (done, in all) passes; returning False cancels with `gradcam_widget.perturbation.Cancelled`.

    Raises:
        TypeError, ValueError: for an argument that cannot be used, before any pass; and as `GradCAM.explain`.

    Source: R. Selvaraju et al., "Grad-CAM", arXiv 1610.02391, section 5.3 (faithfulness); the occlusion is that of
    Zeiler and Fergus, ECCV 2014.
    """
    check_engine(cam)
    check_choice("fill", fill, ("mean", "grey", "blur"))
    first = cam.prepare(image)
    patches((first.shape[-2], first.shape[-1]), patch, stride)  # says what does not fit before anything runs
    image = image if isinstance(image, tuple) else first
    question = ask(cam, image, target, layer, method, heatmap=heatmap, progress=progress)
    found = cam.occlude(question.image, question.target, patch=patch, stride=stride, fill=fill, progress=progress)
    return OcclusionAgreement(
        subject=question.subject,
        occlusion=found,
        rank_correlation=found.agreement(question.heatmap),
        heatmap=question.heatmap,
        picture=cam.picture(question.image if not isinstance(question.image, tuple) else question.image[0]),
    )
