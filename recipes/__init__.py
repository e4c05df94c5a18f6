"""Recipes: flat scripts, each a real job end to end."""
