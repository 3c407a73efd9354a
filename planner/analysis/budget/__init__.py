"""Offers, deadlines and dollars."""
