"""The recipe of `accuracy.py` in PyTorch: Keras's SGD, its schedule, and the order of its data."""

import math

import torch
import torch.nn.functional as F

BATCH = 125
RATE, MOMENTUM, DECAY = 0.05, 0.9, 5e-3


class Run:
    """Training of so many steps, in parts between which a net may become narrower.

    `torch.optim.SGD` applies the rate behind the momentum and adds decay to the gradient. Keras
    puts the rate into the momentum and takes `rate * decay` of every weight first, as done here.
    """

    def __init__(self, data, order):
        self._x, self._y = data
        self._order = order  # of the images, one row an epoch
        self._step, self._steps = 0, order.shape[0] * (order.shape[1] // BATCH)

    def epochs(self, net, first, last, regularize=None):
        """Train from one epoch up to another; momentum begins at zero."""
        net.train()
        weights = list(net.parameters())
        moved = [torch.zeros_like(weight) for weight in weights]
        for order in self._order[first:last]:
            for begin in range(0, len(order) // BATCH * BATCH, BATCH):
                batch = order[begin : begin + BATCH]
                net.zero_grad(set_to_none=True)
                F.cross_entropy(net(self._x[batch]), self._y[batch]).backward()
                if regularize:
                    regularize(net)
                self._update(weights, moved)

    def _update(self, weights, moved):
        rate = 0.5 * RATE * (1 + math.cos(math.pi * self._step / self._steps))
        self._step += 1
        with torch.no_grad():
            torch._foreach_mul_(weights, 1 - rate * DECAY)
            torch._foreach_mul_(moved, MOMENTUM)
            torch._foreach_add_(moved, [weight.grad for weight in weights], alpha=-rate)
            torch._foreach_add_(weights, moved)


def gradients(net, data, images=2000):
    """Leave in each parameter its gradient of the mean loss on so many images."""
    x, y = data
    net.eval()
    net.zero_grad(set_to_none=True)
    for begin in range(0, images, BATCH):
        part = slice(begin, begin + BATCH)
        loss = F.cross_entropy(net(x[part]), y[part], reduction="sum") / images
        loss.backward()


def accuracy(net, data):
    """In percent."""
    x, y = data
    net.eval()
    with torch.no_grad():
        right = sum(
            int((net(x[begin : begin + 1000]).argmax(1) == y[begin : begin + 1000]).sum())
            for begin in range(0, len(x), 1000)
        )
    return round(100 * right / len(x), 2)


def macs(net, example):
    """Multiply-adds of convolutions and dense layers, as `resrep_keras.count_macs` counts them."""
    found, handles = [], []

    def conv(module, _, output):
        found.append(output[0].numel() * module.weight[0].numel())

    def dense(module, *_):
        found.append(module.weight.numel())

    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            handles.append(module.register_forward_hook(conv))
        elif isinstance(module, torch.nn.Linear):
            handles.append(module.register_forward_hook(dense))
    net.eval()
    with torch.no_grad():
        net(example[:1])
    for handle in handles:
        handle.remove()
    return sum(found)
