"""Results for people: tables and progress lines."""
