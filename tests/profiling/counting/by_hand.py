"""MACs of whole models worked out from their papers' tables, layer by layer, with nothing but multiplication."""


def conv(c_in, c_out, kernel, side, groups=1):
    """A k×k convolution that gives a map of ``side``² (or of a pair of sides)."""
    height, width = side if isinstance(side, tuple) else (side, side)
    return height * width * c_out * (c_in // groups) * kernel * kernel


def alexnet():
    """The single-tower variant (Krizhevsky 2014) at 224²."""
    convs = conv(3, 64, 11, 55) + conv(64, 192, 5, 27) + conv(192, 384, 3, 13) + conv(384, 256, 3, 13)
    return convs + conv(256, 256, 3, 13) + 9216 * 4096 + 4096 * 4096 + 4096 * 1000


def vgg11():
    """Configuration A (Simonyan and Zisserman 2015) at 224²."""
    plan = ((3, 64, 224), (64, 128, 112), (128, 256, 56), (256, 256, 56), (256, 512, 28), (512, 512, 28))
    convs = sum(conv(a, b, 3, side) for a, b, side in plan) + 2 * conv(512, 512, 3, 14)
    return convs + 512 * 7 * 7 * 4096 + 4096 * 4096 + 4096 * 1000


def basic_resnet(depths):
    """ResNet-18 and -34 (He et al. 2016) at 224²."""
    total, c_in, side = conv(3, 64, 7, 112), 64, 56
    for i, depth in enumerate(depths):
        width = 64 * 2**i
        side = 56 // 2**i
        for block in range(depth):
            total += conv(c_in, width, 3, side) + conv(width, width, 3, side)
            total += conv(c_in, width, 1, side) if block == 0 and c_in != width else 0
            c_in = width
    return total + 512 * 1000


def bottleneck_resnet(depths, groups=1, width_per_group=64):
    """ResNet-50 and up, ResNeXt, wide ResNets, at 224²; the 3×3 convolution has the stride."""
    total, c_in = conv(3, 64, 7, 112), 64
    for i, depth in enumerate(depths):
        out, inner, side = 256 * 2**i, groups * width_per_group * 2**i, 56 // 2**i
        for block in range(depth):
            before = side * 2 if block == 0 and i > 0 else side
            total += conv(c_in, inner, 1, before) + conv(inner, inner, 3, side, groups) + conv(inner, out, 1, side)
            total += conv(c_in, out, 1, side) if block == 0 else 0
            c_in = out
    return total + 2048 * 1000


def mobilenet_v2():
    """Table 2 of Sandler et al. 2018 at 224²."""
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    total, c_in, side = conv(3, 32, 3, 112), 32, 112
    for expand, c_out, repeats, stride in table:
        for block in range(repeats):
            hidden, before = c_in * expand, side
            side = side // stride if block == 0 else side
            total += conv(c_in, hidden, 1, before) if expand > 1 else 0
            total += conv(hidden, hidden, 3, side, groups=hidden) + conv(hidden, c_out, 1, side)
            c_in = c_out
    return total + conv(320, 1280, 1, 7) + 1280 * 1000


def vision_transformer(size, depth, mlp, patch=16, image=224, classes=1000):
    """ViT (Dosovitskiy et al. 2021): projections, the two products of attention, the MLP; a class token."""
    patches = (image // patch) ** 2
    length = patches + 1
    block = 4 * length * size * size + 2 * length * length * size + 2 * length * size * mlp
    return patches * size * 3 * patch * patch + depth * block + size * classes


# ------------------------------------------------------------------ the samples


def tiny_resnet(batch=2):
    """Two blocks a stage, 16 channels, 96²."""
    total, c_in = conv(3, 16, 7, 48), 16
    for width, side in ((16, 24), (32, 12), (64, 6)):
        total += conv(c_in, width, 3, side) + 3 * conv(width, width, 3, side)
        total += conv(c_in, width, 1, side) if c_in != width else 0
        c_in = width
    return batch * (total + 64 * 10)


def tiny_unet():
    """75 × 93, halved three times; transposed convolutions multiply each pixel that they read."""
    sides = ((75, 93), (37, 46), (18, 23), (9, 11))
    total = conv(32, 64, 3, sides[3])
    for (c_in, c_out), side in zip(((1, 8), (8, 16), (16, 32)), sides[:3], strict=True):
        total += conv(c_in, c_out, 3, side) + conv(c_out, c_out, 3, side)
        below = sides[sides.index(side) + 1]
        total += below[0] * below[1] * (2 * c_out) * c_out * 2 * 2
        total += conv(2 * c_out, c_out, 3, side) + conv(c_out, c_out, 3, side)
    return total + conv(8, 3, 1, sides[0])


def tiny_mobilenet(batch=2):
    """Inverted residuals with squeeze-and-excitation, 64²."""
    total = conv(3, 16, 3, 32)
    for c_in, c_out, kernel, before, after in ((16, 16, 3, 32, 32), (16, 24, 5, 32, 16), (24, 24, 3, 16, 16)):
        hidden = 4 * c_in
        total += conv(c_in, hidden, 1, before) + conv(hidden, hidden, kernel, after, groups=hidden)
        total += 2 * hidden * (hidden // 4) + conv(hidden, c_out, 1, after)
    return batch * (total + 24 * 10)


def tiny_attention(batch=2):
    """Two convolutions, a depthwise one, attention as a module and as einsum, over 64 tokens of 32."""
    total = conv(3, 16, 3, 16) + conv(16, 32, 3, 8) + conv(32, 32, 3, 8, groups=32)
    attention = 4 * 64 * 32 * 32 + 2 * 64 * 64 * 32
    return batch * (total + 2 * attention + 32 * 10)


WHOLE = {
    "torchvision:alexnet": alexnet(),
    "torchvision:vgg11": vgg11(),
    "torchvision:resnet18": basic_resnet((2, 2, 2, 2)),
    "torchvision:resnet34": basic_resnet((3, 4, 6, 3)),
    "torchvision:resnet50": bottleneck_resnet((3, 4, 6, 3)),
    "torchvision:resnet101": bottleneck_resnet((3, 4, 23, 3)),
    "torchvision:resnext50_32x4d": bottleneck_resnet((3, 4, 6, 3), groups=32, width_per_group=4),
    "torchvision:wide_resnet50_2": bottleneck_resnet((3, 4, 6, 3), width_per_group=128),
    "torchvision:mobilenet_v2": mobilenet_v2(),
    "torchvision:vit_b_16": vision_transformer(768, 12, 3072),
    "timm:resnet50": bottleneck_resnet((3, 4, 6, 3)),
    "timm:vit_tiny_patch16_224": vision_transformer(192, 12, 768),
    "timm:vit_small_patch16_224": vision_transformer(384, 12, 1536),
    "sample_models/tiny_resnet.py:build": tiny_resnet(),
    "sample_models/tiny_unet.py:build": tiny_unet(),
    "sample_models/tiny_mobilenet.py:build": tiny_mobilenet(),
    "sample_models/tiny_attention.py:build": tiny_attention(),
}
"""By the names that the command line takes; at the inputs that come with each."""
