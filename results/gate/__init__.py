"""The regression gate: policy, verdict, reports."""
