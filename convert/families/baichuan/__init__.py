"""Baichuan and Baichuan2."""
