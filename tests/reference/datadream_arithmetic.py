"""DataDream's classifier, written out plainly from docs/protocol.md, C3.

Independent of varireal_utils. Labels are one-hot rows. Real and synthetic images are mixed apart,
each with the one before it of its own kind.
"""


def loss(log_probabilities, targets, is_real, weight=0.8):
    """weight * mean over real images + (1 - weight) * mean over synthetic ones."""
    each = -(targets * log_probabilities).sum(dim=1)
    return weight * each[is_real].mean() + (1 - weight) * each[~is_real].mean()


def mixup(pixels, labels, share):
    """Each image with the one before it: `share` of itself."""
    others, theirs = pixels.roll(1, 0), labels.roll(1, 0)
    return share * pixels + (1 - share) * others, share * labels + (1 - share) * theirs


def cutmix_share(pixels, made):
    """Share of each image that CutMix left, by counting: a pixel is its own or its partner's."""
    own = (made == pixels).all(dim=1)
    theirs = (made == pixels.roll(1, 0)).all(dim=1)
    assert bool((own | theirs).all())
    return own.float().mean(dim=(1, 2))
