"""Plans GPU layouts of LLM training and RL runs: fits memory, proves the best throughput, explains itself."""
