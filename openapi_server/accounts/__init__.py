"""Accounts: login, passwords and tokens."""
