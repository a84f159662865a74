"""The paper's Evaluator."""
