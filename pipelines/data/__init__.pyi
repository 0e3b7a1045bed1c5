from .accounts import (
    label_market as label_market,
    read_dataset as read_dataset,
    read_intervals as read_intervals,
    sample_book as sample_book,
)
from .data_quality import check_data as check_data, quality_tables as quality_tables
from .decision_dataset import recorded_dataset as recorded_dataset
from .loaders import (
    Market as Market,
    describe as describe,
    describe_rules as describe_rules,
    read_history as read_history,
    read_label_rules as read_label_rules,
    read_market as read_market,
    read_rule_history as read_rule_history,
    read_rules as read_rules,
    sample_accounts as sample_accounts,
    simulate_trajectories as simulate_trajectories,
    simulated_market as simulated_market,
)
from .provenance import (
    git_commit as git_commit,
    library_versions as library_versions,
    source_sha256 as source_sha256,
    user_name as user_name,
)

__all__ = [
    "Market",
    "check_data",
    "describe",
    "describe_rules",
    "git_commit",
    "label_market",
    "library_versions",
    "quality_tables",
    "read_dataset",
    "read_history",
    "read_intervals",
    "read_label_rules",
    "read_market",
    "read_rule_history",
    "read_rules",
    "recorded_dataset",
    "sample_accounts",
    "sample_book",
    "simulate_trajectories",
    "simulated_market",
    "source_sha256",
    "user_name",
]
