"""Equal models of plain layers, one of each client, in training: `layers` put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from motley.training.layers import AdaptivePool, Conv2d, Descent, Each, Flatten, Layer, Linear, MaxPool2d, Rectify

_MINUS_ONE = torch.tensor(-1.0)

NamedLayers = Sequence[tuple[str, nn.Module]]


class LayeredGroup:
    """A `grouped.Group` of models that `layers.plain_layers` took apart."""

    def __init__(
        self,
        layers: NamedLayers,
        inputs: Tensor,
        weights: Mapping[str, Tensor],
        momentum: float,
        pull: Tensor | None,
    ) -> None:
        self._descents = {name: Descent(_channels_last(each, 2), momentum, pull) for name, each in weights.items()}
        lowest = next(index for index, (_, layer) in enumerate(layers) if isinstance(layer, nn.Linear | nn.Conv2d))
        stacked = [self._stacked(*named, index == lowest) for index, named in enumerate(layers)]
        self._layers, self._below = stacked[lowest:], stacked[:lowest]
        self._inputs = self._prepared(inputs)

    def _stacked(self, prefix: str, layer: nn.Module, lowest: bool) -> Layer:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            product = Linear(self._descents[f"{prefix}weight"], self._descents.get(f"{prefix}bias"), lowest)
            return Conv2d(layer, product) if isinstance(layer, nn.Conv2d) else product
        if isinstance(layer, nn.ReLU):
            return Rectify()
        if isinstance(layer, nn.Flatten):
            return Flatten()
        if isinstance(layer, nn.MaxPool2d):
            return MaxPool2d(layer)
        return AdaptivePool(layer) if isinstance(layer, nn.AdaptiveAvgPool2d) else Each(layer)

    def _prepared(self, inputs: Tensor) -> Tensor:
        """What the lowest layer with weights takes, for every example: all that is before is done once."""
        at = _channels_last(inputs, 1)[None]
        for layer in self._below:
            at = layer.forward(at)
        lowest = self._layers[0]
        return lowest.patches(at[0]) if isinstance(lowest, Conv2d) else at[0].contiguous()

    @torch.no_grad()
    def step(self, rows: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
        at = self._inputs.index_select(0, rows.flatten()).view(*rows.shape, *self._inputs.shape[1:])
        for layer in self._layers:
            at = layer.forward(at)
        scores = at
        at = torch.softmax(scores.transpose(1, 2).contiguous(), 1)  # over few classes, this way round is the fast one
        at.scatter_add_(1, labels[:, None], _MINUS_ONE.expand(len(labels), 1, labels.shape[1])).mul_(scale[:, None])
        at = at.transpose(1, 2).contiguous()
        for layer in reversed(self._layers):
            at = layer.backward(at)
        return scores

    def weights(self) -> dict[str, Tensor]:
        return {name: _channels_first(descent.now) for name, descent in self._descents.items()}


def _channels_last(array: Tensor, channel: int) -> Tensor:
    """Pictures and the weights of a convolution with the channels last; other arrays as they are."""
    return array.movedim(channel, -1).contiguous() if array.dim() == channel + 3 else array


def _channels_first(array: Tensor) -> Tensor:
    return array.movedim(-1, 2).contiguous() if array.dim() == 5 else array
