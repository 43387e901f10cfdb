"""The part of Loggregator's API with which components hand over envelopes, with its generated code."""
