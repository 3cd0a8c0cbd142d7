"""The formats of requests and answers: pure functions between values and JSON or frames, one file a contract."""
