from .call_listing import CallListing as CallListing, CallQuery as CallQuery
from .command_posts import CommandPosts as CommandPosts
from .control_listing import ControlListing as ControlListing
from .instruction_listing import (
    InstructionListing as InstructionListing,
    InstructionQuery as InstructionQuery,
)

__all__ = [
    "CallListing",
    "CallQuery",
    "CommandPosts",
    "ControlListing",
    "InstructionListing",
    "InstructionQuery",
]
