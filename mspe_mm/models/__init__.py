"""Giving a built model the MSPE layer, finding it there, and the files that keep its weights."""
