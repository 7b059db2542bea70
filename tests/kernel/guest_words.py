"""What the guest of test_fallbacks.py and the test itself must agree on."""

TRUE = "/usr/bin/true"
HEX = "0123456789abcdef" * 4
TIMES = 12
