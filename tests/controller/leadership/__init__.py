"""The BBS adapter."""
