"""Storage of sessions, turns, accounts, credits, documents and the audit trail."""
