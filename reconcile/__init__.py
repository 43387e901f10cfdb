"""One pass of reconciliation: values, rules, and steps through ports."""
