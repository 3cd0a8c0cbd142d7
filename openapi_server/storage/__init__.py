"""Where sessions, turns, accounts and documents are kept."""
