from .chain_points import ChainPoints as ChainPoints
from .repair import Repair as Repair, repair_slices as repair_slices
from .slice_fit import SliceFit as SliceFit, SlicePoints as SlicePoints, fit_slice as fit_slice
from .surface import VolSurface as VolSurface
from .svi import total_variance as total_variance

__all__ = [
    "ChainPoints",
    "Repair",
    "SliceFit",
    "SlicePoints",
    "VolSurface",
    "fit_slice",
    "repair_slices",
    "total_variance",
]
