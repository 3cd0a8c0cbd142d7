"""Moderation: rules for messages and replies, masking of personal data, guidance for models."""
