from .config import DEFAULT_FILE as DEFAULT_FILE, Config as Config, load_config as load_config
from .job_sections import NotifyConfig as NotifyConfig
from .sections import RulesConfig as RulesConfig, SimulateConfig as SimulateConfig

__all__ = ["DEFAULT_FILE", "Config", "NotifyConfig", "RulesConfig", "SimulateConfig", "load_config"]
