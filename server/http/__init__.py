"""What lies around every route, whichever dialect it speaks."""
