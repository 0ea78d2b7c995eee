"""The MSPE layer in the place of a convolution, for hosts whose convolution sits beside other weights."""
from __future__ import annotations

import copy

from torch import Tensor, nn

from ..layers.patch_embed import MultiScalePatchEmbed


class ConvPatchEmbed(MultiScalePatchEmbed):
    """The MSPE layer with the pretrained convolution's ``weight`` and ``bias`` as parameters of its own.

    The module around it calls it as it called the convolution, and adds the class token, the position table or a norm.
    """

    weight: Tensor
    bias: Tensor | None
    _shell: nn.Conv2d

    def adopt(self, conv: nn.Conv2d) -> None:
        self.weight, self.bias = conv.weight, conv.bias
        shell = copy.copy(conv)
        shell._parameters = {}
        vars(self)['_shell'] = shell    # no submodule: names of parameters stay the host's

    @property
    def base(self) -> nn.Conv2d:
        conv = copy.copy(self._shell)
        vars(conv)['_parameters'] = dict(weight=self.weight, bias=self.bias)
        return conv
