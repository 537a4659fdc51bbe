"""Auctions of several items, learnt: menus, tariffs, and RegretNet beside them."""
