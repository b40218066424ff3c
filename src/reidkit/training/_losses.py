"""The losses of one batch: over identities, over pairs of pictures, and over class centres.

Each takes tensors on any device, of any floating type, and gives a scalar tensor that gradients
flow through. Whatever `autocast` is on around them, they compute in float32 (float64 of float64):
sums of squares do not fit into half precision. None waits for the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn import functional

from reidkit.errors import ArgumentError, ShapeError

_SMALLEST_SQUARE = 1e-12
_LARGEST_SQUARE = 1e12


def smoothed_cross_entropy(
    scores: torch.Tensor, labels: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """Cross-entropy of scores (B, C) and labels (B,) int64 from 0 to C - 1, averaged over B.

    The target is 1 - `epsilon` of the label and `epsilon` spread evenly over all classes (Szegedy
    et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016); 0 is the plain
    cross-entropy.

    Raises:
        ShapeError: scores or labels of another shape.
        ArgumentError: `epsilon` is not from 0 to 1.
    """
    check_batch(scores, labels)
    if not 0 <= epsilon <= 1:
        raise ArgumentError(f"epsilon is {epsilon}, expected a number from 0 to 1")
    with full_precision(scores):
        return functional.cross_entropy(widened(scores), labels, label_smoothing=epsilon)


def triplet_loss(
    features: torch.Tensor, labels: torch.Tensor, *, margin: float | None
) -> torch.Tensor:
    """Batch-hard triplet loss of features (B, D) and labels (B,) int64.

    Every picture is an anchor: p is the Euclidean distance to the farthest other picture of its
    identity, n that to the nearest picture of another one. Its part is max(0, p - n + margin), or
    with `margin` None the soft log(1 + exp(p - n)) (Hermans et al., "In Defense of the Triplet
    Loss for Person Re-Identification", 2017); the loss is the mean over all B. Identities need not
    have equally many pictures. An anchor without another picture of its identity, or without
    another identity in the batch, adds 0 and has no gradient; so a batch of one identity, or one
    of B identities, has the loss 0. Pictures with one and the same vector are at the distance
    1e-6, with no gradient between them.

    Raises:
        ShapeError: features or labels of another shape.
        ArgumentError: a negative margin.
    """
    check_batch(features, labels)
    if margin is not None and margin < 0:
        raise ArgumentError(f"margin is {margin}, expected at least 0, or None for a soft margin")
    with full_precision(features):
        vectors = widened(features)
        positive, negative = _masks_of_pairs(labels)
        farthest, nearest = _find_hardest(vectors.detach(), positive, negative)
        gaps = _distances(vectors, farthest) - _distances(vectors, nearest)
        # softplus, unlike log(1 + exp(x)) as written, does not overflow.
        parts = functional.softplus(gaps) if margin is None else functional.relu(gaps + margin)
        return _mean_over_anchors(parts, positive, negative)


def circle_loss(
    features: torch.Tensor, labels: torch.Tensor, *, margin: float, scale: float
) -> torch.Tensor:
    """Circle loss of features (B, D) and labels (B,) int64, over pairs of pictures.

    With the cosines s of an anchor to its positives p and negatives n, its part is

        log(1 + sum_n exp(scale a_n (s_n - margin)) sum_p exp(-scale a_p (s_p - 1 + margin)))

    where a_n = max(0, s_n + margin) and a_p = max(0, 1 + margin - s_p) are weights without
    gradient (Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization",
    CVPR 2020); the loss is the mean over all B anchors. An anchor that lacks positives or
    negatives adds 0, as in `triplet_loss`. A vector of zeros has the cosine 0 to all others.

    Raises:
        ShapeError: features or labels of another shape.
        ArgumentError: a negative margin, or a scale that is not positive.
    """
    check_batch(features, labels)
    if margin < 0:
        raise ArgumentError(f"margin is {margin}, expected at least 0")
    if scale <= 0:
        raise ArgumentError(f"scale is {scale}, expected more than 0")
    with full_precision(features):
        vectors = directions(widened(features))
        cosines = vectors @ vectors.T
        positive, negative = _masks_of_pairs(labels)
        positive_weights = functional.relu(1 + margin - cosines.detach())
        negative_weights = functional.relu(cosines.detach() + margin)
        over_positives = _log_sum(-scale * positive_weights * (cosines - 1 + margin), positive)
        over_negatives = _log_sum(scale * negative_weights * (cosines - margin), negative)
        parts = functional.softplus(over_positives + over_negatives)
        return _mean_over_anchors(parts, positive, negative)


def center_loss(
    features: torch.Tensor, labels: torch.Tensor, centers: torch.Tensor
) -> torch.Tensor:
    """Squared distance of features (B, D) to the centres (C, D) of their labels (B,), averaged.

    Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016,
    twice the paper's, as the strong baseline has it. A square is held between 1e-12 and 1e12, and
    so are the C - 1 other classes of each picture, which the baseline sets to zero first: they add
    a constant (C - 1) 1e-12. Labels run from 0 to C - 1.

    Raises:
        ShapeError: features, labels or centres of another shape.
    """
    check_batch(features, labels)
    if centers.ndim != 2 or centers.shape[1] != features.shape[1]:
        raise ShapeError(
            f"centers are {tuple(centers.shape)}, expected (classes, {features.shape[1]}): a "
            "centre is as long as a feature"
        )
    with full_precision(features):
        # An embedding's gradient is added up in the same order every time, an index's is not.
        own = functional.embedding(labels, widened(centers))
        squares = (widened(features) - own).square().sum(dim=1)
        held = squares.clamp(_SMALLEST_SQUARE, _LARGEST_SQUARE)
        return held.mean() + (len(centers) - 1) * _SMALLEST_SQUARE


@contextmanager
def full_precision(tensor: torch.Tensor) -> Iterator[None]:
    """Compute as the tensors' types say meanwhile, also where `autocast` is on."""
    with torch.autocast(tensor.device.type, enabled=False):
        yield


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """Give a tensor in float32, or as it is in float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def directions(vectors: torch.Tensor) -> torch.Tensor:
    """Scale vectors (N, D) to unit length; zeros have no direction: they stay, without gradient."""
    lengths = torch.linalg.vector_norm(vectors.detach(), dim=1, keepdim=True)
    return functional.normalize(vectors * (lengths > _SMALLEST_SQUARE), dim=1)


def check_batch(vectors: torch.Tensor, labels: torch.Tensor) -> None:
    """Check that there are vectors (B, D) and labels (B,) int64, B at least 1.

    Raises:
        ShapeError: there are not.
    """
    if vectors.ndim != 2 or len(vectors) == 0:
        raise ShapeError(f"vectors are {tuple(vectors.shape)}, expected (B, D), B at least 1")
    if labels.shape != (len(vectors),) or labels.dtype != torch.int64:
        raise ShapeError(
            f"labels are {tuple(labels.shape)} {labels.dtype}, expected ({len(vectors)},) "
            "torch.int64: one for each vector"
        )


def _masks_of_pairs(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tell which pairs (B, B) are two pictures of one identity, and which are of two."""
    same = labels[:, None] == labels
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return same & ~itself, ~same


def _find_hardest(
    vectors: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find each anchor's farthest positive and nearest negative, (B,) int64; any if it has none."""
    squares = vectors.square().sum(dim=1)
    distances = squares[:, None] + squares - 2 * (vectors @ vectors.T)
    farthest = distances.masked_fill(~positive, -torch.inf).argmax(dim=1)
    nearest = distances.masked_fill(~negative, torch.inf).argmin(dim=1)
    return farthest, nearest


def _distances(vectors: torch.Tensor, partners: torch.Tensor) -> torch.Tensor:
    """Measure from each vector to its partner, (B,).

    From the difference itself: squares minus twice the product lose nearly all digits where two
    vectors nearly agree. Below the clamp there is no gradient, where the root's is infinite.
    """
    # An embedding's gradient is added up in the same order every time, an index's is not.
    squares = (vectors - functional.embedding(partners, vectors)).square().sum(dim=1)
    return squares.clamp(min=_SMALLEST_SQUARE).sqrt()


def _log_sum(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Logarithm of the sum of exponentials over the chosen of each row; -inf where none is."""
    return values.masked_fill(~chosen, -torch.inf).logsumexp(dim=1)


def _mean_over_anchors(
    parts: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
) -> torch.Tensor:
    """Average the anchors' parts (B,), counting 0 for those without positives or negatives."""
    usable = positive.any(dim=1) & negative.any(dim=1)
    return parts.where(usable, parts.new_zeros(())).mean()
