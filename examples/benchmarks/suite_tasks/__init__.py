"""What `suite.py` is made of.

`rows` says what is compared and what is aimed at; `workers` starts one process per implementation and asks each in
turn; `guard` waits while others use the machine; `report` writes the table. Every other module is one task: a function
per implementation, which sets up outside the clock and returns what makes one timed repeat.
"""
