"""What can be set, where it comes from, and what each model and engine gets of it."""
