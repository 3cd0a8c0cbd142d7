"""The OpenAI provider against a real model server with a very small model, for tests only."""
