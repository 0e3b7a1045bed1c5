from .examples import EXAMPLES as EXAMPLES, EXIT_CODES as EXIT_CODES, add_usage as add_usage

__all__ = ["EXAMPLES", "EXIT_CODES", "add_usage"]
