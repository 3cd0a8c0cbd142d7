"""What no visitor is told, and what nobody needs to keep: messages judged, replies held back, personal data masked."""
