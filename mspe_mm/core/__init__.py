"""The method, in PyTorch alone."""
from ..calibration.solver import Calibrator
from ..layers.geometry import PatchGeometry
from ..layers.patch_embed import MultiScalePatchEmbed, PatchKernel
from ..layers.resize import INTERPOLATIONS, pi_resize, resize_image, resize_matrix
from ..layers.resolution import choose_kernel, default_kernel_sizes, draw_patch_size, fit_kernel, sampling_range
from ..models.convert import convert_patch_embed
from ..tuning.freezing import freeze_all_but_kernels, tuning_mode
from ..tuning.kernel_objective import MultiResolutionObjective

__all__ = [
    'INTERPOLATIONS', 'Calibrator', 'MultiResolutionObjective', 'MultiScalePatchEmbed', 'PatchGeometry', 'PatchKernel',
    'choose_kernel', 'convert_patch_embed', 'default_kernel_sizes', 'draw_patch_size', 'fit_kernel',
    'freeze_all_but_kernels', 'pi_resize', 'resize_image', 'resize_matrix', 'sampling_range', 'tuning_mode'
]
