"""Texts of the commands: help on one screen, and everything in Chinese."""
