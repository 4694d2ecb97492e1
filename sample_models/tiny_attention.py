"""A convolutional stem before two attention blocks, one of torch's own and one written with einsum; keyword inputs."""

import torch
from torch import Tensor, nn

from sample_models._common import image, seeded


class EinsumAttention(nn.Module):
    """Multi-head attention spelled out."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(size, 3 * size), nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, size) → (N, L, size)."""
        n, length, size = x.shape
        q, k, v = self.qkv(x).reshape(n, length, 3, self.heads, size // self.heads).unbind(2)
        weights = torch.einsum("nqhd,nkhd->nhqk", q, k).div((size // self.heads) ** 0.5).softmax(-1)
        return self.out(torch.einsum("nhqk,nkhd->nqhd", weights, v).reshape(n, length, size))


class TinyAttention(nn.Module):
    """Strided convolutions to tokens, attention, a classifier on the mean token."""

    def __init__(self, size: int = 32, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, size // 2, 3, 2, 1), nn.GELU(), nn.Conv2d(size // 2, size, 3, 2, 1), nn.GELU()
        )
        self.position = nn.Conv2d(size, size, 3, padding=1, groups=size)
        self.norm1, self.attention = nn.LayerNorm(size), nn.MultiheadAttention(size, 4, batch_first=True)
        self.norm2, self.spelled = nn.LayerNorm(size), EinsumAttention(size, 4)
        self.head = nn.Linear(size, num_classes)

    def forward(self, pixels: Tensor, token_mask: Tensor | None = None) -> dict[str, Tensor]:
        """``pixels`` (N, 3, H, W), ``token_mask`` (N, H/4·W/4) true where padded → ``logits`` and ``tokens``."""
        x = self.stem(pixels)
        tokens = (x + self.position(x)).flatten(2).transpose(1, 2)
        normed = self.norm1(tokens)
        attended, _ = self.attention(normed, normed, normed, key_padding_mask=token_mask, need_weights=False)
        tokens = tokens + attended
        tokens = tokens + self.spelled(self.norm2(tokens))
        return {"logits": self.head(tokens.mean(1)), "tokens": tokens}


def build(size: int = 32, num_classes: int = 10) -> TinyAttention:
    """The model, with the same weights on every call."""
    return seeded(lambda: TinyAttention(size, num_classes))


def example_inputs() -> dict[str, Tensor]:
    """Two images, the last tokens of the second padded."""
    mask = torch.zeros(2, 64, dtype=torch.bool)
    mask[1, 48:] = True
    return {"pixels": image(2, 3, 32, 32), "token_mask": mask}
