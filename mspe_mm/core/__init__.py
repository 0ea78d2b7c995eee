"""The parts of the method in plain PyTorch, collected for users. Modules of the package do not import this one."""
from ..calibration.solver import Calibrator
from ..layers.geometry import PatchGeometry
from ..layers.patch_embed import MultiScalePatchEmbed, PatchKernel
from ..layers.resize import INTERPOLATIONS, pi_resize, resize_image, resize_matrix
from ..layers.resolution import choose_kernel, default_kernel_sizes, draw_patch_size, fit_kernel, sampling_range
from ..models.adapter import load_adapter, save_adapter
from ..models.convert import convert_patch_embed
from ..tuning.freezing import freeze_all_but_kernels, tuning_mode
from ..tuning.full_training import MultiResolutionTraining
from ..tuning.kernel_objective import MultiResolutionObjective
from ..tuning.token_grid_objective import TokenGridObjective

__all__ = [
    'INTERPOLATIONS', 'Calibrator', 'MultiResolutionObjective', 'MultiResolutionTraining', 'MultiScalePatchEmbed',
    'PatchGeometry', 'PatchKernel', 'TokenGridObjective', 'choose_kernel', 'convert_patch_embed', 'default_kernel_sizes',
    'draw_patch_size', 'fit_kernel', 'freeze_all_but_kernels', 'load_adapter', 'pi_resize', 'resize_image', 'resize_matrix',
    'sampling_range', 'save_adapter', 'tuning_mode'
]
