from .call_listing import CallListing as CallListing
from .command_posts import CommandPosts as CommandPosts
from .control_listing import ControlListing as ControlListing
from .instruction_listing import InstructionListing as InstructionListing
from .stored_rows import RowQuery as RowQuery

__all__ = [
    "CallListing",
    "CommandPosts",
    "ControlListing",
    "InstructionListing",
    "RowQuery",
]
