"""What no visitor may be told, and what nobody needs to keep: messages judged, replies held back, personal data masked."""
