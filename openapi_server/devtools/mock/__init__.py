"""`zoochat mock`: a stand-in chatbot with scripted steps, for people who integrate the platform side."""
