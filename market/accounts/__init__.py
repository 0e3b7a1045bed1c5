"""Accounts: books and account files."""
