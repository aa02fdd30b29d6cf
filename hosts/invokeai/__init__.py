from .cfglab_schedule import CfglabScheduleInvocation

__all__ = ["CfglabScheduleInvocation"]
