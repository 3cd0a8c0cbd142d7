"""HTTP: middleware, authentication and authorization, and the answers for errors."""
