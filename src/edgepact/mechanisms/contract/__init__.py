"""Contracts: one menu for all types, each of which likes its own item best."""
