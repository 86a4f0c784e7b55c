"""The nets of `examples/nets.py` that `programs.NETS` names, in PyTorch.

Layers of one kind are made in the order of the Keras net, by which their weights are carried over;
a dense layer behind `flatten` reads channels first.
"""

import torch
from layouts import padding_same
from torch import nn


class Conv(nn.Module):
    """A convolution without bias, padded as Keras pads, then batch norm and activation."""

    def __init__(self, size, inputs, filters, kernel=3, stride=1, act=nn.ReLU, depthwise=False):
        super().__init__()
        before, after = padding_same(size, kernel, stride)
        own = before if before == after else 0
        self.pad = nn.Identity() if own == before == after else nn.ZeroPad2d((before, after) * 2)
        groups = inputs if depthwise else 1
        self.conv = nn.Conv2d(inputs, filters, kernel, stride, own, groups=groups, bias=False)
        self.norm = norm(filters)
        self.act = act() if act else nn.Identity()
        self.size = -(-size // stride)

    def forward(self, x):
        return self.act(self.norm(self.conv(self.pad(x))))


def norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Residual(nn.Module):
    def __init__(self, size, inputs, filters, stride):
        super().__init__()
        self.first = Conv(size, inputs, filters, stride=stride)
        self.second = Conv(self.first.size, filters, filters, act=None)
        projects = stride > 1 or inputs != filters
        short = Conv(size, inputs, filters, 1, stride, act=None) if projects else nn.Identity()
        self.short, self.size = short, self.first.size

    def forward(self, x):
        return torch.relu(self.second(self.first(x)) + self.short(x))


class Bottleneck(nn.Module):
    def __init__(self, size, inputs, filters, stride):
        super().__init__()
        wide = 6 * inputs
        self.expand = Conv(size, inputs, wide, 1, act=nn.ReLU6)
        self.depth = Conv(size, wide, wide, 3, stride, nn.ReLU6, depthwise=True)
        self.project = Conv(self.depth.size, wide, filters, 1, act=None)
        self.adds, self.size = stride == 1 and inputs == filters, self.depth.size

    def forward(self, x):
        y = self.project(self.depth(self.expand(x)))
        return x + y if self.adds else y


class Appended(nn.Module):
    """What a layer of a dense block adds to all that it has read."""

    def __init__(self, inputs, growth):
        super().__init__()
        self.norm = norm(inputs)
        self.conv = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x):
        return torch.cat([x, self.conv(torch.relu(self.norm(x)))], 1)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def small_resnet(width=48):
    stem = Conv(28, 1, width // 3, 5, 2)
    blocks, inputs, size = [], width // 3, stem.size
    for stride in (2, 1, 1):
        blocks.append(Residual(size, inputs, width, stride))
        inputs, size = width, blocks[-1].size
    return nn.Sequential(stem, *blocks, Mean(), nn.Linear(width, 10))


def small_vgg():
    parts, inputs, size = [], 1, 28
    for filters, pool in ((16, 1), (32, 0), (32, 1), (64, 0), (64, 1)):
        parts.append(Conv(size, inputs, filters))
        inputs = filters
        if pool:
            parts.append(nn.MaxPool2d(2, ceil_mode=True))
            size = -(-size // 2)
    hidden = nn.Linear(size * size * inputs, 64)
    return nn.Sequential(*parts, nn.Flatten(), hidden, nn.ReLU(), nn.Linear(64, 10))


def small_mobilenet():
    parts = [Conv(28, 1, 16, stride=2, act=nn.ReLU6)]
    inputs, size = 16, parts[0].size
    for filters, stride in ((24, 1), (24, 1), (32, 2), (32, 1), (48, 1)):
        parts.append(Bottleneck(size, inputs, filters, stride))
        inputs, size = filters, parts[-1].size
    last = Conv(size, inputs, 128, 1, act=nn.ReLU6)
    return nn.Sequential(*parts, last, Mean(), nn.Linear(128, 10))


def small_densenet(growth=12):
    pad = nn.ZeroPad2d(padding_same(28, 3, 2) * 2)
    parts = [pad, nn.Conv2d(1, 2 * growth, 3, 2, bias=False)]
    channels = 2 * growth
    for block in range(2):
        if block:
            narrow = nn.Conv2d(channels, channels // 2, 1, bias=False)
            parts += [norm(channels), nn.ReLU(), narrow, nn.AvgPool2d(2)]
            channels //= 2
        for _ in range(4):
            parts.append(Appended(channels, growth))
            channels += growth
    return nn.Sequential(*parts, norm(channels), nn.ReLU(), Mean(), nn.Linear(channels, 10))


NETS = {
    "resnet": lambda: small_resnet(30),
    "resnet_wide": small_resnet,
    "vgg": small_vgg,
    "mobilenet": small_mobilenet,
    "densenet": small_densenet,
}


def layers_of(net):
    """`{"conv.0": module}`, by kind and the order in which they were made."""
    found, numbers = {}, {}
    for module in net.modules():
        kind = _kind(module)
        if kind:
            number = numbers.setdefault(kind, 0)
            numbers[kind] += 1
            found[f"{kind}.{number}"] = module
    return found


def _kind(module):
    if isinstance(module, nn.Conv2d):
        return "depthwise" if module.groups > 1 else "conv"
    kinds = {nn.BatchNorm2d: "norm", nn.Linear: "dense"}
    return kinds.get(type(module))


def carry_over(net, start):
    """Give a net the weights of the Keras net, `{"conv.0.weight": array}`."""
    own = {f"{name}.{key}" for name, m in layers_of(net).items() for key, _ in _tensors(m)}
    theirs = {name for name in start if name.rpartition(".")[0] in layers_of(net)}
    if own != theirs:
        raise ValueError(f"The nets differ in their layers: {sorted(own ^ theirs)}.")
    with torch.no_grad():
        for name, module in layers_of(net).items():
            for key, tensor in _tensors(module):
                value = torch.from_numpy(start[f"{name}.{key}"])
                if value.shape != tensor.shape:
                    shapes = tuple(value.shape), tuple(tensor.shape)
                    raise ValueError(f"{name}.{key} is {shapes[0]} in Keras, {shapes[1]} here.")
                tensor.copy_(value)


def _tensors(module):
    named = [*module.named_parameters(), *module.named_buffers()]
    return [(key, tensor) for key, tensor in named if key != "num_batches_tracked"]
