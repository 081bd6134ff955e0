"""Contracts of older programs, translated to and from the door that every dialect shares."""
