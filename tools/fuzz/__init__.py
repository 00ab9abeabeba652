# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Inputs that people bring, changed at random: lmx reads them, or names in one message what is wrong."""
