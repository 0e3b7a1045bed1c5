from .replay import LifeCycleHistory as LifeCycleHistory, replay_life_cycle as replay_life_cycle
from .states import State as State

__all__ = ["LifeCycleHistory", "State", "replay_life_cycle"]
