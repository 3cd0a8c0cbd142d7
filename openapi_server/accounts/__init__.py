"""Who people are: their passwords, their tokens, and what they do with both."""
