"""Sending messages on to where others want them."""
