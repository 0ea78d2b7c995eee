"""The MSPE layer in the place of a convolution, for hosts whose convolution sits beside other weights."""
from __future__ import annotations

import copy

from torch import nn

from ..layers.patch_embed import MultiScalePatchEmbed


class ConvPatchEmbed(MultiScalePatchEmbed):
    """The MSPE layer with the pretrained convolution's ``weight`` and ``bias`` as parameters of its own.

    The module around it calls it as it called the convolution, and adds the class token, the position table or a norm.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    _shell: nn.Conv2d

    def adopt(self, conv: nn.Conv2d) -> None:
        self.weight, self.bias = conv.weight, conv.bias
        shell = copy.copy(conv)
        shell._parameters = dict(weight=None, bias=None)
        self.__dict__['_shell'] = shell    # no submodule: its parameters are those of the layer

    @property
    def base(self) -> nn.Conv2d:
        conv = copy.copy(self._shell)
        conv._parameters = dict(weight=self.weight, bias=self.bias)
        return conv
