"""Promotion, rollback and review of models."""
