"""The explanation methods: the table of them, their parameters, and the functions behind them."""
