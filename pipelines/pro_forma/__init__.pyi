from .comparison import Regime as Regime, compare_regimes as compare_regimes
from .report import pro_forma_report as pro_forma_report

__all__ = ["Regime", "compare_regimes", "pro_forma_report"]
