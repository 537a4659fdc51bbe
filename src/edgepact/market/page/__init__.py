"""The live page: what a market does, shown to its operator while it runs.

`history` remembers rounds within a limit, `watch` gathers what happens and tells those who look,
`control` does what they ask for, and `routes` serves it all beside the files of the page itself.
"""
