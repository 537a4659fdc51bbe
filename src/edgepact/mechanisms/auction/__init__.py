"""Auctions: bids come in, a rule names the winners and what they are paid."""
