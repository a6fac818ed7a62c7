"""Many equal models trained at once, layer by layer, with gradients by hand.

For `nn.Sequential` models of plain layers (see `plain_layers`). Every array has the client as its first
dimension, so one batched product serves all clients; pictures keep their channels last, so a
convolution is a product of patches without a transposition. A layer with weights descends in its
backward pass, while its arrays are in the cache: v ← β·v + g, w ← w − v, where g already holds the
learning rate (see `grouped.Group`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

STATELESS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Tanh, nn.Sigmoid, nn.GELU, nn.ELU, nn.LeakyReLU)
"""Layers that `Each` may hold: no weights, no random numbers, one example does not see another."""


class Layer(Protocol):
    """One layer of all clients; `forward` keeps what `backward` needs of it."""

    def forward(self, inputs: Tensor) -> Tensor: ...

    def backward(self, gradient: Tensor) -> Tensor:
        """The gradient of the inputs from that of the outputs."""
        ...


class Descent:
    """Weights of all clients on their way down; `pull` of shape (clients,) is learning rate times μ of FedProx."""

    def __init__(self, weights: Tensor, momentum: float, pull: Tensor | None) -> None:
        self.now, self.velocity, self.momentum = weights, torch.zeros_like(weights), momentum
        self.start = None if pull is None else weights.clone()
        self.pull = None if pull is None else pull.reshape(-1, *[1] * (weights.dim() - 1))

    def along_product(self, left: Tensor, right: Tensor) -> None:
        """Descend along left·right of each client, which has the shape of its flattened weights."""
        velocity = self.velocity[: left.shape[0]]
        velocity.flatten(2).baddbmm_(left, right, beta=self.momentum)
        self._move(velocity)

    def along(self, gradient: Tensor) -> None:
        velocity = self.velocity[: gradient.shape[0]]
        torch.add(gradient, velocity, alpha=self.momentum, out=velocity)
        self._move(velocity)

    def _move(self, velocity: Tensor) -> None:
        clients = velocity.shape[0]
        now = self.now[:clients]
        if self.pull is not None and self.start is not None:
            velocity.addcmul_(now - self.start[:clients], self.pull[:clients])
        now.sub_(velocity)


class Linear:
    """y = x·Wᵀ + b; x of shape (clients, rows, in), W of (clients, out, …) with as many as `in` behind."""

    def __init__(self, weight: Descent, bias: Descent | None, lowest: bool) -> None:
        self.weight, self.bias, self.lowest = weight, bias, lowest

    def forward(self, inputs: Tensor) -> Tensor:
        self.inputs = inputs
        outputs = torch.bmm(inputs, self.weight.now[: inputs.shape[0]].flatten(2).transpose(1, 2))
        return outputs if self.bias is None else outputs.add_(self.bias.now[: inputs.shape[0], None])

    def backward(self, gradient: Tensor) -> Tensor:
        """The lowest layer of a model gives back what it got: nobody reads it."""
        below = gradient if self.lowest else torch.bmm(gradient, self.weight.now[: gradient.shape[0]].flatten(2))
        self.weight.along_product(gradient.transpose(1, 2), self.inputs)
        if self.bias is not None:
            self.bias.along(gradient.sum(1))
        return below


class Conv2d:
    """Patches of pictures times weights (clients, out, rows, columns, channels).

    Pictures have the shape (clients, batch, height, width, channels); in the lowest layer of a model
    they come as patches already, cut once by `patches` for all steps.
    """

    def __init__(self, layer: nn.Conv2d, product: Linear) -> None:
        self.product = product
        (self.high, self.wide), (self.down, self.right) = layer.kernel_size, layer.stride
        self.top, self.left = int(layer.padding[0]), int(layer.padding[1])

    def patches(self, pictures: Tensor) -> Tensor:
        """(n, height, width, channels) to (n, rows, columns, kernel height, kernel width, channels)."""
        padded = functional.pad(pictures, (0, 0, self.left, self.left, self.top, self.top))
        cut = padded.unfold(1, self.high, self.down).unfold(2, self.wide, self.right)
        return cut.permute(0, 1, 2, 4, 5, 3).contiguous()

    def forward(self, inputs: Tensor) -> Tensor:
        self.pictures = inputs.shape
        patches = inputs if self.product.lowest else _by_client(self.patches(inputs.flatten(0, 1)), len(inputs))
        self.grid = patches.shape
        rows = self.product.forward(patches.flatten(4).flatten(1, 3))
        return rows.view(*self.grid[:4], -1)

    def backward(self, gradient: Tensor) -> Tensor:
        patches = self.product.backward(gradient.reshape(len(gradient), -1, gradient.shape[-1]))
        return gradient if self.product.lowest else self._overlaid(patches.view(self.grid))

    def _overlaid(self, patches: Tensor) -> Tensor:
        """Each pixel's sum over the patches that it is part of."""
        total = patches.new_zeros(self.pictures)
        for i in range(self.high):
            rows, into_rows = _overlap(self.grid[2], self.pictures[2], i - self.top, self.down)
            for j in range(self.wide):
                columns, into_columns = _overlap(self.grid[3], self.pictures[3], j - self.left, self.right)
                total[:, :, into_rows, into_columns] += patches[:, :, rows, columns, i, j]
        return total


def _overlap(patches: int, pixels: int, offset: int, stride: int) -> tuple[slice, slice]:
    """Which patches have their pixel at `offset` inside the picture, and which pixels these are."""
    first = max(0, -(offset // stride))
    last = min(patches - 1, (pixels - 1 - offset) // stride)
    return slice(first, last + 1), slice(first * stride + offset, max(0, last * stride + offset + 1), stride)


class Rectify:
    """ReLU, in place: the layers before it do not need what they gave."""

    def forward(self, inputs: Tensor) -> Tensor:
        self.outputs = inputs.relu_()
        return self.outputs

    def backward(self, gradient: Tensor) -> Tensor:
        below: Tensor = torch.ops.aten.threshold_backward(gradient, self.outputs, 0)
        return below


class Flatten:
    """Pictures to rows in PyTorch's order, channels first; rows stay as they are."""

    def forward(self, inputs: Tensor) -> Tensor:
        first = inputs.movedim(-1, 2)
        self.shape = first.shape
        return first.flatten(2)

    def backward(self, gradient: Tensor) -> Tensor:
        return gradient.view(self.shape).movedim(2, -1).contiguous()


class MaxPool2d:
    """The largest of each window; ties go to the first, as in PyTorch."""

    def __init__(self, layer: nn.MaxPool2d) -> None:
        stride = layer.kernel_size if layer.stride is None else layer.stride
        self.windows = (layer.kernel_size, stride, layer.padding, layer.dilation, layer.ceil_mode)

    def forward(self, inputs: Tensor) -> Tensor:
        self.pictures = inputs.flatten(0, 1).movedim(-1, 1)
        highest, self.chosen = functional.max_pool2d(self.pictures, *self.windows, return_indices=True)
        return _by_client(highest.movedim(1, -1), len(inputs))

    def backward(self, gradient: Tensor) -> Tensor:
        below: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
            gradient.flatten(0, 1).movedim(-1, 1),
            self.pictures,
            *map(_pair, self.windows[:4]),
            self.windows[4],
            self.chosen,
        )
        return _by_client(below.movedim(1, -1), len(gradient))


def _pair(size: Any) -> tuple[Any, ...]:
    return size if isinstance(size, tuple) else (size, size)


def _by_client(examples: Tensor, clients: int) -> Tensor:
    """(clients · batch, …) to (clients, batch, …)."""
    return examples.reshape(clients, -1, *examples.shape[1:])


class Each:
    """A layer without state that treats each example by itself: PyTorch's own, with its own gradient."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    @torch.enable_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        self.inputs = inputs.detach().requires_grad_()
        examples = self.inputs.flatten(0, 1)
        outputs = self.layer(examples.movedim(-1, 1)).movedim(1, -1) if inputs.dim() == 5 else self.layer(examples)
        self.outputs = _by_client(outputs, len(inputs))
        return self.outputs.detach()

    def backward(self, gradient: Tensor) -> Tensor:
        return torch.autograd.grad(self.outputs, self.inputs, gradient)[0]


class AdaptivePool(Each):
    """Adaptive pooling, which does nothing where its inputs have the size that it makes."""

    def __init__(self, layer: nn.AdaptiveAvgPool2d) -> None:
        super().__init__(layer)
        self.size = layer.output_size

    def forward(self, inputs: Tensor) -> Tensor:
        self.idle = tuple(inputs.shape[2:4]) == _pair(self.size)
        return inputs if self.idle else super().forward(inputs)

    def backward(self, gradient: Tensor) -> Tensor:
        return gradient if self.idle else super().backward(gradient)


def plain_layers(model: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """The layers of `model` with the names of their arrays up to the dot; None if one can't be stacked.

    A ReLU goes behind the maximum that follows it, where there are fewer values; that changes nothing.
    """
    layers = list(_layers("", model))
    if not all(_is_plain(layer) for _, layer in layers):
        return None
    for index in range(len(layers) - 1):
        if isinstance(layers[index][1], nn.ReLU) and isinstance(layers[index + 1][1], nn.MaxPool2d):
            layers[index : index + 2] = layers[index + 1], layers[index]
    return layers


def _layers(prefix: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if type(module) is nn.Sequential:
        for name, child in module.named_children():
            yield from _layers(f"{prefix}{name}.", child)
    else:
        yield prefix, module


def _is_plain(layer: nn.Module) -> bool:
    if type(layer) is nn.Conv2d:
        plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
        return plain and not isinstance(layer.padding, str)
    if type(layer) is nn.Flatten:
        return (layer.start_dim, layer.end_dim) == (1, -1)
    return type(layer) in (nn.Linear, nn.ReLU, *STATELESS)
