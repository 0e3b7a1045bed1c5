"""Whether asking for more margin in stress raises forced selling."""
