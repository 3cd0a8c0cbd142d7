"""`zoochat client`: asks a chatbot as the analytics platform does, and prints what comes."""
