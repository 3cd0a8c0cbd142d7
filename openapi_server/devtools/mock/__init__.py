"""`zoochat mock`: a chatbot with scripted answers, for people who integrate the platform contract."""
