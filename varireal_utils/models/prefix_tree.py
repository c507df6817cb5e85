"""Arranges captions for a causal text tower as a tree: every distinct prefix once.

A causal tower's state at a position depends on the tokens up to it alone. Captions of a data set
share prefixes ("a car photo of a BMW ..."), so there are far fewer states than captions times
length: the names of 196 cars make 4,508 padded positions, 3,045 without padding, and 1,597 nodes of
a prefix tree.

    a pet photo of a beagle          nodes   a pet photo of a -- beagle -- END
    a pet photo of a pug                                      `- pug ----- END

symbols   C, L   captions, and tokens of the longest of them
          N      nodes; a node is one position of one caption, or of all that begin like it
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Captions:
    """The tree; all tensors are of integers, but `seen`."""

    tokens: torch.Tensor  # (N,) each node's token
    places: torch.Tensor  # (N,) its position in its caption
    rows: torch.Tensor  # (C, L) the node at each position; behind the end any
    read: torch.Tensor  # (N,) one place of each node in rows, flattened
    ends: torch.Tensor  # (C,) the node of each caption's end token
    seen: torch.Tensor  # (C, L) bool: up to the end token
    shared: bool  # whether a node may stand in several captions

    def to(self, device: torch.device) -> Captions:
        """The same on a device."""
        return replace(self, **{k: v.to(device) for k, v in vars(self).items() if k != "shared"})

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        """(C, L, d) by position, of nodes x (N, d); behind the ends any."""
        y = (
            F.embedding(self.rows, x)
            if self.shared
            else _Take.apply(x, self.rows.flatten(), self.read, None)
        )
        return y.view(*self.rows.shape, -1)

    def collect(self, y: torch.Tensor) -> torch.Tensor:
        """(N, d) by node, of positions y (C, L, d)."""
        y = y.reshape(-1, y.shape[-1])
        if self.shared:
            return F.embedding(self.read, y)
        return _Take.apply(y, self.read, self.rows.flatten(), self.seen.flatten()[:, None])


class _Take(torch.autograd.Function):
    """x[at], where no row that counts is taken twice, so that the gradient is taken as well, by
    `back`, and nothing need be sorted or added; `real` says which rows of x were taken."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, at: torch.Tensor, back: torch.Tensor, real: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.back, ctx.real = back, real
        return x.index_select(0, at)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple:
        taken = gradient.index_select(0, ctx.back)
        return taken if ctx.real is None else taken.masked_fill_(~ctx.real, 0), None, None, None


def build_prefix_tree(
    tokens: torch.Tensor,
    ends: torch.Tensor,
    shared: bool = True,
    device: torch.device | str = "cpu",
) -> Captions:
    """Build the tree of tokens (C, L) whose end tokens stand at the columns `ends` (C,).

    shared: equal prefixes share their nodes; else every caption keeps its own. Cached, since a
    training encodes the same captions at every step.
    """
    rows = tuple(tuple(row[: end + 1]) for row, end in zip(tokens.tolist(), ends.tolist()))
    return _build(rows, shared, torch.device(device))


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # an evaluation may ask first, and a training next
def _build(rows: tuple[tuple[int, ...], ...], shared: bool, device: torch.device) -> Captions:
    longest = max(map(len, rows))
    at: dict[tuple, int] = {}
    tokens: list[int] = []
    places: list[int] = []
    read: list[int] = []
    grid = torch.zeros(len(rows), longest, dtype=torch.long)
    for c, row in enumerate(rows):
        for i, token in enumerate(row):
            beginning = (None if shared else c, row[: i + 1])
            if beginning not in at:
                at[beginning] = len(tokens)
                tokens.append(token)
                places.append(i)
                read.append(c * longest + i)
            grid[c, i] = at[beginning]
    lengths = torch.tensor([len(row) for row in rows])
    return Captions(
        torch.tensor(tokens),
        torch.tensor(places),
        grid,
        torch.tensor(read),
        grid[torch.arange(len(rows)), lengths - 1],
        torch.arange(longest) < lengths[:, None],
        shared,
    ).to(device)
