"""What broke other servers, sent to this one: each test names who was broken by it and how."""
