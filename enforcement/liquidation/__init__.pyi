from .plan import Plan as Plan, Progress as Progress, plan_step as plan_step
from .resources import DefaultResources as DefaultResources, Settlement as Settlement

__all__ = ["DefaultResources", "Plan", "Progress", "Settlement", "plan_step"]
