"""The method, in PyTorch alone."""
from .calibration import Calibrator
from .convert import convert_patch_embed
from .geometry import PatchGeometry
from .patch_embed import MultiScalePatchEmbed, PatchKernel
from .resize import INTERPOLATIONS, pi_resize, resize_image, resize_matrix
from .resolution import choose_kernel, default_kernel_sizes, draw_patch_size, fit_kernel, sampling_range
from .tuning import MultiResolutionObjective, freeze_all_but_kernels, tuning_mode

__all__ = [
    'INTERPOLATIONS', 'Calibrator', 'MultiResolutionObjective', 'MultiScalePatchEmbed', 'PatchGeometry', 'PatchKernel',
    'choose_kernel', 'convert_patch_embed', 'default_kernel_sizes', 'draw_patch_size', 'fit_kernel',
    'freeze_all_but_kernels', 'pi_resize', 'resize_image', 'resize_matrix', 'sampling_range', 'tuning_mode'
]
