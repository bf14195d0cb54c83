"""Networks: those the presets name, and the user's own."""
