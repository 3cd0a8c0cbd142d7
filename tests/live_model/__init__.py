"""The OpenAI provider against a real server with a real, very small model: a test peer, never a voice for visitors."""
