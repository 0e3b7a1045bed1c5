from .charts import review_charts as review_charts
from .review_note import fold_note as fold_note, training_note as training_note
from .review_tables import csv_bytes as csv_bytes
from .run_record import RunRecord as RunRecord

__all__ = ["RunRecord", "csv_bytes", "fold_note", "review_charts", "training_note"]
