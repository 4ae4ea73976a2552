"""The paper's experiments: what they run, what is read from the logs, what is drawn and said."""
