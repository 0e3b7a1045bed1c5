"""What the pages show: functions that make plain values and charts for the templates."""
