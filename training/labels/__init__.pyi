from .account_panel import (
    AccountPanel as AccountPanel,
    PanelTimes as PanelTimes,
    hashed_order as hashed_order,
    offsets as offsets,
    ranges as ranges,
    take_rows as take_rows,
    value_panel as value_panel,
)
from .book_intervals import (
    BookIntervals as BookIntervals,
    account_keys as account_keys,
    from_book as from_book,
    from_history as from_history,
    from_sampled_accounts as from_sampled_accounts,
)
from .dataset import (
    Dataset as Dataset,
    DatasetOptions as DatasetOptions,
    build_dataset as build_dataset,
)
from .market_path import LabelMarket as LabelMarket
from .splits import (
    Block as Block,
    default_boundaries as default_boundaries,
    held_out_window as held_out_window,
    purged_split as purged_split,
    time_ordered_tail as time_ordered_tail,
)

__all__ = [
    "AccountPanel",
    "Block",
    "BookIntervals",
    "Dataset",
    "DatasetOptions",
    "LabelMarket",
    "PanelTimes",
    "account_keys",
    "build_dataset",
    "default_boundaries",
    "from_book",
    "from_history",
    "from_sampled_accounts",
    "hashed_order",
    "held_out_window",
    "offsets",
    "purged_split",
    "ranges",
    "take_rows",
    "time_ordered_tail",
    "value_panel",
]
